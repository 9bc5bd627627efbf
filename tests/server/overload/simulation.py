"""A server at several times its capacity, in virtual time: one core, who comes first is served first.

``python -m tests.server.overload.simulation`` prints what is lost without each part of admission.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from core.types import Tier
from server.overload import admission
from server.overload.admission import Admission
from server.overload.shedding import Criticality

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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

    def __init__(self, rng: random.Random, store_s: float = 0.0) -> None:
        self.now_s = self.free_s = 0.0
        self.ended: list[Ended] = []
        self.admission = Admission(clock=lambda: self.now_s)
        self.admission.seed(TAKES_S)
        self._rng, self._store_s = rng, store_s
        self._order = itertools.count()
        self._under_way: list[tuple[float, int, Callable[[], None]]] = []

    def until(self, at_s: float) -> None:
        while self._under_way and self._under_way[0][0] <= at_s:
            self.now_s, _, end = heapq.heappop(self._under_way)
            end()
        self.now_s = at_s

    def come(self, kind: Criticality) -> None:
        came_s, must_s = self.now_s, self.now_s + DEADLINE_S - RESERVE_S
        permit = self.admission.admit(kind, DEADLINE_S - RESERVE_S, DEEP)
        store_s = 0.0 if permit is None or permit.cap is POPULARITY else self._store_s
        begins_s = max(came_s + store_s, self.free_s)
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
            self.admission.give_back(permit, tier, waited_s=store_s, overran=overran)
            self.ended.append(Ended(came_s, kind, tier, in_time=self.now_s <= came_s + DEADLINE_S))

        heapq.heappush(self._under_way, (self.free_s, next(self._order), end))


def simulate(phases: list[tuple[float, float]], seed: int = 1, store_s: float = 0.0) -> list[Ended]:
    """Poisson arrivals at so many times what the deep rung can do, for so many seconds each, at one core.

    Every call but a POPULARITY one waits ``store_s`` for the user store, which takes nothing of the core.
    """
    rng = random.Random(seed)
    core = Core(rng, store_s)
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


WITHOUT: Mapping[str, Mapping[str, Any]] = {
    "nothing": {},
    "the bound for DEEP": {"DEEP_SHARE": dict.fromkeys(Criticality, 1e9), "CF_SHARE": 1e9},
    "the bound for CF": {"CF_SHARE": 1e9},
    "more wait for CF than for DEEP": {"CF_SHARE": admission.DEEP_SHARE[USER]},
    "room kept for users": {"DEEP_SHARE": dict.fromkeys(Criticality, admission.DEEP_SHARE[USER])},
    "shedding": {"SHED_ABOVE": dict.fromkeys(Criticality, math.inf)},
}
"""Part of admission -> what its constants are when it is missing."""


def found(times: float) -> dict[str, float]:
    """Shares of users' and other calls in six seconds at so many times the capacity, the step to it included."""
    calls = [call for seed in (1, 2, 3) for call in simulate([(0.6, 2.0), (times, 6.0)], seed) if call.came_s > 2.0]
    users, prefetch, batch = ([call for call in calls if call.kind is kind] for kind in (USER, PREFETCH, BATCH))
    return {
        "users in time": share(users, lambda call: call.in_time),
        "users' DEEP": share(users, lambda call: call.tier is DEEP),
        "users' CF": share(users, lambda call: call.tier is CF),
        "prefetch shed": share(prefetch, lambda call: call.tier is None),
        "batch shed": share(batch, lambda call: call.tier is None),
    }


def main() -> None:
    """Print a table of what is lost without each part."""
    for part, constants in WITHOUT.items():
        before = {name: getattr(admission, name) for name in constants}
        vars(admission).update(constants)
        for times in (1.2, 2.0, 5.0):
            row = "".join(f"  {name} {value:6.1%}" for name, value in found(times).items())
            sys.stdout.write(f"without {part:32}{times:.1f}x{row}\n")
        vars(admission).update(before)


if __name__ == "__main__":
    main()
