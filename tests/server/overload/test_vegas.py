"""The limit grows without a queue, shrinks with one, and stays small however long an overload lasts."""

from __future__ import annotations

import heapq
import math
import random
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.overload.vegas import Vegas

if TYPE_CHECKING:
    from collections.abc import Iterable


def per_call(**bounds: Any) -> Vegas:
    """A limit that takes each call for a window; never learns anew by itself."""
    bounds = {"initial": 10.0, "lowest": 1.0, "highest": 20.0} | bounds
    return Vegas(**bounds, window_s=0.0, min_samples=1, clock=lambda: 0.0, rng=lambda: 1.0)


def taught(**bounds: Any) -> Vegas:
    """One that knows 10 ms as the time of a call that does not queue."""
    vegas = per_call(**bounds)
    vegas.observe(0.010, 1)
    return vegas


def test_the_first_quiet_window_teaches_and_changes_nothing() -> None:
    assert taught().limit == 10


@pytest.mark.parametrize("rtt_s", [0.010, 0.0105])
def test_with_no_queue_to_speak_of_it_grows_by_beta(rtt_s: float) -> None:
    vegas = taught()
    vegas.observe(rtt_s, 11)
    assert vegas.limit == 16


def test_with_a_short_queue_it_grows_by_one_step() -> None:
    vegas = taught()
    vegas.observe(0.012, 10)
    assert vegas.limit == 11


def test_between_the_thresholds_it_stays() -> None:
    vegas = taught()
    vegas.observe(0.014, 14)
    assert vegas.limit == 10
    vegas.observe(0.024, 14)
    assert vegas.limit == 10


def test_with_a_long_queue_it_shrinks_by_one_step() -> None:
    vegas = taught()
    vegas.observe(0.050, 11)
    assert vegas.limit == 9


def test_a_step_is_the_logarithm_of_a_large_limit() -> None:
    grows, shrinks = (taught(initial=100.0, highest=200.0) for _ in range(2))
    grows.observe(0.010, 100)
    shrinks.observe(0.050, 100)
    assert (grows.limit, shrinks.limit) == (112, 98)


def test_a_drop_makes_it_shrink_without_a_queue_too() -> None:
    vegas = taught()
    vegas.observe(0.010, 10, dropped=True)
    assert vegas.limit == 9


def test_one_drop_in_a_window_is_enough_and_many_count_once() -> None:
    for drops in (1, 5):
        vegas = Vegas(initial=10, lowest=1, highest=20, window_s=0.0, min_samples=10, clock=lambda: 0.0)
        for i in range(10):
            vegas.observe(0.010, 10, dropped=i < drops)
        assert vegas.limit == 9


def test_smoothing_makes_a_part_of_each_change() -> None:
    vegas = taught(initial=100.0, highest=200.0, smoothing=0.5)
    vegas.observe(0.050, 100)
    assert vegas.limit == 99
    vegas.observe(0.050, 100)
    assert vegas.limit == pytest.approx(99 - 0.5 * math.log10(99))


@pytest.mark.parametrize(("in_flight", "limit"), [(4, 10), (5, 16)])
def test_it_does_not_grow_while_less_than_half_is_used(in_flight: int, limit: float) -> None:
    vegas = taught()
    vegas.observe(0.010, in_flight)
    assert vegas.limit == limit


def test_it_changes_once_per_window_of_enough_time_and_enough_calls() -> None:
    now = [0.0]
    vegas = Vegas(initial=10, lowest=2, highest=100, window_s=0.1, min_samples=3, clock=lambda: now[0])
    limits = []
    for at_s, in_flight in [(0.0, 1), (0.05, 1), (0.1, 1), (5.0, 9), (5.2, 9), (5.21, 9), (5.3, 9), (5.35, 9)]:
        now[0] = at_s
        vegas.observe(0.010, in_flight)
        limits.append(vegas.limit)
    assert limits == [10, 10, 10, 10, 10, 16, 16, 16]
    now[0] = 5.41
    vegas.observe(0.010, 9)
    assert vegas.limit == pytest.approx(16 + 6 * math.log10(16))


def test_single_outliers_move_neither_the_queue_nor_what_is_normal() -> None:
    vegas = Vegas(initial=10, lowest=2, highest=100, window_s=0.0, min_samples=9, clock=lambda: 0.0)
    for in_flight in (1, 9):
        for i in range(9):
            vegas.observe(0.5 if i < 2 else 0.0001 if i > 6 else 0.010, in_flight)
    assert vegas.limit == 16


