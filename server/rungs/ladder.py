"""How far a request has climbed, how many rows still fit, and how to stop what overruns."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from core.types import Reason, Tier

if TYPE_CHECKING:
    from collections.abc import Callable

    from server.rungs.deadline import Deadline

_UP, _DOWN = 0.3, 0.05
_FORGET = 0.98
_LEAST, _MOST = 0.25, 1000.0
_START_ROW_S = 5e-6


class CostModel:
    """What scoring costs: a fixed part, a part per row, and how much slower than that it is just now.

    Warm-up measures both parts; every run corrects the factor, up faster than down, so that it stays near the slow
    end of what happens. A run that was stopped says how slow it was at least. A factor under which nothing may run
    would never be corrected again, so each refusal forgets a little of it.
    """

    def __init__(self, fixed_s: float = 0.0, row_s: float = _START_ROW_S) -> None:
        """Start from an estimate, seconds; warm-up replaces it."""
        self.fixed_s = fixed_s
        self.row_s = row_s
        self.slowdown = 1.0
        self._lock = threading.Lock()

    def expected_s(self, rows: int) -> float:
        """Seconds that scoring so many rows takes just now."""
        return (self.fixed_s + rows * self.row_s) * self.slowdown

    def rows_within(self, seconds: float) -> int:
        """Rows that can be scored in that time; 0 when not even the fixed part fits."""
        left = seconds / self.slowdown - self.fixed_s
        if left <= 0:
            return 0
        return int(min(left / max(self.row_s, 1e-9), 2**31))

    def observe(self, rows: int, seconds: float, *, stopped: bool = False) -> None:
        """Learn from a run over ``rows`` (>= 1) that took ``seconds``, or would have taken longer had it not been stopped."""
        with self._lock:
            seen = min(max(seconds / max(self.fixed_s + rows * self.row_s, 1e-9), _LEAST), _MOST)
            if stopped:
                self.slowdown = max(self.slowdown, seen)
            else:
                self.slowdown += (_UP if seen > self.slowdown else _DOWN) * (seen - self.slowdown)

    def refused(self) -> None:
        """A run was not started because of this estimate."""
        with self._lock:
            self.slowdown = max(self.slowdown * _FORGET, min(self.slowdown, 1.0))

    def seed(self, small: tuple[int, float], large: tuple[int, float]) -> None:
        """Fit both parts to two runs (rows, seconds) of different sizes."""
        (few, few_s), (many, many_s) = small, large
        if many > few:
            self.row_s = max(many_s - few_s, 0.0) / (many - few)  # 0 where rows cost less than can be told
            self.fixed_s = max(few_s - few * self.row_s, 0.0)
            self.slowdown = 1.0


class Stop:
    """A stop signal (``core.types.StopSignal``): one thread stops, another runs."""

    __slots__ = ("_act", "_lock", "stopped")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._act: Callable[[], None] | None = None
        self.stopped = False

    def stop(self) -> None:
        """Ask the run to end."""
        with self._lock:
            self.stopped = True
            act = self._act
        if act is not None:
            act()

    def on_stop(self, act: Callable[[], None]) -> None:
        """What to call when asked to end; at once if that was already."""
        with self._lock:
            self._act = act
            stopped = self.stopped
        if stopped:
            act()


class Ascent:
    """The record of one request while it climbs: budget, reasons, times.

    Attributes:
        deadline: when the answer must be ready.

        ceiling: the highest rung that this kind of call may reach.

        cap: the highest rung that this one call may try; above it, ``why`` is the reason.

        slack_s: what the event loop may be late when the rungs below are to answer after all.

        missing: why nothing is known of the user, where the user store failed.

        dropped: what the answer was made without, and why.

        stage_ms: wall time of the stages that have ended, milliseconds.
    """

    __slots__ = ("_mark_s", "cap", "ceiling", "deadline", "dropped", "missing", "reasons", "slack_s", "stage_ms", "why")

    def __init__(
        self,
        deadline: Deadline,
        ceiling: Tier = Tier.DEEP,
        cap: Tier = Tier.DEEP,
        why: Reason = Reason.NOT_ASKED,
        *,
        slack_s: float = 0.0,
    ) -> None:
        self.deadline = deadline
        self.ceiling = ceiling
        self.cap = min(cap, ceiling)
        self.why = why
        self.slack_s = slack_s
        self.missing: Reason | None = None
        self.reasons: dict[Tier, Reason] = {Tier.PRECOMPUTED: Reason.NOT_CONFIGURED}
        self.dropped: dict[str, Reason] = {}
        self.stage_ms: dict[str, float] = {}
        self._mark_s = deadline.now_s()

    def not_tried(self, tier: Tier) -> Reason | None:
        """Why this call does not even try a rung; None when it may."""
        if tier > self.ceiling:
            return Reason.NOT_ASKED
        return self.why if tier > self.cap else None

    def ended(self, stage: str, at_s: float | None = None) -> None:
        """Note the time since the last stage ended, now or at a moment of the deadline's clock."""
        now_s = self.deadline.now_s() if at_s is None else at_s
        self.stage_ms[stage] = (now_s - self._mark_s) * 1000
        self._mark_s = now_s

    def skipped(self, tier: Tier) -> dict[Tier, Reason]:
        """One reason for each rung above ``tier``."""
        above = [rung for rung in Tier if rung > tier]
        return {rung: Reason.NOT_ASKED if rung > self.ceiling else self.reasons.get(rung, self.why) for rung in above}
