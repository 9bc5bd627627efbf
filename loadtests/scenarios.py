"""Every load scenario and what it demands: the one file to read, and to change.

Loads are multiples of the capacity that is measured before each run: DEEP answers a second that come in time. Every call
has a deadline of 50 ms from the moment at which it was meant to be sent. Targets are shares and ratios within the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.types import Tier
from loadtests.plan import MIXED, USERS_ONLY, Phase
from loadtests.targets import (
    at_least,
    at_most,
    errors,
    goodput,
    in_time,
    median_against,
    p99,
    preference,
    reason_after,
    recovery,
    refused,
    shedding_ends,
    tier_share,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from loadtests.targets import Target


@dataclass(frozen=True)
class Scenario:
    """Phases one after the other, the traffic in all of them, and what must hold.

    Attributes:
        asks: the question that the scenario answers, one sentence.

        traffic: criticality -> share of the calls.
    """

    name: str
    asks: str
    traffic: Mapping[str, float]
    phases: tuple[Phase, ...]
    targets: tuple[Target, ...]

    @property
    def breaks_the_model(self) -> bool:
        """Whether it needs a server whose model can be broken."""
        return any(phase.fault.startswith("model") for phase in self.phases)

    @property
    def slows_the_store(self) -> bool:
        """Whether it needs a user store whose replies can be made late."""
        return any(phase.fault == "store_slow" for phase in self.phases)


STEADY = Scenario(
    "steady",
    "Does every call get the best answer in time while there is room?",
    traffic=USERS_ONLY,
    phases=(Phase("steady", 0.7, seconds=60, short=12),),
    targets=(
        at_least(0.999, in_time("steady"), "what a page can rely on: one call in a thousand goes without"),
        at_least(0.99, tier_share("steady", Tier.DEEP), "with room and nothing broken nobody should get less"),
        at_most(1.0, p99("steady"), "the deadline is a promise"),
        at_most(0.0, refused("steady"), "nothing may be shed before it must be"),
    ),
)

SPIKE = Scenario(
    "spike",
    "Does a sudden fivefold load for 20 s lower answers and not lose them, and is it over when it is over?",
    traffic=MIXED,
    phases=(
        Phase("before", 0.7, seconds=15, short=5),
        Phase("spike", 5.0, seconds=20, short=6),
        Phase("after", 0.7, seconds=20, short=11),
    ),
    targets=(
        at_most(0.001, refused("before"), "nothing may be shed before it must be"),
        at_least(0.995, in_time("spike", "user"), "users are answered from a lower tier, and in time"),
        at_most(1.0, p99("spike"), "what is accepted is answered in time, or it should not have been accepted"),
        at_least(0.0, preference("spike"), "who may be shed goes first"),
        at_most(10.0, recovery("after", "before"), "overload must leave nothing behind"),
        at_least(0.995, in_time("after", "user"), "the first second after is not worth less"),
    ),
)


def _overload(times: int, deep: float, floor: float, why: str) -> Scenario:
    name = f"{times}x"
    return Scenario(
        f"overload_{name}",
        f"What is left of the capacity while {times} times of it is offered for a minute, and who gets it?",
        traffic=MIXED,
        phases=(
            Phase("before", 0.7, seconds=20, short=3),
            Phase(name, float(times), seconds=60, short=5),
            Phase("after", 0.7, seconds=20, short=5),
        ),
        targets=(
            at_most(0.001, refused("before"), "nothing may be shed before it must be"),
            at_least(0.98, tier_share("before", Tier.DEEP), "with room nobody gets less, but for bursts"),
            at_least(0.995, in_time(name, "user", first_s=1), "the first second of the step is not worth less"),
            at_least(0.995, in_time(name, "user"), "users are answered from a lower tier, and in time"),
            at_least(deep, tier_share(name, Tier.DEEP), "what the cheap answers leave of the CPU goes into DEEP ones"),
            at_least(floor, goodput(name), why),
            at_most(1.0, p99(name), "what is accepted is answered in time, or it should not have been accepted"),
            at_most(0.0, refused(name, "user"), "a lower tier costs no more than a refusal"),
            at_least(0.0, preference(name), "who may be shed goes first"),
            at_most(2.0, shedding_ends("after"), "overload must leave nothing behind"),
            at_most(10.0, recovery("after", "before"), "nor must it take a restart to be as before"),
            at_least(0.995, in_time("after", "user"), "the first second after is not worth less"),
        ),
    )


OVERLOAD_2X = _overload(2, 0.5, 0.9, "refusing costs CPU too: about a tenth of what is offered too much")
OVERLOAD_5X = _overload(5, 0.1, 0.8, "refusing four of five calls takes a fifth of the CPU in one process")

_OVERLOADS: tuple[tuple[str, float, str, float], ...] = (
    ("2x", 2.0, "", 0.0),
    ("5x", 5.0, "", 0.0),
    ("cheap", 6.0, "", 1.0),
    ("expensive", 0.7, "model_heavy", 0.0),
    ("slow_store", 0.7, "store_slow", 0.0),
)
"""Phase, load, fault, share of users whom nobody knows: their answers are the cheapest."""

EVERY_OVERLOAD = Scenario(
    "every_overload",
    "Too many calls, very many cheap ones, a model that costs twelve times as much, a store that is slow: who gets what?",
    traffic=MIXED,
    phases=(
        *(
            phase
            for name, load, fault, cold in _OVERLOADS
            for phase in (
                Phase(f"before_{name}", 0.7, seconds=10, short=3),
                Phase(name, load, seconds=20, short=4, fault=fault, cold=cold),
            )
        ),
        Phase("after", 0.7, seconds=10, short=4),
    ),
    targets=(
        *(
            target
            for name, *_ in _OVERLOADS
            for target in (
                at_least(0.995, in_time(name, "user"), "users are answered from a lower tier, and in time"),
                at_most(1.0, p99(name), "what is accepted is answered in time, or it should not have been accepted"),
            )
        ),
        at_most(0.001, refused("slow_store"), "waiting for a store takes no CPU: there is room for everybody"),
        at_least(0.95, tier_share("slow_store", Tier.DEEP), "nor does it take anybody's DEEP answer"),
        *(
            at_most(2.0, shedding_ends(phase), "overload must leave nothing behind")
            for phase in ("before_5x", "before_cheap", "before_expensive", "before_slow_store", "after")
        ),
    ),
)

_COLD = 0.3
"""Share of calls for users whom nobody knows: POPULARITY answers while nothing is broken, to compare later ones with."""

REDIS_DOWN = Scenario(
    "redis_down",
    "Does the user store take answers with it when it hangs, and when it is gone?",
    traffic=USERS_ONLY,
    phases=(
        Phase("before", 0.5, seconds=15, short=4, cold=_COLD),
        Phase("hanging", 0.5, seconds=20, short=6, fault="store_hangs", cold=_COLD),
        Phase("healed", 0.5, seconds=20, short=6, cold=_COLD),
        Phase("gone", 0.5, seconds=20, short=6, fault="store_gone", cold=_COLD),
        Phase("back", 0.5, seconds=20, short=6, cold=_COLD),
    ),
    targets=(
        *(
            at_least(0.999, in_time(phase), "users without history get what is popular, they do not wait")
            for phase in ("hanging", "healed", "gone", "back")
        ),
        *(
            at_most(1.0, median_against(phase, "before", Tier.POPULARITY, skip_s=3), "nobody waits for it for long")
            for phase in ("hanging", "gone")
        ),
        at_most(5.0, recovery("healed", "before"), "a store that answers again is found within seconds"),
        at_most(5.0, recovery("back", "before"), "so is one that was started again"),
    ),
)

SLOW_MODEL = Scenario(
    "slow_model",
    "Does a model that is slow, or never comes back, cost more than its own answers?",
    traffic=USERS_ONLY,
    phases=(
        Phase("before", 0.5, seconds=15, short=4),
        Phase("slow", 0.5, seconds=20, short=6, fault="model_slow"),
        Phase("healed", 0.5, seconds=30, short=11),
        Phase("hung", 0.5, seconds=20, short=6, fault="model_hangs"),
        Phase("back", 0.5, seconds=30, short=11),
    ),
    targets=(
        *(
            at_least(0.999, in_time(phase), "the answer of the tier below is ready before the model is asked")
            for phase in ("slow", "healed", "hung", "back")
        ),
        at_most(0.0, errors("hung"), "nobody waits for a model until the deadline is over"),
        at_most(2.0, reason_after("slow", "BREAKER_OPEN"), "calls that will be stopped are not worth starting"),
        at_most(2.0, reason_after("hung", "BREAKER_OPEN"), "the same for calls that hang"),
        at_least(0.99, tier_share("hung", Tier.CF, skip_s=2), "the tier below is one step down, not two"),
        at_most(10.0, recovery("healed", "before"), "the breaker tries again within its longest pause"),
        at_most(10.0, recovery("back", "before"), "the same after a hang"),
    ),
)

COLD_USERS = Scenario(
    "cold_users",
    "Do people whom nobody has seen get an answer, and do they cost the others theirs?",
    traffic=USERS_ONLY,
    phases=(
        Phase("half", 0.7, seconds=30, short=8, cold=0.5),
        Phase("all", 0.7, seconds=30, short=6, cold=1.0),
    ),
    targets=(
        at_least(0.999, in_time("half"), "an unknown user is the cheapest one"),
        at_least(0.999, in_time("all"), "the same where nobody is known"),
        at_least(0.99, tier_share("half", Tier.DEEP, known=True), "known users lose nothing beside unknown ones"),
        at_least(1.0, tier_share("all", Tier.POPULARITY, known=False), "what is popular, since nothing else is known"),
        at_most(1.0, p99("all"), "the deadline is a promise"),
    ),
)

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        STEADY,
        SPIKE,
        OVERLOAD_2X,
        OVERLOAD_5X,
        EVERY_OVERLOAD,
        REDIS_DOWN,
        SLOW_MODEL,
        COLD_USERS,
    )
}
"""By name, in the order of running."""