def test_a_limit_that_has_seen_no_quiet_window_does_not_grow() -> None:
    vegas = per_call()
    for _ in range(1000):
        vegas.observe(0.010, 10)
    assert vegas.limit == 10


def test_a_faster_window_teaches_at_once_though_it_is_not_quiet() -> None:
    vegas = taught()
    vegas.observe(0.002, 4)
    vegas.observe(0.010, 10)
    assert vegas.limit == 9


def test_what_is_normal_is_learnt_anew_after_some_quiet_windows() -> None:
    vegas = taught()
    for _ in range(299):
        vegas.observe(0.050, 1)
    vegas.observe(0.050, 10)  # it is time, but this window is not quiet
    assert vegas.limit == 9
    vegas.observe(0.050, 1)
    vegas.observe(0.050, 10)
    assert vegas.limit == 15


def test_learning_anew_is_jittered() -> None:
    quiet = []
    for draw in (0.0, 1.0):
        vegas = Vegas(initial=10, lowest=1, highest=20, window_s=0, min_samples=1, clock=float, rng=lambda d=draw: d)
        vegas.observe(0.010, 1)
        count = 0
        while vegas._noload_s == 0.010:
            vegas.observe(0.050, 1)
            count += 1
        quiet.append(count)
    assert quiet == [150, 300]


def test_a_window_with_a_drop_teaches_nothing() -> None:
    vegas = per_call()
    vegas.observe(0.010, 1, dropped=True)
    for _ in range(10):
        vegas.observe(0.010, 9)
    assert vegas.limit == 9


@pytest.mark.parametrize(
    "fields",
    [
        {"lowest": 0.5},
        {"lowest": 11.0},
        {"highest": 9.0},
        {"initial": math.nan},
        {"smoothing": 0.0},
        {"smoothing": 1.1},
        {"window_s": -1.0},
        {"min_samples": 0},
    ],
)
def test_numbers_out_of_bounds_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="out of bounds"):
        Vegas(**{"initial": 10.0, "lowest": 1.0, "highest": 20.0} | fields)


CALL = st.tuples(st.floats(0.0, 10.0), st.integers(1, 100), st.booleans())


def after(calls: Iterable[tuple[float, int, bool]], smoothing: float = 1.0) -> Vegas:
    vegas = taught(initial=8.0, lowest=2.0, highest=32.0, smoothing=smoothing)
    for rtt_s, in_flight, dropped in calls:
        vegas.observe(rtt_s, in_flight, dropped=dropped)
        assert 2 <= vegas.limit <= 32
    return vegas


@given(st.lists(CALL, max_size=300), st.sampled_from([0.2, 1.0]))
def test_it_never_leaves_its_bounds(calls: list[tuple[float, int, bool]], smoothing: float) -> None:
    after(calls, smoothing)


@given(st.lists(CALL, max_size=50), st.floats(0.001, 10.0), st.floats(0.001, 10.0), st.integers(5, 100))
def test_a_longer_time_never_means_a_larger_limit_and_a_drop_the_smallest(
    calls: list[tuple[float, int, bool]], one_s: float, other_s: float, in_flight: int
) -> None:
    short, long, drop = (after(calls) for _ in range(3))
    short.observe(min(one_s, other_s), in_flight)
    long.observe(max(one_s, other_s), in_flight)
    drop.observe(one_s, in_flight, dropped=True)
    assert drop.limit <= long.limit <= short.limit


@given(st.floats(0.001, 10.0), st.integers(1, 50), st.integers(1, 50))
def test_more_in_flight_never_means_less_growth(rtt_s: float, one: int, other: int) -> None:
    few, many = (taught(lowest=4.0) for _ in range(2))
    few.observe(max(rtt_s, 0.010), min(one, other))
    many.observe(max(rtt_s, 0.010), max(one, other))
    assert few.limit <= many.limit or many.limit == 9


# A server in virtual time: one queue, SERVICE_S a call, calls that come at random, DEADLINE_S to answer.

SERVICE_S, DEADLINE_S = 0.004, 0.050
LOWEST, INITIAL, HIGHEST = 2.0, 8.0, 64.0


class Ended(NamedTuple):
    at_s: float
    took_s: float  # infinite: not admitted
    limit: float


