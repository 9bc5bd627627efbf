"""How high a request may climb under the present load: decided before it is parsed, and without waiting.

Two things bound what is under way. The limiter bounds how many requests are on the deep rung at a time, by how much longer
they take than when nobody waits. The backlog, what everything under way is expected to cost, together with the event
loop's lag, is the wait that a request would meet; it may climb as high as wait and cost leave it time. So a user's
request is always answered, under load from a lower rung. Calls that can wait are shed, and only under pressure: when calls
have been refused the deep rung for a while, or the event loop cannot keep up. The first batch calls go at a pressure of
15 %, all of them from 35 %, all prefetches from 45 %; before that they leave part of the deep rung to users.
"""

from __future__ import annotations

import math
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from core.types import Reason, Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEEP_PATIENCE = 0.8
"""Share of the time that a request can spare for the deep rung which may go into waiting for its threads."""
QUICK_PATIENCE = 0.25
"""The same for waiting for the event loop, where everybody waits for everybody: a queue there must not stand."""
UNNOTICED_S = 0.0005
"""A wait that is none: the event loop is never quite on time."""
_COSTS_S = {Tier.POPULARITY: 0.0005, Tier.CF: 0.0015, Tier.DEEP: 0.005}
_UP, _DOWN = 0.01, 0.2
_HIGHEST_COST_S = 0.02
_MEMORY_S = 1.0
_FEW = 10.0
_LAG_WEIGHT = 0.05
_TOLERATED, _SATURATED = 2.0, 6.0
_LONGEST_LAG_S = 0.05


class Criticality(StrEnum):
    """Who waits for an answer."""

    USER = "user"
    """A person, now."""
    PREFETCH = "prefetch"
    """Perhaps a person, soon."""
    BATCH = "batch"
    """Nobody."""


_SHED = {Criticality.USER: (math.inf, math.inf), Criticality.PREFETCH: (0.25, 0.45), Criticality.BATCH: (0.15, 0.35)}
"""Pressure at which shedding begins, and at which nothing of the kind is let in."""


_ROOM = {Criticality.USER: 1.0, Criticality.PREFETCH: 0.75, Criticality.BATCH: 0.5}
"""Part of the limit that each may fill: a flood of calls that nobody waits for leaves room for those that somebody does."""


class Limit(Protocol):
    """What decides how many requests may be on the deep rung (``server.overload.vegas.Vegas``)."""

    limit: float

    def observe(self, rtt_s: float, in_flight: int, *, dropped: bool = False) -> None:
        """Learn from one that has ended; ``in_flight`` counted it too when it began."""
        ...


class Permit:
    """Leave to climb up to ``cap``; given back once.

    Attributes:
        cap: the highest rung that the request may try.

        why: the reason for no higher one: too little time even if nobody waited, or too much to do.

        in_flight: requests on the deep rung when it began, itself included.

        alone: it met nobody: what it takes is what an answer costs, not what waiting does.
    """

    __slots__ = ("alone", "cap", "cost_s", "given_back", "in_flight", "since_s", "why")

    def __init__(
        self, cap: Tier, cost_s: float, since_s: float, in_flight: int, *, alone: bool, why: Reason = Reason.OVERLOADED
    ) -> None:
        self.cap, self.cost_s, self.since_s, self.in_flight, self.why = cap, cost_s, since_s, in_flight, why
        self.alone, self.given_back = alone, False


class Admission:
    """Counts what is under way in one process; belongs to one event loop.

    Attributes:
        in_flight: requests under way that may reach the deep rung.

        calls: how many there have been.

        lag_s: how long calls waited for the event loop, on average of about the last tenth of a second.

        shed: calls refused so far, by criticality.
    """

    def __init__(self, limiter: Limit, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is under way.

        Args:
            limiter: bounds ``in_flight``.
            clock: monotonic, seconds.
        """
        self.limiter = limiter
        self.in_flight = 0
        self.lag_s = 0.0
        self.shed = dict.fromkeys(Criticality, 0)
        self.cost_s = dict(_COSTS_S)
        self.calls = 0
        self._clock = clock
        self._quick = 0
        self._deep_backlog_s = self._quick_backlog_s = 0.0
        self._asked = self._refused = 0.0
        self._as_of_s = clock()
        self._owed = dict.fromkeys(Criticality, 0.0)

    @property
    def pressure(self) -> float:
        """How far there is too much to do, 0 to 1.

        The larger of two: the share of the calls of about the last second that found no room on the deep rung, and how late the event loop
        was over the last tenth of a second, from twice what a DEEP answer costs, which happens, to six times that, at which it does
        nothing but catch up.
        """
        late = (self.lag_s / self.cost_s[Tier.DEEP] - _TOLERATED) / (_SATURATED - _TOLERATED)
        return max(self._refused / max(self._asked, _FEW), min(late, 1.0))

    def admit(self, criticality: Criticality, left_s: float, ceiling: Tier) -> Permit | None:
        """How high a call may climb; None when it is shed, which a user's call never is.

        Args:
            criticality: who waits.
            left_s: the budget above the floor, seconds.
            ceiling: the highest rung that this kind of call may reach.
        """
        now_s, cost_s = self._clock(), self.cost_s
        self.calls += 1
        quick_wait_s = self.lag_s + self._quick_backlog_s
        spare_s = left_s - cost_s[Tier.DEEP]
        fits = (
            self.in_flight < self.limiter.limit
            and quick_wait_s <= QUICK_PATIENCE * max(spare_s, 0) + UNNOTICED_S
            and self._deep_backlog_s <= DEEP_PATIENCE * max(spare_s, 0) + UNNOTICED_S
        )
        if fits or spare_s > 0:  # one that has no time for it anyway says nothing of the load
            self._note(now_s, refused=not fits)
        fits = fits and self.in_flight < self.limiter.limit * _ROOM[criticality]
        if self._sheds(criticality):
            self.shed[criticality] += 1
            return None
        if fits:
            cap = min(Tier.DEEP, ceiling)
        elif quick_wait_s <= QUICK_PATIENCE * max(left_s - cost_s[Tier.CF], 0) + UNNOTICED_S:
            cap = Tier.CF
        else:
            cap = Tier.POPULARITY
        alone = quick_wait_s + self._deep_backlog_s <= UNNOTICED_S
        why = Reason.OVERLOADED if spare_s > 0 else Reason.NO_TIME
        permit = Permit(cap, cost_s[cap], now_s, self.in_flight + 1, alone=alone, why=why)
        self._count(permit, 1)
        return permit

    def give_back(self, permit: Permit, reached: Tier | None, *, overran: bool = False) -> None:
        """A call has ended.

        Args:
            permit: of the call; giving it back again does nothing.
            reached: the rung that answered; None when there was no answer, which says nothing of costs.
            overran: the deep rung was begun and given up for lack of time.
        """
        if permit.given_back:
            return
        permit.given_back = True
        self._count(permit, -1)
        if reached is None:
            return
        took_s = self._clock() - permit.since_s
        if permit.cap is Tier.DEEP and (overran or reached is Tier.DEEP):
            self.limiter.observe(took_s, permit.in_flight, dropped=overran)
        if permit.alone and not overran and reached in self.cost_s:
            old_s = self.cost_s[reached]
            new_s = old_s + (_UP if took_s > old_s else _DOWN) * (took_s - old_s)  # near what the quickest take
            self.cost_s[reached] = min(new_s, _HIGHEST_COST_S)

    def seed(self, costs_s: Mapping[Tier, float]) -> None:
        """What answers of each rung cost when nobody waits, seconds; measured in warm-up."""
        self.cost_s |= costs_s

    def notice_lag(self, seconds: float) -> None:
        """Calls wait this long for the event loop; told every few milliseconds.

        What counts is the mean of about a tenth of a second: a burst passes by itself, a queue that stands does not (as in
        K. Nichols, V. Jacobson: "Controlling Queue Delay", ACM Queue 10.5, 2012).
        """
        self.lag_s += _LAG_WEIGHT * (min(seconds, _LONGEST_LAG_S) - self.lag_s)

    def _count(self, permit: Permit, sign: int) -> None:
        if permit.cap is Tier.DEEP:
            self.in_flight += sign
            self._deep_backlog_s = self._deep_backlog_s + sign * permit.cost_s if self.in_flight else 0.0
        else:
            self._quick += sign
            self._quick_backlog_s = self._quick_backlog_s + sign * permit.cost_s if self._quick else 0.0

    def _note(self, now_s: float, *, refused: bool) -> None:
        kept = math.exp((self._as_of_s - now_s) / _MEMORY_S)
        self._as_of_s = now_s
        self._asked = self._asked * kept + 1
        self._refused = self._refused * kept + refused

    def _sheds(self, criticality: Criticality) -> bool:
        """Whether to shed this one: evenly spread, as many of a kind as the pressure asks for."""
        begins, ends = _SHED[criticality]
        pressure = self.pressure
        if pressure <= begins:
            return False
        self._owed[criticality] += min((pressure - begins) / (ends - begins), 1.0)
        if self._owed[criticality] < 1:
            return False
        self._owed[criticality] -= 1
        return True
