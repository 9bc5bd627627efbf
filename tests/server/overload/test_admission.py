"""How high a call may climb under load, who is shed, and what is learnt when it ends."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from core.types import Reason, Tier
from server.overload.admission import (
    DEEP_SHARE,
    DELAY_SHARE,
    LONGEST_QUEUE_S,
    NEGLIGIBLE_S,
    Admission,
    Permit,
)
from server.overload.shedding import LONGEST_GAP_S, MEMORY_S, SHED_ABOVE, Criticality

USER, PREFETCH, BATCH = Criticality.USER, Criticality.PREFETCH, Criticality.BATCH
POPULARITY, CF, DEEP = Tier.POPULARITY, Tier.CF, Tier.DEEP
COSTS_S = {POPULARITY: 0.0005, CF: 0.001, DEEP: 0.005}
THREAD_S = 0.003
AMPLE_S = 0.5
HURRY_S = 0.001
"""Not enough for the deep rung: such a call changes no pressure."""


class World:
    """An admission whose clock stands still until it is moved."""

    def __init__(self, threads: int = 1) -> None:
        self.now_s = 0.0
        self.admission = Admission(threads, clock=lambda: self.now_s)
        self.admission.seed(COSTS_S, THREAD_S)

    def admit(self, criticality: Criticality = USER, left_s: float = AMPLE_S, ceiling: Tier = DEEP) -> Permit | None:
        return self.admission.admit(criticality, left_s, ceiling)

    def user(self, left_s: float = AMPLE_S, ceiling: Tier = DEEP) -> Permit:
        permit = self.admit(USER, left_s, ceiling)
        assert permit is not None
        return permit

    def cap(self, left_s: float = AMPLE_S, ceiling: Tier = DEEP) -> Tier:
        """What a user would get; but for the pressure, everything is then as it was."""
        admission = self.admission
        before = admission._backlog_s
        permit = self.user(left_s, ceiling)
        admission.give_back(permit, None)
        admission._backlog_s = before  # to the last bit
        return permit.cap

    def fill(self) -> list[Permit]:
        """Users' calls until there is no room on the deep rung for another."""
        permits = [self.user()]
        while self.cap() is DEEP:
            permits.append(self.user())
        return permits

    def delay(self, seconds: float, samples: int = 200) -> None:
        """The event loop has been this late for a while; by default so long that the average says so too."""
        for _ in range(samples):
            self.admission.observe_delay(seconds)

    def overload(self, seconds: float, every_s: float = 0.01) -> None:
        """Calls come so often and find no room, for so long; the moment of the last one is now."""
        self.delay(1.0)
        for _ in range(round(seconds / every_s)):
            self.now_s += every_s
            self.cap()
        self.delay(0.0)

    def sheds(self, criticality: Criticality) -> bool:
        """Whether a call is shed that says nothing of the load."""
        permit = self.admit(criticality, HURRY_S)
        if permit is not None:
            self.admission.give_back(permit, None)
        return permit is None


def test_an_idle_server_lets_everybody_climb() -> None:
    world = World()

    assert world.cap(0.0) is DEEP  # who cannot wait need not
    assert world.cap(-1.0) is DEEP
    assert [permit.cap for kind in Criticality if (permit := world.admit(kind))] == [DEEP, DEEP, DEEP]


def test_a_call_that_never_climbs_so_high_has_its_own_ceiling() -> None:
    world = World()

    assert world.user(ceiling=CF).cap is CF
    assert world.admission.in_flight == 0
    assert world.user(ceiling=DEEP).cap is DEEP


