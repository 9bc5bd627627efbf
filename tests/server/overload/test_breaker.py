"""A breaker opens on a share of failures, lets one probe at a time through, and never gets stuck."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from server.overload.breaker import Breaker, Outcome, Rule, State

SUCCESS, FAILURE, NEUTRAL = Outcome
CLOSED, OPEN, HALF_OPEN = State


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make(clock: Clock, draw: float = 0.5, **fields: Any) -> Breaker:
    """A breaker whose jitter does nothing, unless another number is drawn."""
    return Breaker("store.read", Rule(**fields), clock=clock, rng=lambda: draw)


def calls(breaker: Breaker, outcome: Outcome, times: int = 1, seconds: float = 0.0) -> None:
    for _ in range(times):
        permit = breaker.permit()
        assert permit > 0
        breaker.ended(permit, outcome, seconds)


def opened(clock: Clock, draw: float = 0.5, **fields: Any) -> Breaker:
    breaker = make(clock, draw, **fields)
    calls(breaker, FAILURE, breaker._rule.min_calls)
    assert breaker.state is OPEN
    return breaker


def next_permit(breaker: Breaker, clock: Clock) -> tuple[float, int]:
    """Seconds until there is a permit, in steps of 1/64 s, and the permit."""
    start_s = clock.now_s
    while not (permit := breaker.permit()):
        clock.now_s += 1 / 64
    return clock.now_s - start_s, permit


def fail_probe(breaker: Breaker, clock: Clock) -> float:
    """Wait for the next probe and let it fail; seconds waited."""
    waited_s, probe = next_permit(breaker, clock)
    breaker.ended(probe, FAILURE)
    return waited_s


def test_it_starts_closed_and_has_entered_no_state(clock: Clock) -> None:
    breaker = make(clock)
    assert breaker.name == "store.read"
    assert breaker.state is CLOSED
    assert breaker.opened == 0
    assert breaker.transitions == {CLOSED: 0, OPEN: 0, HALF_OPEN: 0}


def test_it_opens_at_the_last_of_the_fewest_calls(clock: Clock) -> None:
    breaker = make(clock)
    calls(breaker, FAILURE, 19)
    assert breaker.state is CLOSED
    calls(breaker, FAILURE)
    assert breaker.state is OPEN
    assert breaker.opened == 1


@pytest.mark.parametrize(("failures", "state"), [(9, CLOSED), (10, OPEN)])
def test_it_opens_at_the_share_of_failures_and_not_below(clock: Clock, failures: int, state: State) -> None:
    breaker = make(clock)
    calls(breaker, FAILURE, failures)
    calls(breaker, SUCCESS, 20 - failures)
    assert breaker.state is state


def test_any_share_is_compared_exactly(clock: Clock) -> None:
    breaker = make(clock, failure_share=0.07, min_calls=100)
    calls(breaker, SUCCESS, 93)
    calls(breaker, FAILURE, 7)
    assert breaker.state is OPEN


def test_it_opens_when_the_newest_calls_have_all_failed_however_many_succeeded_before(clock: Clock) -> None:
    breaker = make(clock)
    calls(breaker, SUCCESS, 1000)
    calls(breaker, FAILURE, 19)
    calls(breaker, SUCCESS)
    calls(breaker, FAILURE, 19)
    assert breaker.state is CLOSED
    calls(breaker, FAILURE)
    assert breaker.state is OPEN


def test_a_success_that_took_too_long_counts_as_a_failure(clock: Clock) -> None:
    breaker = make(clock, slow_s=0.05)
    calls(breaker, SUCCESS, 20, seconds=0.05)
    assert breaker.state is CLOSED
    calls(breaker, SUCCESS, 20, seconds=0.051)
    assert breaker.state is OPEN


def test_neutral_ends_count_nothing_however_long_they_took(clock: Clock) -> None:
    breaker = make(clock, slow_s=0.05)
    calls(breaker, FAILURE, 19)
    calls(breaker, NEUTRAL, 1000, seconds=9.0)
    assert breaker.state is CLOSED
    calls(breaker, FAILURE)
    assert breaker.state is OPEN


def test_outcomes_are_forgotten_with_their_bucket(clock: Clock) -> None:
    breaker = make(clock)
    calls(breaker, FAILURE, 10)
    clock.now_s += 1.0
    calls(breaker, FAILURE, 9)
    clock.now_s += 8.99  # the first bucket is still in the window
    calls(breaker, NEUTRAL)
    clock.now_s += 0.01  # and now it is not
    calls(breaker, FAILURE, 10)
    assert breaker.state is CLOSED
    calls(breaker, FAILURE)
    assert breaker.state is OPEN


def test_outcomes_of_the_whole_window_count_together(clock: Clock) -> None:
    breaker = make(clock)
    for _ in range(10):
        assert breaker.state is CLOSED
        calls(breaker, FAILURE, 2)
        clock.now_s += 1.0
    assert breaker.state is OPEN


def test_an_outcome_is_forgotten_with_the_bucket_that_it_fell_in_after_a_pause_too(clock: Clock) -> None:
    breaker = make(clock)
    clock.now_s += 1.875
    calls(breaker, FAILURE, 10)
    clock.now_s += 9.125
    calls(breaker, FAILURE, 10)
    assert breaker.state is CLOSED


@pytest.mark.parametrize("idle_s", [10.0, 25.5, 1e9])
def test_nothing_is_left_after_an_idle_window(clock: Clock, idle_s: float) -> None:
    breaker = make(clock)
    calls(breaker, FAILURE, 19)
    clock.now_s += idle_s
    calls(breaker, FAILURE, 19)
    assert breaker.state is CLOSED


def test_a_clock_that_was_read_before_another_threads_changes_no_total(clock: Clock) -> None:
    breaker = make(clock)
    clock.now_s += 3.0
    calls(breaker, FAILURE, 10)
    clock.now_s -= 1.5
    calls(breaker, FAILURE, 10)
    assert breaker.state is OPEN


def test_open_refuses_until_its_time_is_up(clock: Clock) -> None:
    breaker = opened(clock)
    clock.now_s += 0.999
    assert breaker.permit() == 0
    clock.now_s += 0.001
    assert breaker.state is OPEN  # until somebody asks
    assert breaker.permit() > 0
    assert breaker.state is HALF_OPEN


@pytest.mark.parametrize(("draw", "seconds"), [(0.0, 0.75), (0.5, 1.0), (1.0, 1.25)])
def test_the_time_open_is_jittered(clock: Clock, draw: float, seconds: float) -> None:
    assert next_permit(opened(clock, draw, jitter=0.25), clock)[0] == seconds


def test_each_failed_probe_doubles_the_time_up_to_the_longest(clock: Clock) -> None:
    breaker = opened(clock)
    assert [fail_probe(breaker, clock) for _ in range(8)] == [1, 2, 4, 8, 16, 30, 30, 30]
    assert breaker.opened == 9


def test_every_opening_draws_its_own_jitter(clock: Clock) -> None:
    draws = iter([0.0, 1.0, 0.5, 0.5, 0.5])
    breaker = Breaker("x", Rule(jitter=0.25), clock=clock, rng=lambda: next(draws))
    calls(breaker, FAILURE, 20)
    assert [fail_probe(breaker, clock) for _ in range(3)] == [0.75, 2.5, 4.0]


def test_half_open_gives_one_permit_at_a_time(clock: Clock) -> None:
    breaker = opened(clock)
    clock.now_s += 1.0
    probe = breaker.permit()
    assert [breaker.permit() for _ in range(50)] == [0] * 50
    breaker.ended(probe, SUCCESS)
    assert breaker.permit() > 0
    assert breaker.permit() == 0


def test_successes_in_a_row_close_it_with_an_empty_window(clock: Clock) -> None:
    breaker = opened(clock)
    clock.now_s += 1.0
    calls(breaker, SUCCESS, 4)
    assert breaker.state is HALF_OPEN
    calls(breaker, SUCCESS)
    assert breaker.state is CLOSED
    assert breaker.transitions == {CLOSED: 1, OPEN: 1, HALF_OPEN: 1}
    calls(breaker, FAILURE, 19)
    assert breaker.state is CLOSED


def test_successes_before_a_failed_probe_do_not_count_later(clock: Clock) -> None:
    breaker = opened(clock)
    clock.now_s += 1.0
    calls(breaker, SUCCESS, 4)
    calls(breaker, FAILURE)
    assert breaker.state is OPEN
    clock.now_s += 2.0
    calls(breaker, SUCCESS, 4)
    assert breaker.state is HALF_OPEN


def test_a_slow_probe_has_failed(clock: Clock) -> None:
    breaker = opened(clock, slow_s=0.05)
    clock.now_s += 1.0
    calls(breaker, SUCCESS, seconds=0.06)
    assert breaker.state is OPEN


def test_a_neutral_probe_gives_its_permit_back_and_counts_nothing(clock: Clock) -> None:
    breaker = opened(clock)
    clock.now_s += 1.0
    calls(breaker, SUCCESS, 4)
    calls(breaker, NEUTRAL, 50)
    assert breaker.state is HALF_OPEN
    calls(breaker, SUCCESS)
    assert breaker.state is CLOSED


def test_who_asks_while_another_thread_closes_it_is_let_through(clock: Clock) -> None:
    breaker = opened(clock, probes=1)
    clock.now_s += 1.0
    probe = breaker.permit()

    def close_meanwhile() -> float:
        breaker._clock = clock
        breaker.ended(probe, SUCCESS)
        return clock.now_s

    breaker._clock = close_meanwhile
    calls(breaker, SUCCESS, 20)
    assert breaker.state is CLOSED
    assert breaker._total == 20


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_call_that_began_before_a_change_of_state_changes_nothing(clock: Clock, outcome: Outcome) -> None:
    breaker = make(clock, probes=1)
    old = breaker.permit()
    calls(breaker, FAILURE, 20)
    breaker.ended(old, outcome)
    assert breaker.state is OPEN
    clock.now_s += 1.0
    probe = breaker.permit()
    breaker.ended(old, outcome)
    assert breaker.state is HALF_OPEN
    assert breaker.permit() == 0  # the probe is still the one
    breaker.ended(probe, SUCCESS)
    for _ in range(30):
        breaker.ended(old, outcome)
        breaker.ended(probe, outcome)
    assert breaker.state is CLOSED
    calls(breaker, FAILURE, 19)
    assert breaker.state is CLOSED


def test_a_probe_that_is_told_twice_counts_once(clock: Clock) -> None:
    breaker = opened(clock, probes=2)
    clock.now_s += 1.0
    probe = breaker.permit()
    breaker.ended(probe, SUCCESS)
    breaker.ended(probe, SUCCESS)
    assert breaker.state is HALF_OPEN


def test_a_probe_that_never_ends_is_replaced(clock: Clock) -> None:
    breaker = opened(clock, probes=1)
    clock.now_s += 1.0
    lost = breaker.permit()
    clock.now_s += 4.999
    assert breaker.permit() == 0
    clock.now_s += 0.001
    probe = breaker.permit()
    assert probe > 0
    breaker.ended(lost, FAILURE)  # too late: it is no longer the probe
    assert breaker.state is HALF_OPEN
    assert breaker.permit() == 0
    breaker.ended(probe, SUCCESS)
    assert breaker.state is CLOSED


def test_a_late_probe_that_was_not_replaced_counts(clock: Clock) -> None:
    breaker = opened(clock)
    clock.now_s += 1.0
    probe = breaker.permit()
    clock.now_s += 60.0
    breaker.ended(probe, FAILURE)
    assert breaker.state is OPEN


@pytest.mark.parametrize(("closed_s", "seconds"), [(9.875, 2.0), (10.0, 1.0)])
def test_the_back_off_starts_over_after_a_calm_time_only(clock: Clock, closed_s: float, seconds: float) -> None:
    breaker = opened(clock)
    clock.now_s += 1.0
    calls(breaker, SUCCESS, 5)
    clock.now_s += closed_s
    calls(breaker, FAILURE, 20)
    assert next_permit(breaker, clock)[0] == seconds


def test_flapping_keeps_doubling(clock: Clock) -> None:
    breaker = opened(clock)
    waited = []
    for _ in range(6):
        waited_s, probe = next_permit(breaker, clock)
        waited.append(waited_s)
        breaker.ended(probe, SUCCESS)
        calls(breaker, SUCCESS, 4)
        assert breaker.state is CLOSED
        calls(breaker, FAILURE, 20)
    assert waited == [1, 2, 4, 8, 16, 30]


@pytest.mark.parametrize(
    "fields",
    [
        {"window_s": 0.0},
        {"window_s": math.nan},
        {"window_s": math.inf},
        {"buckets": 0},
        {"min_calls": 0},
        {"failure_share": 0.0},
        {"failure_share": 1.01},
        {"slow_s": 0.0},
        {"open_s": 0.0},
        {"open_s": 31.0},
        {"longest_open_s": math.inf},
        {"jitter": 1.0},
        {"jitter": -0.1},
        {"probes": 0},
        {"calm_s": -1.0},
        {"longest_probe_s": 0.0},
    ],
)
def test_a_rule_that_cannot_work_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="out of its bounds"):
        Rule(**fields)


class AnyHistory(RuleBasedStateMachine):
    """Whatever happens in whatever order, against a plain model that keeps every outcome."""

    rule_ = Rule(window_s=2.0, buckets=4, min_calls=4, slow_s=0.5, open_s=1.0, longest_open_s=4.0, probes=2)

    @initialize(draw=st.sampled_from([0.0, 0.5, 1.0]))
    def start(self, draw: float) -> None:
        self.clock = Clock()
        self.breaker = Breaker("any", self.rule_, clock=self.clock, rng=lambda: draw)
        self.factor = 1 + 0.2 * (2 * draw - 1)
        self.out: list[tuple[int, int]] = []  # permits, and how many states had been seen
        self.seen: list[State] = [CLOSED]
        self.counted: list[tuple[float, bool]] = []
        self.window_start_s = self.clock.now_s
        self.opened_at_s = math.nan
        self.probe: tuple[int, float] | None = None
        self.in_row = 0

    def look(self) -> None:
        """Note a change of state."""
        state = self.breaker.state
        if state is not self.seen[-1]:
            self.seen.append(state)
            if state is OPEN:
                self.opened_at_s = self.clock.now_s
            elif state is CLOSED:
                self.counted, self.window_start_s = [], self.clock.now_s
            self.in_row, self.probe = 0, None

    def in_window(self) -> list[bool]:
        width_s = self.rule_.window_s / self.rule_.buckets
        bucket = (self.clock.now_s - self.window_start_s) // width_s
        return [f for at, f in self.counted if (at - self.window_start_s) // width_s > bucket - self.rule_.buckets]

    @rule(quarters=st.integers(1, 12))
    def time_passes(self, quarters: int) -> None:
        self.clock.now_s += quarters / 4

    @rule()
    def ask(self) -> None:
        before, now_s = self.breaker.state, self.clock.now_s
        permit = self.breaker.permit()
        self.look()
        if before is CLOSED:
            assert permit > 0
        if before is OPEN:
            waited_s = now_s - self.opened_at_s
            assert permit == 0 or waited_s >= self.rule_.open_s * self.factor - 1e-9
            assert permit > 0 or waited_s < self.rule_.longest_open_s * self.factor + 1e-9
        if before is HALF_OPEN:
            out = self.probe is not None and now_s < self.probe[1] + self.rule_.longest_probe_s
            assert bool(permit) is not out
        if permit:
            self.out.append((permit, len(self.seen)))
            if before is not CLOSED:
                self.probe = (permit, now_s)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), outcome=st.sampled_from(Outcome), slow=st.booleans(), newest=st.booleans())
    def end(self, data: st.DataObject, outcome: Outcome, slow: bool, newest: bool) -> None:
        permit, seen = self.out.pop(-1 if newest else data.draw(st.integers(0, len(self.out) - 1)))
        before = self.breaker.state
        is_probe = self.probe is not None and permit == self.probe[0]
        current = seen == len(self.seen) and (before is CLOSED or is_probe)
        failed = outcome is FAILURE or slow
        self.breaker.ended(permit, outcome, 1.0 if slow else 0.0)
        after = self.breaker.state
        if outcome is NEUTRAL or not current:
            assert after is before
        elif before is CLOSED:
            self.counted.append((self.clock.now_s, failed))
            window = self.in_window()
            few = self.rule_.min_calls
            too_many = sum(window) / len(window) >= self.rule_.failure_share or all(window[-few:])
            assert (after is OPEN) is (len(window) >= few and too_many)
        else:
            self.in_row += 1
            closes = self.in_row == self.rule_.probes
            assert after is (OPEN if failed else CLOSED if closes else HALF_OPEN)
        if is_probe:
            self.probe = None
        self.look()

    @invariant()
    def every_entry_is_counted_once(self) -> None:
        if hasattr(self, "seen"):
            entered = {state: self.seen[1:].count(state) for state in State}
            assert self.breaker.transitions == entered
            assert self.breaker.opened == entered[OPEN]
            follows = {CLOSED: {OPEN}, OPEN: {HALF_OPEN}, HALF_OPEN: {OPEN, CLOSED}}
            assert all(b in follows[a] for a, b in zip(self.seen, self.seen[1:], strict=False))


AnyHistory.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestAnyHistory = AnyHistory.TestCase


def test_many_threads_never_have_two_probes_out_and_lose_none() -> None:
    clock = Clock()
    breaker = opened(clock, probes=10_000, longest_probe_s=math.inf)
    clock.now_s += 1.0
    ended, most = 0, 0
    holders: set[int] = set()
    start = threading.Barrier(8)

    def work() -> None:
        nonlocal ended, most
        start.wait()
        while breaker.state is not CLOSED:
            permit = breaker.permit()
            if not permit or breaker.state is CLOSED:
                continue
            holders.add(permit)
            most = max(most, len(holders) + bool(breaker.permit()))
            holders.discard(permit)
            ended += 1  # by the holder of the only probe: no lock is needed, or the test fails
            breaker.ended(permit, NEUTRAL if permit % 3 == 0 else SUCCESS)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert most == 1
    assert ended >= 10_000
    assert breaker.transitions == {CLOSED: 1, OPEN: 1, HALF_OPEN: 1}


def test_many_threads_lose_no_outcome() -> None:
    breaker = make(Clock(), min_calls=10**9)
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        for _ in range(2000):
            calls(breaker, FAILURE)
            calls(breaker, SUCCESS)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (breaker._total, breaker._failed) == (32_000, 16_000)


def test_a_breaker_that_starts_over_is_as_new() -> None:
    now = [0.0]
    breaker = Breaker("scorer", clock=lambda: now[0], rng=lambda: 0.5)
    for _ in range(2):
        for _ in range(20):
            breaker.ended(breaker.permit(), Outcome.FAILURE)
        breaker.start_over()
        assert (breaker.state, breaker.opened) == (State.CLOSED, 0)
    for _ in range(20):
        assert breaker.permit()
        breaker.ended(breaker.permit(), Outcome.FAILURE)
    now[0] = 1.0  # the first opening again, not the third
    assert breaker.permit()
