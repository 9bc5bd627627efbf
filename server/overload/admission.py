"""How high a call may climb under the present load: decided before it is parsed, and without waiting.

Two waits decide, and both are compared with the time that the call has left. Calls that the event loop has not seen yet
wait for it: their delay is measured (``observe_delay``). Calls that were admitted to the deep rung wait for its threads: what
they will take there is known from what answers took that met nobody. A call may climb to the highest rung for which the
queue is short enough: the higher the rung and the less somebody waits for the answer, the shorter. So users' answers get
cheaper as the queue gets longer, and are in time. What can wait is shed once that lasts (``server.overload.shedding``).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from core.types import Reason, Tier
from server.overload.shedding import SHED_ABOVE, Criticality, Pressure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEEP_SHARE = {Criticality.USER: 0.6, Criticality.PREFETCH: 0.45, Criticality.BATCH: 0.3}
"""Share of the time that a call can spare for the deep rung which it may wait. The rest is for costs that vary. Prefetch and
batch leave room, three quarters and half as much, so that a flood of theirs takes nobody's DEEP answer before they are shed.
"""
DELAY_SHARE = 0.4
"""The same for the measured delay alone, for both rungs. It has passed already for the call that is admitted, and waits for
those behind it, which its answer will hold up. Chosen with ``python -m tests.server.overload.simulation``: at 0.7 times the
capacity of a machine that stalls now and then 0.25 lowers 1.2 % of the users' calls and 0.4 lowers 0.4 %; at five times the
capacity 0.6 leaves a third of the DEEP answers."""
LONGEST_QUEUE_S = 0.05
"""A call with more time to spare than this waits no longer all the same: the process is busy with any queue at all, and a
longer one, made by calls with long deadlines, would keep those with short ones from their answers."""
NEGLIGIBLE_S = 0.0005
"""A wait that is none: the event loop is never quite on time, and so short a wait is no reason to lower a call."""
_COSTS_S = {Tier.POPULARITY: 0.0005, Tier.CF: 0.0015, Tier.DEEP: 0.005}
_THREAD_S = 0.003
"""Before anything was measured; a server seeds both in warm-up."""
_UP, _DOWN = 0.01, 0.2
"""Costs follow a quicker answer at once and a slower one hardly: what is wanted is the CPU that an answer takes, and what
makes one of two alike slower is waiting for something. They are learnt from ``Recommend`` alone: ranking a few given items
is quicker by itself."""
_HIGHEST_COST_S = 0.02
"""Costs end here: a rung that seems to cost more than the usual deadline would be tried by nobody, and so never be found
to be quick again. Calls that overrun are given up and answered from below anyway."""
_DELAY_WEIGHT = 0.2
"""Of each sample of the queueing delay, which come every 5 ms: an average over about 25 ms, between one late turn of the
event loop, which passes by itself, and the 50 ms of a deadline, within which the queue must be seen."""
_LONGEST_DELAY_S = 0.05
"""Of a sample. A stall of a second is over when it is measured, and must not keep calls down for longer than one of 50 ms."""


class Permit:
    """Leave to climb up to ``cap``; given back once.

    Attributes:
        cap: the highest rung that the call may try.

        why: the reason for no higher one: too little time even if nobody waited, or too much to do.

        alone: it met nobody: the time that it takes is what an answer costs.
    """

    __slots__ = ("alone", "cap", "given_back", "since_s", "thread_s", "why")

    def __init__(
        self, cap: Tier, thread_s: float, since_s: float, *, alone: bool, why: Reason = Reason.OVERLOADED
    ) -> None:
        self.cap, self.thread_s, self.since_s, self.why = cap, thread_s, since_s, why
        self.alone, self.given_back = alone, False


class Admission:
    """Counts what is under way in one process; belongs to one event loop.

    Attributes:
        in_flight: calls under way that may reach the deep rung.

        delay_s: how long calls wait for the event loop now, measured; seconds.

        cost_s: how long an answer of each rung takes when nobody else is there, seconds.

        thread_s: the part of it that a DEEP answer keeps a thread of the deep rung busy.

        shed: calls refused so far, by criticality.
    """

    def __init__(self, threads: int = 1, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is under way.

        Args:
            threads: calls on the deep rung that are worked on at a time, >= 1.
            clock: monotonic, seconds.
        """
        self.in_flight = 0
        self.delay_s = 0.0
        self.shed = dict.fromkeys(Criticality, 0)
        self.cost_s = dict(_COSTS_S)
        self.thread_s = _THREAD_S
        self._threads = threads
        self._clock = clock
        self._pressure = Pressure(clock())
        self._lower = 0
        self._backlog_s = 0.0

    @property
    def pressure(self) -> float:
        """Share of the last half second or so in which there was no room on the deep rung, 0 to 1."""
        return self._pressure.at(self._clock())

    def admit(self, criticality: Criticality, left_s: float, ceiling: Tier) -> Permit | None:
        """How high a call may climb; None when it is shed, which a user's call never is.

        Args:
            criticality: who waits.
            left_s: the budget above the floor, seconds.
            ceiling: the highest rung that this kind of call may reach.
        """
        now_s, cost_s = self._clock(), self.cost_s
        delay_s = self.delay_s
        wait_s = delay_s + self._backlog_s / self._threads
        spare_s = left_s - cost_s[Tier.DEEP]
        deep_s = min(max(spare_s, 0.0), LONGEST_QUEUE_S)
        cf_s = min(max(left_s - cost_s[Tier.CF], 0.0), LONGEST_QUEUE_S)
        is_late = delay_s > DELAY_SHARE * deep_s + NEGLIGIBLE_S
        has_room = not is_late and wait_s <= DEEP_SHARE[Criticality.USER] * deep_s + NEGLIGIBLE_S
        if has_room or spare_s > 0:  # one that has no time for it anyway says nothing of the load
            self._pressure.observe(now_s, has_room=has_room)
        if self._pressure.at(now_s) > SHED_ABOVE[criticality]:
            self.shed[criticality] += 1
            return None
        if has_room and wait_s <= DEEP_SHARE[criticality] * deep_s + NEGLIGIBLE_S:
            cap = min(Tier.DEEP, ceiling)
        elif delay_s <= DELAY_SHARE * cf_s + NEGLIGIBLE_S:
            cap = min(Tier.CF, ceiling)
        else:
            cap = Tier.POPULARITY
        alone = not self.in_flight and not self._lower and delay_s <= NEGLIGIBLE_S
        why = Reason.OVERLOADED if spare_s > 0 else Reason.NO_TIME
        permit = Permit(cap, self.thread_s, now_s, alone=alone, why=why)
        self._count(permit, 1)
        return permit

    def give_back(
        self,
        permit: Permit,
        reached: Tier | None,
        *,
        waited_s: float = 0.0,
        thread_s: float = 0.0,
        overran: bool = False,
    ) -> None:
        """A call has ended.

        Args:
            permit: of the call; giving it back again does nothing.
            reached: the rung that answered; None when there was no answer, or one that says nothing of costs.
            waited_s: part of the call's time in which it waited for another process (the user store) and took no CPU.
            thread_s: part in which it was on the deep rung.
            overran: the deep rung was begun and given up for lack of time.
        """
        if permit.given_back:
            return
        permit.given_back = True
        self._count(permit, -1)
        if permit.alone and not overran and reached in self.cost_s:
            took_s = max(self._clock() - permit.since_s - waited_s, 0.0)
            self.cost_s[reached] = _follow(self.cost_s[reached], took_s)
            if reached is Tier.DEEP:
                self.thread_s = _follow(self.thread_s, thread_s)

    def seed(self, cost_s: Mapping[Tier, float], thread_s: float | None) -> None:
        """What answers take when nobody waits, as in the attributes; measured in warm-up, None where it was not."""
        self.cost_s |= {tier: min(seconds, _HIGHEST_COST_S) for tier, seconds in cost_s.items()}
        if thread_s is not None:
            self.thread_s = min(thread_s, _HIGHEST_COST_S)

    def observe_delay(self, seconds: float) -> None:
        """A sample of how long calls wait for the event loop; every few milliseconds."""
        self.delay_s += _DELAY_WEIGHT * (min(seconds, _LONGEST_DELAY_S) - self.delay_s)
        if self.delay_s > DELAY_SHARE * LONGEST_QUEUE_S + NEGLIGIBLE_S:
            # Too long for every call: those that expired in the queue, or have no time left, do not say so themselves.
            self._pressure.observe(self._clock(), has_room=False)

    def _count(self, permit: Permit, sign: int) -> None:
        if permit.cap is Tier.DEEP:
            self.in_flight += sign
            self._backlog_s = self._backlog_s + sign * permit.thread_s if self.in_flight else 0.0
        else:
            self._lower += sign


def _follow(old_s: float, took_s: float) -> float:
    return min(old_s + (_UP if took_s > old_s else _DOWN) * (took_s - old_s), _HIGHEST_COST_S)
