"""How far a request has climbed, how many rows still fit, and how to stop what overruns."""

from __future__ import annotations

import threading
from time import perf_counter
from typing import TYPE_CHECKING

from core.types import Reason, Tier

if TYPE_CHECKING:
    from collections.abc import Callable

    from server.deadline import Deadline

_SMOOTHING = 0.1
_FORGET = 0.98
_START_ROW_S = 5e-6


class CostModel:
    """What scoring costs: a fixed part and a part per row, learnt from the runs themselves.

    The part per row is an exponentially weighted mean. A run that was stopped counts twice its time,
    since how long it would have taken is not known; so a model that hangs is asked for fewer rows
    until it is not asked at all, and ``refused`` forgets a little each time, so that one that has
    healed is tried again after a while. That makes the cost model the circuit breaker of the rung.
    """

    def __init__(self, fixed_s: float = 0.0, row_s: float = _START_ROW_S) -> None:
        """Start from an estimate, seconds; warm-up replaces it."""
        self.fixed_s = fixed_s
        self.row_s = row_s
        self._lock = threading.Lock()

    def rows_within(self, seconds: float) -> int:
        """Rows that can be scored in that time; 0 when not even the fixed part fits."""
        left = seconds - self.fixed_s
        if left <= 0:
            return 0
        return int(min(left / max(self.row_s, 1e-9), 2**31))

    def observe(self, rows: int, seconds: float, *, stopped: bool = False) -> None:
        """Learn from a run over ``rows`` (>= 1) that took ``seconds``."""
        took = max(seconds * (2 if stopped else 1) - self.fixed_s, 0.0) / rows
        with self._lock:
            self.row_s = max(self.row_s, took) if stopped else self.row_s + _SMOOTHING * (took - self.row_s)

    def refused(self) -> None:
        """A run was not started because of this estimate."""
        with self._lock:
            self.row_s *= _FORGET

    def seed(self, small: tuple[int, float], large: tuple[int, float]) -> None:
        """Fit both parts to two runs (rows, seconds) of different sizes."""
        (few, few_s), (many, many_s) = small, large
        if many > few:
            self.row_s = max(many_s - few_s, 0.0) / (many - few) or few_s / few
            self.fixed_s = max(few_s - few * self.row_s, 0.0)


class Stop:
    """A stop signal (``core.types.StopSignal``): one thread stops, another runs."""

    __slots__ = ("_act", "_lock", "_stopped")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._act: Callable[[], None] | None = None
        self._stopped = False

    def stop(self) -> None:
        """Ask the run to end."""
        with self._lock:
            self._stopped = True
            act = self._act
        if act is not None:
            act()

    def on_stop(self, act: Callable[[], None]) -> None:
        """What to call when asked to end; at once if that was already."""
        with self._lock:
            self._act = act
            stopped = self._stopped
        if stopped:
            act()


class Ascent:
    """The record of one request while it climbs: budget, reasons, times.

    Attributes:
        deadline: when the answer must be ready.

        ceiling: the highest rung that this kind of call may reach.

        dropped: what the answer was made without, and why.

        stage_ms: wall time of the stages that have ended, milliseconds.
    """

    __slots__ = ("_mark_s", "ceiling", "deadline", "dropped", "missing", "reasons", "stage_ms")

    def __init__(self, deadline: Deadline, ceiling: Tier) -> None:
        self.deadline = deadline
        self.ceiling = ceiling
        self.missing: Reason | None = None
        self.reasons: dict[Tier, Reason] = {Tier.PRECOMPUTED: Reason.NOT_CONFIGURED}
        self.dropped: dict[str, Reason] = {}
        self.stage_ms: dict[str, float] = {}
        self._mark_s = perf_counter()

    def ended(self, stage: str) -> None:
        """Note the time since the last stage ended."""
        now = perf_counter()
        self.stage_ms[stage] = (now - self._mark_s) * 1000
        self._mark_s = now

    def skipped(self, tier: Tier) -> dict[Tier, Reason]:
        """One reason for each rung above ``tier``."""
        above = (rung for rung in Tier if rung > tier)
        return {rung: Reason.NOT_ASKED if rung > self.ceiling else self.reasons[rung] for rung in above}