def simulate(*phases: tuple[float, float], sigma: float = 0.5, stall_s: float = math.inf, seed: int = 1) -> list[Ended]:
    """What becomes of the calls of phases (seconds, load as a share of capacity).

    Times of service are log-normal with that ``sigma``; nothing is served in the 0.5 s after ``stall_s``.
    """
    rng, now_s, free_s, phase_end_s = random.Random(seed), 0.0, 0.0, 0.0
    clock_s = 0.0
    vegas = Vegas(initial=INITIAL, lowest=LOWEST, highest=HIGHEST, clock=lambda: clock_s, rng=rng.random)
    in_flight: list[tuple[float, float, int]] = []
    ended: list[Ended] = []
    for seconds, load in phases:
        phase_end_s += seconds
        while (now_s := now_s + rng.expovariate(load / SERVICE_S)) < phase_end_s:
            while in_flight and in_flight[0][0] <= now_s:
                clock_s, came_s, n = heapq.heappop(in_flight)
                vegas.observe(clock_s - came_s, n, dropped=clock_s - came_s > DEADLINE_S)
                ended.append(Ended(clock_s, clock_s - came_s, vegas.limit))
            if len(in_flight) < vegas.limit:
                start_s = max(now_s, free_s)
                start_s = stall_s + 0.5 if stall_s <= start_s < stall_s + 0.5 else start_s
                free_s = start_s + SERVICE_S * rng.lognormvariate(-(sigma**2) / 2, sigma)
                heapq.heappush(in_flight, (free_s, now_s, len(in_flight) + 1))
            else:
                ended.append(Ended(now_s, math.inf, vegas.limit))
        now_s = phase_end_s
    return ended


def between(ended: list[Ended], start_s: float, end_s: float) -> list[Ended]:
    return [call for call in ended if start_s <= call.at_s < end_s]


def goodput(ended: list[Ended], start_s: float, end_s: float) -> float:
    """Calls answered in time, as a share of capacity."""
    return sum(c.took_s <= DEADLINE_S for c in between(ended, start_s, end_s)) * SERVICE_S / (end_s - start_s)


def answered(ended: list[Ended], start_s: float, end_s: float) -> float:
    """Calls answered in time, as a share of those that came."""
    calls = between(ended, start_s, end_s)
    return sum(c.took_s <= DEADLINE_S for c in calls) / len(calls)


OVERLOADS = pytest.mark.parametrize("load", [2.0, 5.0])
NOISE = pytest.mark.parametrize("sigma", [0.0, 0.5])


@OVERLOADS
@NOISE
def test_an_overload_leaves_the_goodput_and_a_small_limit(load: float, sigma: float) -> None:
    ended = simulate((5, 0.5), (60, load), sigma=sigma)
    for start_s in range(5, 65, 5):
        assert goodput(ended, start_s, start_s + 5) >= 0.85
    assert all(c.limit <= INITIAL for c in between(ended, 10, 65))
    times_s = sorted(c.took_s for c in between(ended, 10, 65) if c.took_s < math.inf)
    assert times_s[int(0.99 * len(times_s))] <= DEADLINE_S


@OVERLOADS
@NOISE
def test_the_limit_does_not_drift_under_a_long_overload(load: float, sigma: float) -> None:
    ended = simulate((5, 0.5), (300, load), sigma=sigma)
    assert max(c.limit for c in between(ended, 200, 305)) <= max(c.limit for c in between(ended, 10, 60))


@OVERLOADS
def test_a_start_into_an_overload_holds_too(load: float) -> None:
    ended = simulate((30, load))
    assert goodput(ended, 0, 30) >= 0.85
    assert all(c.limit <= INITIAL for c in ended)


@OVERLOADS
@NOISE
def test_all_is_as_before_within_five_seconds_of_an_overload(load: float, sigma: float) -> None:
    ended = simulate((10, 0.5), (30, load), (15, 0.5), sigma=sigma)
    assert answered(ended, 45, 55) >= 0.99
    assert answered(ended, 41, 45) >= 0.98
    assert all(c.limit >= INITIAL / 2 for c in between(ended, 45, 55))


@pytest.mark.parametrize("load", [0.5, 2.0])
def test_one_stall_is_over_when_it_is_over(load: float) -> None:
    ended = simulate((10, load), (20, load), stall_s=10.0)
    assert goodput(ended, 11, 16) >= 0.9 * min(load, 1.0)
    assert goodput(ended, 15, 30) >= 0.95 * min(load, 1.0)
    assert all(LOWEST < c.limit <= 2 * INITIAL for c in between(ended, 10, 30))
