"""How the time of a request is divided: what is kept back for the rungs below, and what each part may take.

``Deadline`` is the moment when an answer must be ready. Everything that is derived from it is decided here; only the
user store has its own two settings (``store_share``, ``store_timeout_ms``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from server.rungs.deadline import Deadline
    from server.settings import Settings

LONGEST_RESERVE_S = 0.05
"""Most that the reserve's share may grow to: with a deadline of seconds, selecting takes no longer than with 100 ms."""
LAGS_OF_SLACK = 2.0
"""The event loop is late by its average lag when it is to answer from below after all; twice that covers most calls."""
FAIR_S = 0.02
"""A part of a climb that began with less time than this and was late has not failed. Tower, generators and model take a few
milliseconds together, so one that needs more than this is slow by itself; short deadlines must not open its breaker."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The division of a request's time; the same for every request of a process.

    Attributes:
        least_reserve_s: kept back from the deep rung at least, seconds.

        reserve_share: the same as a share of the time left; the larger of both counts.

        least_for_cf_s: with less time left than this, seconds, no rung above popularity is started.

        part_share: share of the deep rung's time left that its user tower, and each slow generator, may take.

        longest_run_s: longest run of the model, seconds; one that takes longer hangs.
    """

    least_reserve_s: float
    reserve_share: float
    least_for_cf_s: float
    part_share: float
    longest_run_s: float

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As the deployment chose."""
        return cls(
            least_reserve_s=settings.reserve_ms / 1000,
            reserve_share=settings.reserve_share,
            least_for_cf_s=settings.floor_ms / 1000,
            part_share=settings.retrieve_share,
            longest_run_s=settings.score_timeout_ms / 1000,
        )

    def reserve_s(self, left_s: float) -> float:
        """Seconds kept back from the deep rung: to select from the pool in hand, to encode, to be sent."""
        return max(self.least_reserve_s, min(max(left_s, 0.0) * self.reserve_share, LONGEST_RESERVE_S))

    def above_reserve_s(self, left_s: float) -> float:
        """Seconds that waiting and the deep rung may take together; negative where there is no time for the reserve.

        The event loop's lag is not taken off: admission counts it as a wait of its own.
        """
        return left_s - self.reserve_s(left_s)

    def deep_deadline(self, deadline: Deadline, slack_s: float) -> Deadline:
        """When the deep rung must be given up: the reserve and the slack before the answer must be ready."""
        return deadline.sooner(self.reserve_s(deadline.left_s()) + slack_s)

    def part_s(self, deadline: Deadline) -> float:
        """Longest time that the user tower or a slow generator may take that begins now, seconds."""
        return deadline.share(self.part_share)

    def run_s(self, deadline: Deadline) -> float:
        """Longest time that a run of the model may take that begins now, seconds; any where there is no deadline."""
        return min(deadline.left_s(), self.longest_run_s) if math.isfinite(deadline.end_s) else math.inf


def slack_s(lag_s: float) -> float:
    """Seconds that the event loop may be late when it is to answer from below, at an average lag."""
    return LAGS_OF_SLACK * lag_s