@pytest.mark.parametrize("kind", Criticality)
@pytest.mark.parametrize("waiting", [1, 2])
@pytest.mark.parametrize("threads", [1, 4])
def test_a_call_waits_for_others_for_a_share_of_its_time_and_no_longer(
    kind: Criticality, waiting: int, threads: int
) -> None:
    """Just as much time as the wait for the others needs is enough, and a little less is not; threads share the wait."""
    caps = []
    for factor in (1.001, 0.999):
        world = World(threads)
        for _ in range(waiting):
            world.user()
        wait_s = waiting * THREAD_S / threads
        permit = world.admit(kind, COSTS_S[DEEP] + factor * (wait_s - NEGLIGIBLE_S) / DEEP_SHARE[kind])
        assert permit is not None
        caps.append(permit.cap)

    assert caps == [DEEP, CF]


def test_calls_that_nobody_waits_for_leave_room_on_the_deep_rung_for_users() -> None:
    world = World()

    def admitted(kind: Criticality) -> int:
        """Calls of the kind that get onto the deep rung until the next one does not."""
        for count in range(99):
            permit = world.admit(kind)
            assert permit is not None
            if permit.cap is not DEEP:
                world.admission.give_back(permit, None)
                return count
        raise AssertionError("there is no bound")

    assert [admitted(kind) for kind in (BATCH, PREFETCH, USER)] == [6, 2, 3]  # waits of 15, 22.5 and 30 ms


@pytest.mark.parametrize("left_s", [0.1, 0.5, 60.0])
def test_calls_with_much_time_make_no_longer_queue(left_s: float) -> None:
    world = World()
    caps = [world.user(left_s).cap for _ in range(40)]

    assert caps.count(DEEP) == int(DEEP_SHARE[USER] * LONGEST_QUEUE_S / THREAD_S) + 1
    assert caps == sorted(caps, reverse=True)
    assert caps[-1] is CF


def test_a_delay_before_the_event_loop_keeps_calls_from_the_upper_rungs() -> None:
    """Answering them would only make it longer; what is popular costs a fraction."""
    world = World()
    left_s = 0.045
    deep_s = DELAY_SHARE * (left_s - COSTS_S[DEEP]) + NEGLIGIBLE_S
    cf_s = DELAY_SHARE * (left_s - COSTS_S[CF]) + NEGLIGIBLE_S
    caps = []
    for delay_s in (0.0, NEGLIGIBLE_S, deep_s * 0.999, deep_s * 1.001, cf_s * 0.999, cf_s * 1.001, 0.0):
        world.delay(delay_s)
        caps.append(world.cap(left_s))

    assert caps == [DEEP, DEEP, DEEP, CF, CF, POPULARITY, DEEP]


def test_a_delay_that_lasts_is_pressure_though_every_call_had_expired_in_the_queue() -> None:
    """Nobody is admitted then, and shedding is what the server needs most."""
    world = World()
    for _ in range(100):
        world.now_s += 0.005
        world.admission.observe_delay(0.04)

    assert world.sheds(BATCH)
    assert world.sheds(PREFETCH)


def test_calls_that_stay_below_the_deep_rung_take_nothing_of_its_threads() -> None:
    """What they take of the event loop is in its delay, which is measured."""
    world = World()
    caps = [world.user(ceiling=CF).cap for _ in range(40)]

    assert set(caps) == {CF}
    assert world.cap() is DEEP


def test_a_call_in_a_hurry_is_told_that_it_had_no_time_and_not_that_there_was_too_much_to_do() -> None:
    world = World()
    world.delay(0.02)

    assert [world.user(left_s=left_s).why for left_s in (-0.001, 0.004, 0.006)] == [
        Reason.NO_TIME,
        Reason.NO_TIME,
        Reason.OVERLOADED,
    ]


def test_one_late_turn_of_the_event_loop_is_over_after_a_few_samples_however_late_it_was() -> None:
    world = World()
    world.admission.observe_delay(10.0)
    delays = [world.admission.delay_s]
    while world.cap(0.05) is not DEEP:
        world.admission.observe_delay(0.0)
        delays.append(world.admission.delay_s)

    assert len(delays) <= 5
    assert not world.sheds(BATCH)


def test_a_permit_is_given_back_once() -> None:
    world = World()
    first, _ = world.user(), world.user()
    for _ in range(3):
        world.admission.give_back(first, DEEP)

    assert world.admission.in_flight == 1
    assert world.admission._backlog_s == pytest.approx(THREAD_S)


