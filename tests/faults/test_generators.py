"""Generators raise, come late, hang or find nothing: the others answer, and the list is never empty."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.faults.history import percentile_ms, spread, told, unanswered

if TYPE_CHECKING:
    from tests.faults.chaos import Callers, ChaosServer
    from tests.faults.forms import Form

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
    server.tell(f"generator {name} {fault}")
    calls = [await callers.call() for _ in range(8)]

    assert told(calls, name).get(f"DEEP {reason}", 0) >= 7, told(calls, name)


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
    form: Form,
    *,
    figures: dict[str, object],
    name: str,
    fault: str,
    reason: str,
) -> None:
    await callers.run(RATE, form.seconds)
    callers.broken()
    broken_s = time.monotonic()
    server.tell(f"generator {name} {fault}")
    opened_s = await callers.until(lambda: server.breaker(name) == "open", RATE, 5.0, "the breaker opens")
    hurt = await callers.since(broken_s)
    left_alone = await callers.run(RATE, form.seconds)
    stats = server.stats()
    server.tell(f"generator {name} heal")
    callers.healed()
    closed_s = await callers.until(lambda: server.breaker(name) == "closed", RATE, 10.0, "the breaker closes")
    await callers.run(RATE, 0.5)
    healed = server.stats()
    figures |= {
        "opened_s": opened_s,
        "closed_s": closed_s,
        "hurt_ms": spread(hurt),
        "left_alone_ms": spread(left_alone),
        "hurt": told(hurt, name),
        "left_alone": told(left_alone, name),
        "stuck": stats["stuck"],
    }

    assert not unanswered(hurt + left_alone)
    assert opened_s < 2.0 * callers.bounds.slack
    assert sum(call.dropped.get(name) == reason for call in hurt) >= FEW
    assert callers.bounds.enough(told(left_alone, name).get("DEEP breaker_open", 0), len(left_alone)), told(
        left_alone, name
    )
    assert stats["stuck"] <= MOST_AWAY
    assert healed["stuck"] == 0
    assert healed["free_slots"] == 64
    assert healed["parts"][name]["most_probing"] == 1


async def test_a_quick_generator_that_is_slow_is_left_alone(server: ChaosServer, callers: Callers, form: Form) -> None:
    server.tell("generator neighbours slow 30")
    await callers.until(lambda: server.breaker("neighbours") == "open", 20, 10.0, "the breaker opens")
    after = await callers.run(RATE, form.seconds)

    left_alone = [call.dropped.get("neighbours") == "breaker_open" for call in after if call.tier == "DEEP"]
    assert sum(left_alone) >= 0.95 * len(left_alone)  # now and then one is let through to see
    assert percentile_ms(after, callers.bounds.percent) < 10.0


@pytest.mark.parametrize("name", ["far", "neighbours"])
async def test_a_generator_that_finds_nothing_is_no_failure(
    server: ChaosServer, callers: Callers, form: Form, name: str
) -> None:
    server.tell(f"generator {name} empty")
    calls = await callers.run(RATE, form.seconds)

    assert callers.bounds.enough(told(calls, name).get("DEEP", 0), len(calls)), told(calls, name)
    assert server.breaker(name) == "closed"


@pytest.mark.parametrize("also", ["neighbours", "far"])
async def test_popularity_that_raises_leaves_deep_as_it_was(
    server: ChaosServer, callers: Callers, form: Form, also: str
) -> None:
    server.tell("generator popularity raise")
    server.tell(f"generator {also} raise")
    calls = await callers.run(RATE, form.seconds, limit=20)

    assert callers.bounds.enough(sum(call.tier == "DEEP" for call in calls), len(calls)), told(calls)
    assert {call.dropped["popularity"] for call in calls if call.tier == "DEEP"} <= {"failed", "breaker_open"}


async def test_when_every_generator_and_popularity_raise_a_list_in_memory_answers(
    server: ChaosServer, callers: Callers, form: Form
) -> None:
    callers.mix = replace(callers.mix, filtered=True)
    for name in ("neighbours", "far", "popularity"):
        server.tell(f"generator {name} raise")
    said = len(server.noise())
    calls = await callers.run(2 * RATE, 2 * form.seconds)

    assert not unanswered(calls)
    assert {call.tier for call in calls if call.ok} == {"POPULARITY"}
    assert all(call.items for call in calls if call.ok)
    assert server.stats()["floor_failures"] > 0
    excluding = [call for call in calls if call.asked.exclude]
    assert excluding  # and that none of those comes back is an invariant
    traces = sum(line.startswith("Traceback") for line in server.noise()[said:])
    assert traces <= 5  # each thing that fails at every call is said once in ten seconds
