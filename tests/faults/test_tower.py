"""The user tower hangs, is slow, raises or answers nonsense: everybody is answered from below, and DEEP is back at once."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.faults.history import nearly_all, outcomes, percentile_ms, spread
from tests.faults.run_length import DEADLINE_MS

if TYPE_CHECKING:
    from tests.faults.chaos import Callers, ChaosServer
    from tests.faults.run_length import RunLength

RATE = 60
MOST_STUCK = 2


@pytest.fixture(autouse=True)
def _unfiltered(callers: Callers) -> None:
    callers.mix = replace(callers.mix, filtered=False)


async def test_a_run_of_the_tower_that_overruns_is_stopped_and_the_next_request_is_deep(
    server: ChaosServer, callers: Callers
) -> None:
    for _ in range(4):
        server.command("tower hang")
        begun_s = time.monotonic()
        await callers.call()
        server.command("tower heal")
        while server.stats()["parts"]["user_tower"]["running"]:
            assert time.monotonic() - begun_s < 10.0
        await callers.call()
    calls = await callers.since(0)

    assert outcomes(calls[::2]).get("CF late", 0) >= 3, outcomes(calls)
    assert outcomes(calls[1::2]).get("DEEP", 0) >= 3, outcomes(calls)
    assert server.stats()["free_jobs"] == 64
    assert server.stats()["parts"]["user_tower"]["calls"] == sum(call.tier in {"CF", "DEEP"} for call in calls)


async def test_a_tower_that_cannot_be_stopped_holds_up_no_other_request(server: ChaosServer, callers: Callers) -> None:
    server.command("tower deaf")
    hung = await callers.call()
    server.command("tower raise")  # the first run still hangs; others run to their own end
    failed = await callers.call()
    stats = server.stats()
    server.command("tower heal")
    well = [await callers.call() for _ in range(3)]

    assert (hung.tier, hung.why) == ("CF", "late")
    assert (failed.tier, failed.why) == ("CF", "failed")
    assert stats["parts"]["user_tower"]["running"] == 1
    assert well[-1].tier == "DEEP"
    assert server.breaker("scorer") == "closed"


@pytest.mark.parametrize("fault", ["hang", "deaf", "slow 1000"])
async def test_while_the_tower_hangs_everybody_is_answered_from_below_and_soon_at_once(
    server: ChaosServer, callers: Callers, length: RunLength, figures: dict[str, object], fault: str
) -> None:
    await callers.run(RATE, length.seconds)
    callers.broken()
    server.command(f"tower {fault}")
    opened_s = await callers.until(lambda: server.breaker("user_tower") == "open", RATE, 10.0, "the breaker opens")
    hurt = await callers.since(callers.history.broken_s)
    left_alone = await callers.run(RATE, length.seconds)
    stats = server.stats()
    server.command("tower heal")
    callers.healed()
    closed_s = await callers.until(lambda: server.breaker("user_tower") == "closed", RATE, 35.0, "the breaker closes")
    again = await callers.run(RATE, length.seconds)
    figures |= {
        "opened_s": opened_s,
        "closed_s": closed_s,
        "hurt_ms": spread(hurt),
        "left_alone_ms": spread(left_alone),
        "hurt": outcomes(hurt),
        "left_alone": outcomes(left_alone),
        "again": outcomes(again),
    }

    assert opened_s <= 2.0
    for calls in (hurt, left_alone):
        assert percentile_ms(calls, 99) <= DEADLINE_MS
        assert nearly_all(sum(call.tier == "CF" for call in calls), len(calls)), outcomes(calls)
    assert stats["stuck"] <= MOST_STUCK + 1
    assert stats["breakers"]["scorer"]["opened"] == 0
    assert outcomes(again).get("DEEP", 0) >= 0.8 * len(again), outcomes(again)
    assert server.stats()["parts"]["user_tower"]["most_probing"] == 1


@pytest.mark.parametrize(
    ("fault", "reason"), [("raise", "failed"), ("nan", "invalid_scores"), ("shape", "invalid_scores")]
)
async def test_a_wrong_tower_is_answered_from_below_until_it_is_right_again(
    server: ChaosServer, callers: Callers, fault: str, reason: str
) -> None:
    server.command(f"tower {fault}")
    wrong = [await callers.call() for _ in range(10)]
    server.command("tower heal")
    right = [await callers.call() for _ in range(3)]

    assert outcomes(wrong).get(f"CF {reason}", 0) >= 9, outcomes(wrong)
    assert right[-1].tier == "DEEP"
    assert server.stats()["breakers"]["scorer"]["opened"] == 0
