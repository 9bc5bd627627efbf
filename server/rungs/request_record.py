"""What is noted of one request on its way: budget, reasons, times."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.types import Reason, Tier

if TYPE_CHECKING:
    from server.rungs.deadline import Deadline


_ABOVE = {tier: tuple(rung for rung in Tier if rung > tier) for tier in Tier}


class RequestRecord:
    """The record of one request while it climbs: budget, reasons, times.

    Attributes:
        deadline: when the answer must be ready.

        ceiling: the highest rung that this kind of call may reach.

        cap: the highest rung that this one call may try; above it, ``why`` is the reason.

        slack_s: what the event loop may be late when the rungs below are to answer after all (``server.rungs.budget``).

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

    def cap_reason(self, tier: Tier) -> Reason | None:
        """Why this call must not try a rung; None when it may."""
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
        return {
            rung: Reason.NOT_ASKED if rung > self.ceiling else self.reasons.get(rung, self.why) for rung in _ABOVE[tier]
        }