def test_what_a_call_takes_that_met_others_says_nothing_of_costs() -> None:
    """Else an overload would raise them until nothing fits, and with nothing let in they would never fall."""
    world = World()
    first, second = world.user(), world.user()
    world.now_s += 0.2
    world.admission.give_back(second, DEEP)
    assert world.admission.cost_s[DEEP] == COSTS_S[DEEP]
    world.admission.give_back(first, DEEP)
    assert world.admission.cost_s[DEEP] > COSTS_S[DEEP]


def test_waiting_for_the_user_store_is_no_cost() -> None:
    """Else a slow store would look like a busy processor, and calls be shed on an idle one."""
    world = World()
    for _ in range(1000):
        permit = world.user()
        world.now_s += 0.015
        world.admission.give_back(permit, DEEP, waited_s=0.010)

    assert world.admission.cost_s[DEEP] == pytest.approx(COSTS_S[DEEP])


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


def test_the_part_on_the_thread_is_learnt_from_deep_answers_that_met_nobody() -> None:
    world = World()

    def take(reached: Tier, thread_s: float, *, overran: bool = False) -> float:
        world.admission.give_back(world.user(), reached, thread_s=thread_s, overran=overran)
        return world.admission.thread_s

    assert take(DEEP, 0.103) == pytest.approx(0.004)  # up by a hundredth
    assert take(DEEP, 0.001) == pytest.approx(0.0034)  # down by a fifth
    assert take(CF, 0.0) == take(CF, 0.05, overran=True) == pytest.approx(0.0034)
    first = world.user()
    assert take(DEEP, 0.001) == pytest.approx(0.0034)  # that one met the first
    world.admission.give_back(first, DEEP, thread_s=0.0034)
    assert world.admission.thread_s == pytest.approx(0.0034)


@pytest.mark.parametrize("ceiling", [CF, DEEP])
def test_a_call_that_meets_another_of_any_rung_says_nothing_of_costs(ceiling: Tier) -> None:
    world = World()
    world.user(ceiling=ceiling)
    second = world.user()

    assert not second.alone


def test_seeding_leaves_other_costs_as_they_are() -> None:
    admission = Admission()
    before = dict(admission.cost_s)
    admission.seed({DEEP: 0.0123}, 0.0045)

    assert admission.cost_s == before | {DEEP: 0.0123}
    assert admission.thread_s == 0.0045


def test_seeds_have_the_bound_of_what_is_learnt_and_none_leaves_what_was() -> None:
    """A rung that is slow without a deadline would be tried by nobody else, and never be found to be quick."""
    admission = Admission()
    before = admission.thread_s
    admission.seed({DEEP: 0.5}, None)
    assert (admission.cost_s[DEEP], admission.thread_s) == (0.02, before)
    admission.seed({}, 0.4)
    assert admission.thread_s == 0.02


def test_batch_is_shed_before_prefetch_and_users_never() -> None:
    world = World()
    begun: dict[Criticality, float] = {}
    while world.now_s < 5:
        world.overload(0.01)
        for kind in Criticality:
            if world.sheds(kind):
                begun.setdefault(kind, world.now_s)

    assert list(begun) == [BATCH, PREFETCH]
    assert 0.02 < begun[BATCH] < begun[PREFETCH] < 0.3
    assert world.admission.pressure > 0.9
    assert world.admission.shed[USER] == 0
    assert 0 < world.admission.shed[PREFETCH] < world.admission.shed[BATCH]


@pytest.mark.parametrize("times", [1, 10, 100])
def test_shedding_is_over_within_two_seconds_of_an_overload_however_many_calls_it_was_of(times: int) -> None:
    world = World()
    world.overload(20, every_s=0.01 / times)
    assert world.sheds(PREFETCH)
    assert world.sheds(BATCH)
    ended: dict[Criticality, float] = {}
    for step in range(200):
        world.now_s += 0.01
        world.cap()
        for kind in (PREFETCH, BATCH):
            if not world.sheds(kind):
                ended.setdefault(kind, 0.01 * step)

    assert ended[PREFETCH] < ended[BATCH] < 2


