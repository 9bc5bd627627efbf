"""A server at several times its capacity: users are answered in time, others are shed, and each part of it is needed."""

from __future__ import annotations

from collections import Counter

import pytest

from server.overload import admission
from server.overload.shedding import Criticality
from tests.server.overload.simulation import (
    BATCH,
    DEEP,
    ONE_CORE,
    PREFETCH,
    SLOW_MODEL,
    STALLS,
    USER,
    WITHOUT,
    Machine,
    found,
    lowered,
    share,
    simulate,
)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("times", [2.0, 5.0])
def test_under_overload_users_are_answered_in_time_and_what_can_wait_is_shed(times: float, seed: int) -> None:
    calls = [call for call in simulate([(0.6, 2.0), (times, 10.0)], seed) if call.came_s > 3.0]
    by_kind = {kind: [call for call in calls if call.kind is kind] for kind in Criticality}
    tiers = Counter(call.tier for call in by_kind[USER])

    assert share(by_kind[USER], lambda call: call.in_time) >= 0.995
    assert share(by_kind[BATCH], lambda call: call.shed) > 0.8
    assert share(by_kind[PREFETCH], lambda call: call.shed) > 0.35
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
    assert all(call.in_time for call in after)
    assert not any(call.shed for call in after)


def test_a_server_with_room_sheds_nobody_and_answers_deep() -> None:
    calls = simulate([(0.4, 20.0)])

    assert share(calls, lambda call: call.tier is DEEP) > 0.99
    assert all(call.in_time for call in calls)
    assert not any(call.shed for call in calls)


@pytest.mark.parametrize(
    ("part", "load", "worse", "by"),
    [
        ("the bound for DEEP", (5.0, SLOW_MODEL), "users' DEEP", 0.2),
        ("room kept for users", (1.2, SLOW_MODEL), "users' DEEP", 0.1),
        ("the bound for the delay", (5.0, ONE_CORE), "users' DEEP", 0.1),
        ("the bound for the delay", (8.0, ONE_CORE), "users in time", 0.05),
        ("shedding", (2.0, ONE_CORE), "users' DEEP", 0.2),
        ("shedding", (5.0, ONE_CORE), "users' DEEP", 0.1),
    ],
)
def test_no_part_of_admission_can_be_left_out(
    part: str, load: tuple[float, Machine], worse: str, by: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = found(*load)[worse]
    for name, value in WITHOUT[part].items():
        monkeypatch.setattr(admission, name, value)

    assert found(*load)[worse] < whole - by


def test_a_stall_of_the_machine_is_over_when_its_queue_is() -> None:
    """Four times a second, for up to 16 ms: what one probe of the queue found must not count for long."""
    calls = simulate([(0.7, 15.0)], stalls=STALLS)

    assert lowered(STALLS) < 0.01
    assert share(calls, lambda call: call.shed) < 0.01


@pytest.mark.parametrize("load", [0.35, 0.7])
def test_a_slow_user_store_sheds_nobody_and_lowers_no_user_while_there_is_cpu(load: float) -> None:
    """However long calls wait for it."""
    calls = simulate([(load, 20.0)], store_s=0.01)

    assert share(calls, lambda call: call.in_time) > 0.995
    assert not any(call.shed for call in calls)
    assert share([call for call in calls if call.kind is USER], lambda call: call.tier is DEEP) > 0.98
