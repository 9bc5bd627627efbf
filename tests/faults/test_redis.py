"""The user store is broken in every way that a network and a server can be: answers come in time, from what is left."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.faults.chaos import Callers, ChaosServer
from tests.faults.chaos_world import world
from tests.faults.fault_proxy import BLACK_HOLE, GARBAGE, HEALTHY, LOADING, OUT_OF_MEMORY, REFUSED, Mode, Toxic
from tests.faults.history import nearly_all, outcomes, percentile_ms, unanswered
from tests.faults.invariants import check

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.fault_proxy import ProxyThread
    from tests.faults.run_length import RunLength

RATE = 100
MOST_ADDED_MS, MOST_ADDED_AFTER_MS = 35.0, 1.0
CONNECTIONS, FEW = 32, 4
RECOVERY_S = 5.0
SLOW = Mode(down=Toxic(latency_s=0.2))
FAULTS = {
    "refused": (REFUSED, "store_failed"),
    "black hole": (BLACK_HOLE, "store_late"),
    "200 ms late": (SLOW, "store_late"),
    "reset in mid reply": (Mode(down=Toxic(reset_after=10)), "store_failed"),
    "garbage": (GARBAGE, "store_failed"),
    "half a reply": (Mode(down=Toxic(close_after=10)), "store_failed"),
    "loading": (LOADING, "store_failed"),
    "out of memory": (OUT_OF_MEMORY, "store_failed"),
}
IN_SHORT = {"refused", "black hole", "half a reply"}


@pytest.fixture(autouse=True)
def _with_recent_events(callers: Callers) -> None:
    callers.mix = replace(callers.mix, recent=True)


@pytest.mark.parametrize(
    "fault", [fault if fault in IN_SHORT else pytest.param(fault, marks=pytest.mark.faults_long) for fault in FAULTS]
)
async def test_a_broken_store_costs_little_and_then_nothing_and_comes_back(
    server: ChaosServer,
    callers: Callers,
    redis_proxy: ProxyThread,
    length: RunLength,
    *,
    figures: dict[str, object],
    fault: str,
) -> None:
    mode, reason = FAULTS[fault]
    whole = await callers.run(RATE, length.seconds)
    callers.broken()
    redis_proxy.mode = mode
    redis_proxy.proxy.peak = redis_proxy.proxy.open
    reads, connected = server.stats()["parts"]["user_store"]["calls"], redis_proxy.proxy.total
    opened_s = await callers.until(lambda: server.breaker("user_store") == "open", RATE, 5.0, "the breaker opens")
    hurt = await callers.since(callers.history.broken_s)
    assert await callers.serving()
    left_alone = await callers.run(RATE, 0.5)
    unknown = [await callers.call(recent=()) for _ in range(5)]
    attempts = server.stats()["parts"]["user_store"]["calls"] - reads
    connected = redis_proxy.proxy.total - connected
    redis_proxy.mode = HEALTHY
    callers.healed()
    closed_s = await callers.until(lambda: server.breaker("user_store") == "closed", RATE, 10.0, "the breaker closes")
    known = await callers.run(RATE, 0.2, recent=())
    again = await callers.run(RATE, length.seconds)

    usual_ms, before_ms, after_ms = (percentile_ms(calls, 50) for calls in (whole + again, hurt, left_alone))
    figures |= {
        "usual_ms": usual_ms,
        "added_before_ms": before_ms - usual_ms,
        "added_after_ms": after_ms - usual_ms,
        "opened_s": opened_s,
        "closed_s": closed_s,
        "connections": redis_proxy.proxy.peak,
        "attempts": attempts,
        "hurt": outcomes(hurt, "user_store"),
        "left_alone": outcomes(left_alone, "user_store"),
        "unknown": outcomes(unknown),
        "known": outcomes(known),
    }
    assert before_ms - usual_ms <= MOST_ADDED_MS
    assert after_ms - usual_ms <= MOST_ADDED_AFTER_MS
    assert not unanswered(hurt + left_alone)
    for calls in (hurt, left_alone):
        deep = sum(call.tier == "DEEP" for call in calls)
        assert nearly_all(deep, len(calls)), outcomes(calls)
    assert sum(call.dropped.get("user_store") == reason for call in hurt) >= 20
    assert {call.dropped.get("user_store", "") for call in left_alone if call.ok} <= {"breaker_open", reason}
    assert set(outcomes(unknown)) <= {"POPULARITY breaker_open", f"POPULARITY {reason}"}
    assert attempts <= len(hurt) + len(left_alone) + len(unknown)
    assert connected <= attempts + 1
    assert redis_proxy.proxy.peak <= CONNECTIONS
    assert server.stats()["parts"]["user_store"]["most_probing"] <= 1
    assert closed_s <= RECOVERY_S
    assert sum(call.tier == "DEEP" for call in known) >= len(known) // 2


@pytest.mark.parametrize("fault", ["refused", "black hole"])
async def test_without_recent_events_a_broken_store_leaves_popularity_and_the_reason(
    callers: Callers, redis_proxy: ProxyThread, fault: str
) -> None:
    mode, reason = FAULTS[fault]
    redis_proxy.mode = mode
    calls = [await callers.call(recent=()) for _ in range(10)]

    assert outcomes(calls).get(f"POPULARITY {reason}", 0) >= 9, outcomes(calls)
    assert {call.skipped["CF"] for call in calls if call.why == reason} == {reason}


async def test_when_every_connection_is_in_use_a_read_is_late_at_once(
    chaos_folder: Path, chaos_namespace: str, redis_proxy: ProxyThread, tmp_path: Path
) -> None:
    url = f"redis://127.0.0.1:{redis_proxy.port}"
    options = {"store_url": url, "namespace": chaos_namespace, "store_connections": FEW}
    with ChaosServer(chaos_folder, tmp_path / "log", **options) as server:
        async with Callers(server.address, world()) as callers:
            redis_proxy.mode = SLOW
            redis_proxy.proxy.peak = redis_proxy.proxy.open
            calls = await callers.at_once(4 * FEW, recent=("item-00",), user="user-00")
            misses, peak = server.stats()["store_misses"], redis_proxy.proxy.peak
            redis_proxy.mode = HEALTHY
            await callers.until(lambda: not server.stats()["store_in_use"], 20, 5.0, "the connections are free")

    assert misses["busy"] > 0
    assert peak <= FEW
    assert not unanswered(calls)
    busy = [call for call in calls if call.dropped.get("user_store") == "store_late"]
    assert min(call.stages["store"] for call in busy) < 10.0
    check(callers.history)
