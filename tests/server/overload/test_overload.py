"""A server at several times its capacity, in virtual time: one core, who comes first is served first."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import pytest

from core.types import Tier
from server.overload.admission import Admission
from server.overload.shedding import Criticality

if TYPE_CHECKING:
    from collections.abc import Callable

USER, PREFETCH, BATCH = Criticality.USER, Criticality.PREFETCH, Criticality.BATCH
POPULARITY, CF, DEEP = Tier.POPULARITY, Tier.CF, Tier.DEEP
DEADLINE_S = 0.05
RESERVE_S = 0.004
TAKES_S = {POPULARITY: 0.0003, CF: 0.0012, DEEP: 0.004}
SHED_S = 0.00015
"""A refusal is not free."""
MIX = ((USER, 0.5), (PREFETCH, 0.3), (BATCH, 0.2))


class Ended(NamedTuple):
    """One call of the simulation; ``tier`` is None when it was shed."""

    came_s: float
    kind: Criticality
    tier: Tier | None
    in_time: bool


class Core:
    """Serves one call after another.

    One that has too little time left for the deep rung when its turn comes answers from CF, as the pipeline does; so
    does one that overruns.
    """

    def __init__(self, rng: random.Random) -> None:
        self.now_s = self.free_s = 0.0
        self.ended: list[Ended] = []
        self.admission = Admission(clock=lambda: self.now_s)
        self.admission.seed(TAKES_S)
        self._rng = rng
        self._order = itertools.count()
        self._under_way: list[tuple[float, int, Callable[[], None]]] = []

    def until(self, at_s: float) -> None:
        while self._under_way and self._under_way[0][0] <= at_s:
            self.now_s, _, end = heapq.heappop(self._under_way)
            end()
        self.now_s = at_s

    def come(self, kind: Criticality) -> None:
        came_s, must_s = self.now_s, self.now_s + DEADLINE_S - RESERVE_S
        begins_s = max(came_s, self.free_s)
        permit = self.admission.admit(kind, DEADLINE_S - RESERVE_S, DEEP)
        if permit is None:
            self.free_s = begins_s + SHED_S
            self.ended.append(Ended(came_s, kind, None, in_time=False))
            return
        tier, takes_s, overran = permit.cap, TAKES_S[permit.cap] * self._rng.lognormvariate(-0.08, 0.4), False
        if tier is DEEP and begins_s + TAKES_S[DEEP] > must_s:
            tier, takes_s = CF, TAKES_S[CF]
        elif tier is DEEP and begins_s + takes_s > must_s:
            tier, takes_s, overran = CF, must_s - begins_s + TAKES_S[CF], True
        self.free_s = begins_s + takes_s

        def end() -> None:
            self.admission.give_back(permit, tier, overran=overran)
            self.ended.append(Ended(came_s, kind, tier, in_time=self.now_s <= came_s + DEADLINE_S))

        heapq.heappush(self._under_way, (self.free_s, next(self._order), end))


def simulate(phases: list[tuple[float, float]], seed: int = 1) -> list[Ended]:
    """Poisson arrivals at so many times what the deep rung can do, for so many seconds each, at one core."""
    rng = random.Random(seed)
    core = Core(rng)
    starts_s = 0.0
    for times, seconds in phases:
        at_s, ends_s = starts_s, starts_s + seconds
        while (at_s := at_s + rng.expovariate(times / TAKES_S[DEEP])) < ends_s:
            core.until(at_s)
            core.come(rng.choices([kind for kind, _ in MIX], [share for _, share in MIX])[0])
        starts_s = ends_s
    core.until(starts_s + 10)
    return core.ended


def share(of: list[Ended], wanted: Callable[[Ended], bool]) -> float:
    return sum(map(wanted, of)) / len(of)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("times", [2.0, 5.0])
def test_under_overload_users_are_answered_in_time_and_what_can_wait_is_shed(times: float, seed: int) -> None:
    calls = [call for call in simulate([(0.6, 2.0), (times, 10.0)], seed) if call.came_s > 3.0]
    by_kind = {kind: [call for call in calls if call.kind is kind] for kind in Criticality}
    tiers = Counter(call.tier for call in by_kind[USER])

    assert share(by_kind[USER], lambda call: call.in_time) >= 0.995
    assert share(by_kind[BATCH], lambda call: call.tier is None) > 0.8
    assert share(by_kind[PREFETCH], lambda call: call.tier is None) > 0.35
    assert tiers[DEEP] / tiers.total() > 0.5 / times  # what is there is used


@pytest.mark.parametrize("seed", range(20))
def test_the_step_to_five_times_the_load_is_survived_from_its_first_moment(seed: int) -> None:
    calls = [call for call in simulate([(0.7, 2.0), (5.0, 1.0)], seed) if call.kind is USER]
    before, first_second = ([call for call in calls if (call.came_s > 2.0) is later] for later in (False, True))

    assert all(call.in_time for call in before)
    assert share(first_second, lambda call: call.in_time) >= 0.995


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("times", [2.0, 5.0])
def test_two_seconds_after_overload_users_are_on_the_deep_rung_and_nobody_is_shed(times: float, seed: int) -> None:
    calls = simulate([(0.3, 2.0), (times, 10.0), (0.3, 15.0)], seed)
    after = [call for call in calls if call.came_s > 14.0]
    users = [call for call in after if call.kind is USER]

    assert share(users, lambda call: call.tier is DEEP) > 0.99
    assert all(call.in_time for call in after if call.tier is not None)
    assert None not in {call.tier for call in after}


def test_a_server_with_room_sheds_nobody_and_answers_deep() -> None:
    calls = simulate([(0.4, 20.0)])

    assert share(calls, lambda call: call.tier is DEEP) > 0.99
    assert all(call.in_time for call in calls)
    assert None not in {call.tier for call in calls}
