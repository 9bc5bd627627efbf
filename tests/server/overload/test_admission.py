"""How high a call may climb under load, who is shed, and what is learnt when it ends."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from core.types import Reason, Tier
from server.overload.admission import DEEP_PATIENCE, QUICK_PATIENCE, UNNOTICED_S, Admission, Criticality, Permit

USER, PREFETCH, BATCH = Criticality.USER, Criticality.PREFETCH, Criticality.BATCH
POPULARITY, CF, DEEP = Tier.POPULARITY, Tier.CF, Tier.DEEP
COSTS_S = {POPULARITY: 0.0005, CF: 0.001, DEEP: 0.005}
AMPLE_S = 0.5


@dataclass
class Limited:
    """A limiter that is told its limit."""

    limit: float = 4.0
    observed: list[tuple[float, int, bool]] = field(default_factory=list)

    def observe(self, rtt_s: float, in_flight: int, *, dropped: bool = False) -> None:
        self.observed.append((rtt_s, in_flight, dropped))


class World:
    """An admission whose clock stands still until it is moved."""

    def __init__(self, limit: float = 4.0) -> None:
        self.now_s = 0.0
        self.limiter = Limited(limit)
        self.admission = Admission(self.limiter, clock=lambda: self.now_s)
        self.admission.seed(COSTS_S)

    def admit(self, criticality: Criticality = USER, left_s: float = AMPLE_S, ceiling: Tier = DEEP) -> Permit | None:
        return self.admission.admit(criticality, left_s, ceiling)

    def user(self, left_s: float = AMPLE_S, ceiling: Tier = DEEP) -> Permit:
        permit = self.admit(USER, left_s, ceiling)
        assert permit is not None
        return permit

    def cap(self, left_s: float = AMPLE_S, ceiling: Tier = DEEP) -> Tier:
        """What a user would get; but for the pressure, everything is then as it was."""
        admission = self.admission
        before = admission._deep_backlog_s, admission._quick_backlog_s
        permit = self.user(left_s, ceiling)
        admission.give_back(permit, None)
        admission._deep_backlog_s, admission._quick_backlog_s = before  # to the last bit
        return permit.cap

    def late(self, lag_s: float, ticks: int = 400) -> None:
        """The event loop has been this late for a while; by default so long that the mean says so too."""
        for _ in range(ticks):
            self.admission.notice_lag(lag_s)

    def sheds(self, criticality: Criticality, calls: int) -> list[bool]:
        """Which of so many calls, one after another, are shed."""
        shed = []
        for _ in range(calls):
            permit = self.admit(criticality)
            shed.append(permit is None)
            if permit is not None:
                self.admission.give_back(permit, None)
        return shed

    def press(self, share: float, calls: int = 1000) -> None:
        """Refuse that share of calls the deep rung, all in one moment."""
        limit, refused = self.limiter.limit, round(share * calls)
        for i in range(calls):
            self.limiter.limit = 0 if i < refused else 1e9
            self.admission.give_back(self.user(), None)
        self.limiter.limit = limit


def test_an_idle_server_lets_everybody_climb() -> None:
    world = World(limit=100)

    assert world.cap(0.0) is DEEP  # who cannot wait need not
    assert world.cap(-1.0) is DEEP
    assert [permit.cap for kind in Criticality if (permit := world.admit(kind))] == [DEEP, DEEP, DEEP]


def test_as_many_as_the_limit_says_are_on_the_deep_rung_and_the_others_get_cf() -> None:
    world = World(limit=2.5)

    assert [world.user().cap for _ in range(5)] == [DEEP, DEEP, DEEP, CF, CF]
    assert world.admission.in_flight == 3


def test_calls_that_nobody_waits_for_leave_room_on_the_deep_rung_for_users() -> None:
    world = World(limit=8)

    def admitted(kind: Criticality, calls: int) -> list[Tier]:
        return [permit.cap for _ in range(calls) if (permit := world.admit(kind))]

    assert admitted(BATCH, 5) == [DEEP] * 4 + [CF]
    assert admitted(PREFETCH, 3) == [DEEP] * 2 + [CF]
    assert admitted(USER, 3) == [DEEP] * 2 + [CF]


def test_a_call_that_never_climbs_so_high_has_its_own_ceiling() -> None:
    world = World(limit=1)

    assert world.user(ceiling=CF).cap is CF
    assert world.admission.in_flight == 0
    assert world.user(ceiling=DEEP).cap is DEEP


@pytest.mark.parametrize("waiting", [1, 2, 3])
def test_a_wait_that_leaves_no_patience_is_not_begun(waiting: int) -> None:
    """Just as much time as the wait for the others needs is enough, and a little less is not."""
    world = World(limit=100)
    for _ in range(waiting):
        world.user()
    enough_s = COSTS_S[DEEP] + (waiting * COSTS_S[DEEP] - UNNOTICED_S) / DEEP_PATIENCE

    assert world.cap(enough_s * 1.001) is DEEP
    assert world.cap(enough_s * 0.999) is CF


def test_a_queue_before_the_event_loop_keeps_calls_from_both_upper_rungs() -> None:
    """Answering them would only make it longer; what is popular costs a fraction."""
    world = World()
    left_s = 0.045
    deep_s = QUICK_PATIENCE * (left_s - COSTS_S[DEEP]) + UNNOTICED_S
    cf_s = QUICK_PATIENCE * (left_s - COSTS_S[CF]) + UNNOTICED_S
    caps = []
    for lag_s in (0.0, UNNOTICED_S, deep_s * 0.999, deep_s * 1.001, cf_s * 0.999, cf_s * 1.001, 0.0):
        world.late(lag_s)
        caps.append(world.cap(left_s))

    assert caps == [DEEP, DEEP, DEEP, CF, CF, POPULARITY, DEEP]


def test_a_call_in_a_hurry_is_told_that_it_had_no_time_and_not_that_there_was_too_much_to_do() -> None:
    world = World()
    world.late(0.01)

    assert [world.user(left_s=left_s).why for left_s in (-0.001, 0.004, 0.006)] == [
        Reason.NO_TIME,
        Reason.NO_TIME,
        Reason.OVERLOADED,
    ]


def test_what_waits_for_the_event_loop_counts_for_everybody_behind_it() -> None:
    world = World(limit=0)
    caps = [world.user(left_s=0.021).cap for _ in range(8)]

    assert caps == [CF] * 6 + [POPULARITY] * 2  # each CF answer costs 1 ms, a wait of 5.5 ms is too long
    world.limiter.limit = 9
    assert world.cap(0.012) is POPULARITY
    assert world.cap(0.5) is DEEP


@pytest.mark.parametrize(("lag_s", "pressure"), [(0.010, 0.0), (0.015, 0.25), (0.02, 0.5), (0.03, 1.0), (1.0, 1.0)])
def test_an_event_loop_that_does_not_keep_up_is_pressure(lag_s: float, pressure: float) -> None:
    world = World()
    world.late(lag_s)
    assert world.admission.pressure == pytest.approx(pressure, abs=1e-6)

    world.late(0.0, ticks=100)  # half a second
    assert world.admission.pressure == 0


def test_one_late_turn_of_the_event_loop_sheds_nothing() -> None:
    world = World()
    for lag_s in (0.06, 0.03, 0.015, 0.0):
        world.admission.notice_lag(lag_s)
        assert not any(world.sheds(BATCH, 5))


def test_a_permit_is_given_back_once() -> None:
    world = World(limit=1)
    permit = world.user()
    for _ in range(3):
        world.admission.give_back(permit, DEEP)

    assert world.admission.in_flight == 0
    assert len(world.limiter.observed) == 1
    assert [world.user().cap for _ in range(2)] == [DEEP, CF]


def test_the_limiter_learns_from_what_was_on_the_deep_rung_and_from_nothing_else() -> None:
    world = World()
    ends: list[tuple[Tier | None, bool]] = [(DEEP, False), (CF, False), (POPULARITY, False), (None, False), (CF, True)]
    for reached, overran in ends:
        world.user()
        permit = world.user()
        world.now_s += 0.25
        world.admission.give_back(permit, reached, overran=overran)
        world.admission.in_flight -= 1
    assert world.limiter.observed == [(0.25, 2, False), (0.25, 2, True)]

    permit = world.user(ceiling=CF)
    world.admission.give_back(permit, CF)
    assert len(world.limiter.observed) == 2


def test_what_a_call_takes_that_met_others_says_nothing_of_costs() -> None:
    """Else an overload would raise them until nothing fits, and with nothing let in they would never fall."""
    world = World()
    first, second = world.user(), world.user()
    world.now_s += 0.2
    world.admission.give_back(second, DEEP)
    assert world.admission.cost_s[DEEP] == COSTS_S[DEEP]
    world.admission.give_back(first, DEEP)
    assert world.admission.cost_s[DEEP] > COSTS_S[DEEP]


def test_costs_stay_near_what_the_quickest_take() -> None:
    world = World()

    def take(seconds: float, reached: Tier | None, *, overran: bool = False) -> float:
        permit = world.user()
        world.now_s += seconds
        world.admission.give_back(permit, reached, overran=overran)
        return world.admission.cost_s[DEEP]

    assert take(0.105, DEEP) == pytest.approx(0.006)  # up by a hundredth
    assert take(0.001, DEEP) == pytest.approx(0.005)  # down by a fifth
    assert take(9.0, None) == take(9.0, CF, overran=True) == pytest.approx(0.005)
    before = dict(world.admission.cost_s)
    take(9.0, Tier.PRECOMPUTED)
    assert world.admission.cost_s == before
    for _ in range(9):
        take(9.0, DEEP)
    assert world.admission.cost_s[DEEP] == 0.02  # and no further, however slow everything is
    assert take(0.001, CF) == 0.02
    assert world.admission.cost_s[CF] == pytest.approx(0.001)


def test_seeding_leaves_other_costs_as_they_are() -> None:
    admission = Admission(Limited())
    before = dict(admission.cost_s)
    admission.seed({DEEP: 0.123})

    assert admission.cost_s == before | {DEEP: 0.123}


@pytest.mark.parametrize(
    ("pressure", "batch", "prefetch"),
    [
        (0.0, 0.0, 0.0),
        (0.14, 0.0, 0.0),
        (0.2, 0.25, 0.0),
        (0.24, 0.45, 0.0),
        (0.3, 0.75, 0.25),
        (0.4, 1.0, 0.75),
        (0.5, 1.0, 1.0),
        (1.0, 1.0, 1.0),
    ],
)
def test_batch_goes_before_prefetch_and_nobody_below_a_seventh(pressure: float, batch: float, prefetch: float) -> None:
    for kind, share in ((BATCH, batch), (PREFETCH, prefetch), (USER, 0.0)):
        world = World(limit=1e9)
        world.press(pressure, 30_000)
        shed = world.sheds(kind, 400)

        assert world.admission.pressure == pytest.approx(pressure, rel=0.02)
        assert sum(shed) / len(shed) == pytest.approx(share, abs=0.03)
        assert world.admission.shed == {**dict.fromkeys(Criticality, 0), kind: sum(shed)}


def test_what_is_shed_is_spread_evenly_and_no_luck() -> None:
    runs = []
    for _ in range(2):
        world = World(limit=1e9)
        world.press(0.25, 30_000)
        runs.append(world.sheds(BATCH, 100))

    assert runs[0] == runs[1]
    assert all(sum(runs[0][i : i + 10]) in {4, 5, 6} for i in range(90))


def test_a_few_refusals_are_no_pressure() -> None:
    """One of two, after a quiet night, sheds nothing of what follows."""
    world = World()
    world.press(1.0, 1)

    assert world.admission.pressure == pytest.approx(0.1)
    world.now_s += 0.5
    assert not any(world.sheds(PREFETCH, 4))


def test_pressure_fades_within_seconds() -> None:
    world = World()
    world.press(1.0)
    before = world.admission.pressure
    world.now_s += 10
    for _ in range(10):
        world.cap()

    assert before == pytest.approx(1.0)
    assert world.admission.pressure < 0.02


def test_a_call_without_time_for_the_deep_rung_is_no_sign_of_load_nor_of_its_absence() -> None:
    """Under the worst overload many calls have waited too long on arrival: were they to count, pressure would fall."""
    world = World()
    world.late(0.007)
    for _ in range(50):
        world.cap(left_s=0.004)
    assert world.admission.pressure == 0

    world.limiter.limit = 0
    for _ in range(50):
        world.cap(left_s=0.006)
    assert world.admission.pressure == pytest.approx(1.0)
    for _ in range(50):
        world.cap(left_s=0.004)
    assert world.admission.pressure == pytest.approx(1.0)


def test_a_shed_call_holds_nothing() -> None:
    world = World(limit=0)
    world.press(1.0)
    before = world.admission._quick_backlog_s

    assert world.admit(BATCH) is None
    assert world.admission._quick_backlog_s == before


class Traffic(RuleBasedStateMachine):
    """Any order of calls that come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.out: list[Permit] = []

    @rule(
        criticality=st.sampled_from(Criticality),
        left_s=st.floats(-0.1, 0.5),
        ceiling=st.sampled_from([CF, DEEP]),
        limit=st.floats(1, 8),
        lag_s=st.sampled_from([0.0, 0.0, 0.001, 0.02, 1.0]),
    )
    def comes(self, criticality: Criticality, left_s: float, ceiling: Tier, limit: float, lag_s: float) -> None:
        self.world.limiter.limit = limit
        self.world.admission.notice_lag(lag_s)
        in_flight = self.world.admission.in_flight
        permit = self.world.admit(criticality, left_s, ceiling)
        if permit is None:
            assert criticality is not USER
            return
        assert permit.cap <= ceiling
        assert permit.cap is not DEEP or in_flight < limit
        self.out.append(permit)

    @rule(
        data=st.data(),
        after_s=st.floats(0, 1),
        reached=st.sampled_from([None, POPULARITY, CF, DEEP]),
        overran=st.booleans(),
        again=st.booleans(),
    )
    def goes(self, data: st.DataObject, after_s: float, reached: Tier | None, overran: bool, again: bool) -> None:
        self.world.now_s += after_s
        if not self.out:
            return
        permit = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        for _ in range(1 + again):
            self.world.admission.give_back(permit, reached, overran=overran)

    @invariant()
    def what_is_counted_is_what_is_out(self) -> None:
        admission = self.world.admission
        deep = [permit.cost_s for permit in self.out if permit.cap is DEEP]
        quick = [permit.cost_s for permit in self.out if permit.cap is not DEEP]
        assert admission.in_flight == len(deep)
        assert admission._deep_backlog_s == pytest.approx(sum(deep), abs=1e-9)
        assert admission._quick_backlog_s == pytest.approx(sum(quick), abs=1e-9)
        assert 0 <= admission.pressure <= 1
        assert all(0 < cost_s <= 0.02 for cost_s in admission.cost_s.values())

    @invariant()
    def a_longer_budget_never_has_a_lower_cap(self) -> None:
        left_s = (-0.01, 0.0, 0.004, 0.006, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 5.0)
        for ceiling in (CF, DEEP):
            caps = [self.world.cap(each, ceiling) for each in left_s]
            assert caps == sorted(caps)

    def teardown(self) -> None:
        for permit in self.out:
            self.world.admission.give_back(permit, None)
        assert self.world.admission.in_flight == 0
        assert self.world.admission._deep_backlog_s == 0
        assert self.world.admission._quick_backlog_s == pytest.approx(0, abs=1e-9)


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(deadline=None, stateful_step_count=40)


@settings(deadline=None)
@given(one=st.floats(-0.1, 1), other=st.floats(-0.1, 1), limit=st.integers(0, 4), lag_s=st.floats(0, 0.2))
def test_of_two_budgets_the_longer_never_has_the_lower_cap(
    one: float, other: float, limit: float, lag_s: float
) -> None:
    world = World(limit=3)
    for _ in range(3):
        world.user()
    world.limiter.limit = limit
    world.admission.notice_lag(lag_s)
    shorter, longer = sorted((one, other))

    assert world.cap(shorter) <= world.cap(longer)