def test_a_burst_sheds_nobody() -> None:
    """A hundred calls at once every tenth of a second, most of which find no room."""
    world = World()
    for _ in range(100):
        world.now_s += 0.1
        permits = [world.admit(kind) for kind in Criticality for _ in range(33)]
        assert sum(permit is not None and permit.cap is not DEEP for permit in permits) > 80
        for permit in permits:
            assert permit is not None
            world.admission.give_back(permit, None)

    assert world.admission.pressure < min(SHED_ABOVE.values()) / 10


def test_a_call_without_room_after_a_quiet_night_sheds_nothing_of_what_follows() -> None:
    world = World()
    world.now_s += 3600
    world.delay(1.0)
    world.cap()

    assert world.admission.pressure == pytest.approx(LONGEST_GAP_S / MEMORY_S, rel=0.05)
    assert not world.sheds(BATCH)


def test_a_call_without_time_for_the_deep_rung_is_no_sign_of_load_nor_of_its_absence() -> None:
    """Under the worst overload many calls have waited too long on arrival: were they to count, pressure would fall."""
    world = World()
    world.delay(0.007)
    for _ in range(50):
        world.now_s += 0.01
        world.cap(left_s=0.004)
    assert world.admission.pressure == 0

    for _ in range(500):
        world.now_s += 0.01
        world.cap(left_s=0.006)
    before = world.admission.pressure
    assert before > 0.9
    for _ in range(50):
        world.cap(left_s=0.004)
    assert world.admission.pressure == before


def test_pressure_is_over_where_nobody_calls_any_more() -> None:
    """Else a gauge would show the last overload for ever, and calls in a hurry be shed for ever."""
    world = World()
    world.overload(3)
    assert world.admission.pressure > 0.9
    world.now_s += 2

    assert world.admission.pressure < 0.02
    assert not world.sheds(BATCH)


def test_a_shed_call_holds_nothing() -> None:
    world = World()
    world.overload(3)
    before = world.admission._backlog_s, world.admission._lower

    assert world.admit(BATCH) is None
    assert (world.admission._backlog_s, world.admission._lower) == before


class Traffic(RuleBasedStateMachine):
    """Any order of calls that come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.out: list[Permit] = []

    @rule(
        criticality=st.sampled_from(Criticality),
        left_s=st.floats(-0.1, 0.5),
        ceiling=st.sampled_from([POPULARITY, CF, DEEP]),
        delay_s=st.sampled_from([0.0, 0.0, 0.001, 0.02, 1.0]),
    )
    def comes(self, criticality: Criticality, left_s: float, ceiling: Tier, delay_s: float) -> None:
        self.world.admission.observe_delay(delay_s)
        permit = self.world.admit(criticality, left_s, ceiling)
        if permit is None:
            assert criticality is not USER
            return
        assert permit.cap <= ceiling
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
        deep = [permit.thread_s for permit in self.out if permit.cap is DEEP]
        assert admission.in_flight == len(deep)
        assert admission._lower == len(self.out) - len(deep)
        assert admission._backlog_s == pytest.approx(sum(deep), abs=1e-9)
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
        assert self.world.admission._backlog_s == 0


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(deadline=None, stateful_step_count=40)


@settings(deadline=None)
@given(one=st.floats(-0.1, 1), other=st.floats(-0.1, 1), others=st.integers(0, 4), delay_s=st.floats(0, 0.2))
def test_of_two_budgets_the_longer_never_has_the_lower_cap(
    one: float, other: float, others: int, delay_s: float
) -> None:
    world = World()
    for _ in range(others):
        world.user()
    world.admission.observe_delay(delay_s)
    shorter, longer = sorted((one, other))

    assert world.cap(shorter) <= world.cap(longer)
