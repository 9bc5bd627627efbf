"""The model hangs, is slow, raises or answers nonsense: everybody is answered from below, in time."""

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
THREADS_FREE_MS = 50.0


@pytest.fixture(autouse=True)
def _unfiltered(callers: Callers) -> None:
    callers.mix = replace(callers.mix, filtered=False)


@pytest.mark.parametrize("fault", ["hang", "slow 1000"])
async def test_a_run_that_overruns_is_stopped_and_its_thread_is_free_at_once(
    server: ChaosServer, callers: Callers, fault: str
) -> None:
    server.command(f"scorer {fault}")
    for _ in range(5):
        begun_s = time.monotonic()
        await callers.call()
        while server.stats()["parts"]["scorer"]["running"]:
            assert time.monotonic() - begun_s < 10.0
        free_ms = (time.monotonic() - begun_s) * 1000
        assert free_ms < DEADLINE_MS + THREADS_FREE_MS
    calls = await callers.since(0)

    assert outcomes(calls).get("CF late", 0) >= 4, outcomes(calls)
    assert server.stats()["free_jobs"] == 64


@pytest.mark.parametrize("fault", ["hang", "slow 1000"])
async def test_while_the_model_hangs_everybody_is_answered_from_below_and_soon_at_once(
    server: ChaosServer, callers: Callers, length: RunLength, figures: dict[str, object], fault: str
) -> None:
    await callers.run(RATE, length.seconds)
    callers.broken()
    server.command(f"scorer {fault}")
    opened_s = await callers.until(lambda: server.breaker("scorer") == "open", RATE, 10.0, "the breaker opens")
    hurt = await callers.since(callers.history.broken_s)
    left_alone = await callers.run(RATE, length.outage_s)
    server.command("scorer heal")
    callers.healed()
    closed_s = await callers.until(lambda: server.breaker("scorer") == "closed", RATE, 35.0, "the breaker closes")
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
        assert not any(call.tier == "DEEP" for call in calls)
    assert percentile_ms([call for call in left_alone if call.why == "breaker_open"], 50) < 10.0
    assert outcomes(again).get("DEEP", 0) >= 0.8 * len(again), outcomes(again)
    assert server.stats()["parts"]["scorer"]["most_probing"] == 1


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("raise", "failed"), ("nan", "invalid_scores"), ("inf", "invalid_scores"), ("shape", "invalid_scores")],
)
async def test_a_wrong_model_is_replaced_by_the_rung_below_and_counted_until_it_is_right_again(
    server: ChaosServer, callers: Callers, fault: str, reason: str
) -> None:
    counted = f'terrace_skipped_total{{reason="{reason}",tier="DEEP"}}'
    before = server.metrics().get(counted, 0.0)
    server.command(f"scorer {fault}")
    wrong = [await callers.call() for _ in range(10)]
    server.command("scorer heal")
    right = [await callers.call() for _ in range(3)]

    assert outcomes(wrong).get(f"CF {reason}", 0) >= 9, outcomes(wrong)
    assert right[-1].tier == "DEEP"
    assert server.metrics()[counted] - before == outcomes(wrong)[f"CF {reason}"]
