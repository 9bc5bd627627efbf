"""The parts of one climb of the deep rung: which are still to be done, which one a thread is at, how each ended.

Each part needs a permit of its breaker. Whoever takes the permit out of ``_permits`` ends the part and says how it went:
the thread that comes back from it, or the event loop that gives it up. Taking it out is one step, so each part ends
once, without a lock, and a thread that comes back too late changes nothing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from core.types import Reason, Stopped
from server.overload.breaker import Outcome
from server.rungs.budget import FAIR_S
from server.telemetry.rate_limited_log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from server.overload.breaker import Breaker
    from server.rungs.deadline import Deadline
    from server.rungs.work_pool import WorkPool

T = TypeVar("T")

MOST_STUCK = 2
"""Threads that one part may be stuck in before it is given no more: half of the replacements, the rest is for others."""
_limited_log = RateLimitedLog(logging.getLogger(__name__))


class PartError(Exception):
    """A part gave nothing, and its breaker knows."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class AbandonedError(Exception):
    """The event loop has given up what this thread is at, or the time is over."""


class Busy(NamedTuple):
    """A part that a thread is at.

    Attributes:
        ends_s: when it overruns, on the deadline's clock.

        fair: whether its climb had enough time that to overrun is to fail.
    """

    part: str
    ends_s: float
    fair: bool


class Parts:
    """The parts of one climb.

    Attributes:
        begun: whether any of them was.
    """

    __slots__ = ("_breakers", "_busy", "_deadline", "_fair", "_permits", "_work", "begun")

    def __init__(self, breakers: Mapping[str, Breaker], work: WorkPool, deadline: Deadline) -> None:
        self._breakers, self._work, self._deadline = breakers, work, deadline
        self._permits: dict[str, int] = {}
        self._busy: Busy | None = None
        # Judged here, not where a part begins: behind a part that hangs the next ones begin late, and count all the same.
        self._fair = deadline.left_s() >= FAIR_S
        self.begun = False

    def add(self, part: str) -> bool:
        """Let a part be done; False when its breaker is open."""
        permit = self._breakers[part].permit()
        if permit:
            self._permits[part] = permit
        return permit > 0

    def left(self) -> list[str]:
        """Those that have not ended."""
        return list(self._permits)

    def __contains__(self, part: str) -> bool:
        """Whether a part has not ended."""
        return part in self._permits

    def busy(self) -> Busy | None:
        """What a thread is at; None while the job waits for one, and between two parts."""
        busy = self._busy
        return busy if busy is not None and busy.part in self._permits else None

    def do(self, part: str, call: Callable[[], T], longest_s: float) -> T:
        """On a thread: one part, from its begin to its breaker.

        Args:
            part: one that was added.
            call: does it.
            longest_s: what it may take, seconds.

        Raises:
            PartError: it failed, or too many threads are stuck in it already.
            AbandonedError: nobody waits for it any more.
        """
        deadline = self._deadline
        begun_s = deadline.now_s()
        if part not in self._permits or begun_s >= deadline.end_s:
            raise AbandonedError
        self.begun, reason = True, Reason.LATE
        if self._work.stuck_in[part] < MOST_STUCK:
            self._busy = Busy(part, begun_s + longest_s, self._fair)
            try:
                found = call()
            except PartError as error:
                reason = error.reason
            except Stopped:
                pass
            except BaseException:  # noqa: BLE001 - whatever a plug-in raises, the others answer
                _limited_log.exception(f"{part} failed")
                reason = Reason.FAILED
            else:
                if not self.end(part, Outcome.SUCCESS, deadline.now_s() - begun_s):
                    raise AbandonedError
                return found
        if not self.end(part, Outcome.FAILURE, deadline.now_s() - begun_s):
            raise AbandonedError
        raise PartError(reason)

    def give_up(self, busy: Busy) -> bool:
        """On the event loop: end a part that overruns; False when its thread was quicker."""
        return self.end(busy.part, Outcome.FAILURE if busy.fair else Outcome.NEUTRAL)

    def end(self, part: str, outcome: Outcome, seconds: float = 0.0) -> bool:
        """Tell the breaker of a part how it ended; False when it had ended before."""
        permit = self._permits.pop(part, None)  # one step, also for two threads at once
        if permit is None:
            return False
        self._breakers[part].ended(permit, outcome, seconds)
        return True
