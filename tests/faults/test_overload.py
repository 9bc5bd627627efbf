"""More calls than can be served: users are answered, others are shed, and it is over when the load is.

Capacity is what four callers get who ask again as soon as they are answered, measured just before. A run in which the
callers could not keep their pace is not valid: it is made again, and in the end the test fails with what was measured.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from server.edge.servicer import SERVICE
from terrace.v1 import recommendation_pb2 as pb
from tests.faults.callers import OK, RETRIES, SHED, Phase
from tests.faults.figures import note
from tests.faults.fuzzer import good
from tests.faults.server_under_load import server_under_load
from tests.server.running import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.callers import Calls
    from tests.faults.server_under_load import ServerUnderLoad

DEADLINE_MS = 100.0
MIX = (0.5, 0.3, 0.2)
BACK_WITHIN_S = 3
"""Whole seconds after the overload, in the worst of which calls may still be lowered or shed."""
AFTER_S = 8
USUAL = 0.7
"""Load before and after, as a share of the capacity."""
CALLS = 100


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerUnderLoad]:
    with server_under_load(tmp_path_factory.mktemp("calls")) as load:
        yield load


def mixed(load: float, capacity: float, seconds: float) -> Phase:
    return Phase(seconds, tuple(load * capacity * share for share in MIX))


def overloaded(server: ServerUnderLoad, times: float, goodput: float, seconds: float) -> None:
    """Users are answered, others shed, nothing grows, at so many times the capacity."""
    capacity, before_mb = server.capacity(), server.rss_mb

    calls = server.run([mixed(times, capacity, seconds)])

    users, others, probes = calls.of("user"), calls.of("prefetch", "batch"), calls.probes
    served = calls.of("user", "prefetch", "batch")
    accepted = served.where(np.equal(served.status, OK))
    found = {
        "capacity_per_s": capacity,
        "goodput": served.in_time(DEADLINE_MS).sum() / seconds / capacity,
        "users_in_time": users.in_time(DEADLINE_MS).mean(),
        "users_by_tier": {pb.Tier.Name(t): float(np.mean(users.tier == t)) for t in (1, 2, 4)},
        "others_shed": others.share(SHED),
        "accepted_ms": [accepted.percentile_ms(p) for p in (50, 99)],
        "health_ms": [probes.percentile_ms(p) for p in (50, 99)],
        "memory": server.rss_mb / before_mb - 1,
    }
    note(f"overload x{times:g} for {seconds:g} s", found)
    assert found["users_in_time"] >= 0.995, found
    assert not users.share(SHED), found
    assert found["goodput"] >= goodput, found
    assert set(others.status.tolist()) <= {OK, SHED}, found
    assert others.never_again[others.status == SHED].all(), found
    assert others.share(SHED) > 0.25, found
    assert probes.share(OK) == 1, found
    assert probes.percentile_ms(99) <= 50, found
    assert found["memory"] < 0.2, found
    stats = server.stats()
    assert (stats["in_flight"], stats["free_jobs"]) == (0, 64)
    assert {breaker["opened"] for breaker in stats["breakers"].values()} == {0}


@pytest.mark.parametrize(("times", "goodput"), [(2.0, 0.90), (5.0, 0.80)])
def test_overload_users_are_answered_in_time_and_what_can_wait_is_shed(
    server: ServerUnderLoad, times: float, goodput: float
) -> None:
    overloaded(server, times, goodput, 6.0)


@pytest.mark.faults_long
@pytest.mark.parametrize(("times", "goodput"), [(2.0, 0.90), (5.0, 0.80)])
def test_overload_for_a_minute_users_are_answered_in_time_and_what_can_wait_is_shed(
    server: ServerUnderLoad, times: float, goodput: float
) -> None:
    overloaded(server, times, goodput, 60.0)


def recovered(server: ServerUnderLoad, spike_s: float) -> None:
    """Callers who retry do not keep an overload alive that has ended."""
    capacity = server.capacity()
    before_s = 3.0
    served = sum(server.stats()["served"].values())

    calls = server.run(
        [mixed(USUAL, capacity, before_s), mixed(5.0, capacity, spike_s), mixed(USUAL, capacity, AFTER_S)], retries=True
    )

    attempts = sum(server.stats()["served"].values()) - served
    users, drop_s = calls.of("user"), before_s + spike_s
    usual = users.between(0.5, before_s)
    seconds = [users.between(drop_s + i, drop_s + i + 1) for i in range(AFTER_S)]
    as_usual = [_is_as_usual(second, usual) for second in seconds]
    back_s = _back_after(as_usual)
    others = calls.of("prefetch", "batch")
    shed = [others.between(drop_s + i, drop_s + i + 1).share(SHED) for i in range(AFTER_S)]
    found = {
        "attempts_per_call": attempts / (len(calls) - len(calls.probes)),
        "deep_before": float(np.mean(usual.tier == pb.TIER_DEEP)),
        "deep_after": [round(float(np.mean(second.tier == pb.TIER_DEEP)), 2) for second in seconds],
        "p99_before_ms": usual.percentile_ms(99),
        "p99_after_ms": [round(second.percentile_ms(99)) for second in seconds],
        "shed_after": [round(float(share), 2) for share in shed],
        "back_s": back_s,
    }
    note(f"recovery from {spike_s:g} s", found)
    assert back_s is not None, found
    assert back_s <= BACK_WITHIN_S, found
    assert not any(shed[BACK_WITHIN_S:]), found
    assert found["attempts_per_call"] <= 1.1, found


def _back_after(as_usual: list[bool]) -> int | None:
    """Seconds until all that follow are as usual but for one, which the machine may have spoilt; None if they never are.

    At least as many must follow as may pass before: one usual second at the end is no recovery.
    """
    latest = len(as_usual) - BACK_WITHIN_S - 1
    return next((i for i in range(latest + 1) if as_usual[i] and sum(as_usual[i:]) >= len(as_usual) - i - 1), None)


@pytest.mark.parametrize(
    ("seconds", "back_s"),
    [
        ("++++++++", 0),
        ("--++++++", 2),
        ("--+++-++", 2),
        ("----++++", 4),
        ("-----+++", None),
        ("-------+", None),
        ("-+-+-+-+", None),
        ("--------", None),
    ],
)
def test_recovery_is_found_only_where_enough_usual_seconds_follow(seconds: str, back_s: int | None) -> None:
    assert _back_after([each == "+" for each in seconds]) == back_s


def _is_as_usual(calls: Calls, usual: Calls) -> bool:
    """As many deep answers, and as quick; half as slow again is within what seconds differ by."""
    deep, usually_deep = (np.mean(each.tier == pb.TIER_DEEP) for each in (calls, usual))
    return bool(deep >= usually_deep - 0.1) and calls.percentile_ms(99) <= 1.5 * usual.percentile_ms(99) + 10


def test_recovery_the_usual_rungs_are_back_within_seconds_though_callers_retry(server: ServerUnderLoad) -> None:
    recovered(server, 4.0)


@pytest.mark.faults_long
def test_recovery_from_a_minute_of_overload_takes_no_longer(server: ServerUnderLoad) -> None:
    recovered(server, 60.0)


async def test_retries_where_every_call_fails_there_are_hardly_more_attempts_than_calls() -> None:
    """Throttled by the client's own rule where the server is not ready; none at all where it says never to retry."""
    options = [("grpc.service_config", json.dumps(RETRIES))]
    async with running() as server, grpc.aio.insecure_channel(server.address, options=options) as channel:
        recommend = channel.unary_unary(f"/{SERVICE}/Recommend")
        versions, server.edge.versions = server.edge.versions, None
        unavailable = [await _ending(recommend, "user") for _ in range(CALLS)]
        attempts = len(server.calls)
        server.edge.versions = versions
        server.admission._pressure._value = 1e9
        shed = [await _ending(recommend, "batch") for _ in range(CALLS)]
        attempts_shed = len(server.calls) - attempts

    found = {"unavailable": attempts / CALLS, "shed": attempts_shed / CALLS}
    note("attempts per call where all fail", found)
    assert set(unavailable) == {grpc.StatusCode.UNAVAILABLE}
    assert shed.count(grpc.StatusCode.RESOURCE_EXHAUSTED) >= CALLS - 1
    assert found["unavailable"] <= 1.1, found
    assert attempts_shed == CALLS, found


async def _ending(recommend: Any, who: str) -> grpc.StatusCode:
    try:
        await recommend(good("Recommend")[0].SerializeToString(), metadata=(("terrace-criticality", who),), timeout=5)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK
