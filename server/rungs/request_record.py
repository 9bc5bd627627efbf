"""What is noted of one request on its way: budget, reasons, times."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.types import LADDER, Reason, Tier

if TYPE_CHECKING:
    from core.types import Pool, Scores
    from server.rungs.deadline import Deadline

LOWERED = frozenset({Reason.OVERLOADED, Reason.NO_TIME})
"""Why admission keeps a call below a rung."""


class RequestRecord:
    """The record of one request while it climbs: budget, reasons, times.

    Attributes:
        deadline: when the answer must be ready.

        ceiling: the highest rung that this kind of call may reach.

        cap: the highest rung that this one call may try; above it, ``why`` is the reason.

        ladder: the rungs of the bundle that answers, from the lowest to the best.

        alone: whether the call met no other: what is not urgent may be done behind it.

        slack_s: what the event loop may be late when the rungs below are to answer after all (``server.rungs.budget``).

        missing: why nothing is known of the user, where the user store failed.

        dropped: what the answer was made without, and why.

        scored: the pool of the deep rung and the scores of its first rows, where it answered.

        stage_ms: wall time of the stages that have ended, milliseconds.

        version: of the bundle that is to answer; empty until it is chosen.
    """

    __slots__ = (
        "_mark_s", "alone", "cap", "ceiling", "deadline", "dropped", "ladder", "missing", "reasons", "scored", "slack_s",
        "stage_ms", "version", "why",
    )  # fmt: skip

    def __init__(
        self,
        deadline: Deadline,
        ceiling: Tier = Tier.DEEP,
        cap: Tier = Tier.DEEP,
        why: Reason = Reason.NOT_ASKED,
        *,
        slack_s: float = 0.0,
        alone: bool = False,
    ) -> None:
        self.deadline = deadline
        self.ceiling = ceiling
        self.cap = min(cap, ceiling)
        self.why = why
        self.ladder: tuple[Tier, ...] = LADDER
        self.alone = alone
        self.slack_s = slack_s
        self.missing: Reason | None = None
        self.scored: tuple[Pool, Scores] | None = None
        self.reasons: dict[Tier, Reason] = {}
        self.dropped: dict[str, Reason] = {}
        self.stage_ms: dict[str, float] = {}
        self.version = ""
        self._mark_s = deadline.now_s()

    def cap_reason(self, tier: Tier) -> Reason | None:
        """Why this call must not try a rung; None when it may."""
        rank = self.ladder.index
        if rank(tier) > rank(self.ceiling):
            return Reason.NOT_ASKED
        return self.why if rank(tier) > rank(self.cap) else None

    def enter(self, ladder: tuple[Tier, ...]) -> None:
        """Climb this ladder.

        A call for which there was no room on the deep rung may try everything below, in whatever order that stands.
        """
        self.ladder = ladder
        if self.cap is Tier.PRECOMPUTED and self.why in LOWERED:
            self.cap = ladder[-2]

    def lower(self, tier: Tier, why: Reason) -> None:
        """Let the call try no rung above this one, where it might have; ``why`` is the reason."""
        if self.ladder.index(self.cap) > self.ladder.index(tier):
            self.cap, self.why = tier, why

    def ended(self, stage: str, at_s: float | None = None) -> None:
        """Note the time since the last stage ended, now or at a moment of the deadline's clock."""
        now_s = self.deadline.now_s() if at_s is None else at_s
        self.stage_ms[stage] = (now_s - self._mark_s) * 1000
        self._mark_s = now_s

    def skipped(self, tier: Tier) -> dict[Tier, Reason]:
        """One reason for each rung above ``tier``."""
        rank = self.ladder.index
        highest = rank(self.ceiling)
        return {
            rung: Reason.NOT_ASKED if place > highest else self.reasons.get(rung, self.why)
            for place, rung in enumerate(self.ladder)
            if place > rank(tier)
        }
