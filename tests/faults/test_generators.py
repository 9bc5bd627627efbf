"""Generators raise, come late, hang or find nothing: the others answer, and the list is never empty."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.faults.history import nearly_all, outcomes, percentile_ms, spread, unanswered

if TYPE_CHECKING:
    from tests.faults.chaos import Callers, ChaosServer
    from tests.faults.run_length import RunLength

RATE = 60
FEW = 20
MOST_AWAY = 2


@pytest.fixture(autouse=True)
def _unfiltered(callers: Callers) -> None:
    callers.mix = replace(callers.mix, filtered=False)


@pytest.mark.parametrize(
    ("name", "fault", "reason"),
    [
        ("far", "raise", "failed"),
        ("far", "slow 150", "late"),
        ("far", "hang", "late"),
        ("neighbours", "raise", "failed"),
    ],
)
async def test_the_others_answer_from_deep_without_a_broken_generator(
    server: ChaosServer, callers: Callers, name: str, fault: str, reason: str
) -> None:
    server.command(f"generator {name} {fault}")
    calls = [await callers.call() for _ in range(8)]

    assert outcomes(calls, name).get(f"DEEP {reason}", 0) >= 7, outcomes(calls, name)


@pytest.mark.parametrize(
    ("name", "fault", "reason"),
    [
        ("far", "raise", "failed"),
        ("far", "slow 150", "late"),
        ("far", "hang", "late"),
        ("neighbours", "raise", "failed"),
    ],
)
async def test_a_generator_that_stays_broken_is_left_alone_until_it_is_healed(
    server: ChaosServer,
    callers: Callers,
    length: RunLength,
    *,
    figures: dict[str, object],
    name: str,
    fault: str,
    reason: str,
) -> None:
    await callers.run(RATE, length.seconds)
    callers.broken()
    broken_s = time.monotonic()
    server.command(f"generator {name} {fault}")
    opened_s = await callers.until(lambda: server.breaker(name) == "open", RATE, 5.0, "the breaker opens")
    hurt = await callers.since(broken_s)
    left_alone = await callers.run(RATE, length.seconds)
    stats = server.stats()
    server.command(f"generator {name} heal")
    callers.healed()
    closed_s = await callers.until(lambda: server.breaker(name) == "closed", RATE, 10.0, "the breaker closes")
    await callers.run(RATE, 0.5)
    healed = server.stats()
    figures |= {
        "opened_s": opened_s,
        "closed_s": closed_s,
        "hurt_ms": spread(hurt),
        "left_alone_ms": spread(left_alone),
        "hurt": outcomes(hurt, name),
        "left_alone": outcomes(left_alone, name),
        "stuck": stats["stuck"],
    }

    assert not unanswered(hurt + left_alone)
    assert opened_s < 2.0
    assert sum(call.dropped.get(name) == reason for call in hurt) >= FEW
    assert nearly_all(outcomes(left_alone, name).get("DEEP breaker_open", 0), len(left_alone)), outcomes(
        left_alone, name
    )
    assert stats["stuck"] <= MOST_AWAY
    assert healed["stuck"] == 0
    assert healed["free_jobs"] == 64
    assert healed["parts"][name]["most_probing"] == 1


async def test_a_quick_generator_that_is_slow_is_left_alone(
    server: ChaosServer, callers: Callers, length: RunLength
) -> None:
    server.command("generator neighbours slow 30")
    await callers.until(lambda: server.breaker("neighbours") == "open", 20, 10.0, "the breaker opens")
    after = await callers.run(RATE, length.seconds)

    left_alone = [call.dropped.get("neighbours") == "breaker_open" for call in after if call.tier == "DEEP"]
    assert len(left_alone) >= 0.95 * len(after)
    assert sum(left_alone) >= 0.95 * len(left_alone)  # now and then one is let through to see
    assert percentile_ms(after, 50) < 10.0


@pytest.mark.parametrize("name", ["far", "neighbours"])
async def test_a_generator_that_finds_nothing_is_no_failure(
    server: ChaosServer, callers: Callers, length: RunLength, name: str
) -> None:
    server.command(f"generator {name} empty")
    calls = await callers.run(RATE, length.seconds)

    assert nearly_all(outcomes(calls, name).get("DEEP", 0), len(calls)), outcomes(calls, name)
    assert server.breaker(name) == "closed"


@pytest.mark.parametrize("also", ["neighbours", "far"])
async def test_popularity_that_raises_leaves_deep_as_it_was(
    server: ChaosServer, callers: Callers, length: RunLength, also: str
) -> None:
    server.command("generator popularity raise")
    server.command(f"generator {also} raise")
    calls = await callers.run(RATE, length.seconds, limit=20)

    assert nearly_all(sum(call.tier == "DEEP" for call in calls), len(calls)), outcomes(calls)
    assert {call.dropped["popularity"] for call in calls if call.tier == "DEEP"} <= {"failed", "breaker_open"}


async def test_when_every_generator_and_popularity_raise_a_list_in_memory_answers(
    server: ChaosServer, callers: Callers, length: RunLength
) -> None:
    callers.mix = replace(callers.mix, filtered=True)
    for name in ("neighbours", "far", "popularity"):
        server.command(f"generator {name} raise")
    lines_before = len(server.noise())
    calls = await callers.run(2 * RATE, 2 * length.seconds)

    assert not unanswered(calls)
    assert {call.tier for call in calls if call.ok} == {"POPULARITY"}
    assert all(call.items for call in calls if call.ok)
    assert server.stats()["floor_failures"] > 0
    excluding = [call for call in calls if call.request.exclude]
    assert excluding  # and that none of those comes back is an invariant
    traces = sum(line.startswith("Traceback") for line in server.noise()[lines_before:])
    assert traces <= 5  # what fails at every call is logged once in ten seconds
