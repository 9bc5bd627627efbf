"""Deadlines from expired to an hour: the rung follows the time, and what is over is not worked on."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from core.types import Tier
from tests.faults.history import outcomes, percentile_ms

if TYPE_CHECKING:
    from tests.faults.chaos import Callers, ChaosServer
    from tests.faults.history import Call
    from tests.faults.run_length import RunLength

BUDGETS_MS = (1.0, 3.0, 5.0, 20.0, 100.0, 3.6e6)
EACH = 30


def height(calls: list[Call]) -> float:
    """Mean rung; 0 where there is no answer."""
    return sum(Tier[call.tier] if call.ok else 0 for call in calls) / len(calls)


def work(server: ChaosServer) -> dict[str, int]:
    return {name: part["calls"] for name, part in server.stats()["parts"].items()}


async def test_the_more_time_the_higher_the_rung(callers: Callers, figures: dict[str, object]) -> None:
    of_budget: dict[float, list[Call]] = {}
    for _ in range(EACH):  # in turns, so that every budget meets the same machine
        for budget_ms in BUDGETS_MS:
            of_budget.setdefault(budget_ms, []).append(await callers.call(deadline_ms=budget_ms, user="user-03"))
    heights = [height(of_budget[budget_ms]) for budget_ms in BUDGETS_MS]
    figures |= {f"{budget_ms:g} ms": outcomes(calls) for budget_ms, calls in of_budget.items()}

    allowed = 0.1
    assert all(low <= high + allowed for low, high in pairwise(heights)), heights
    assert heights[-1] >= Tier.DEEP - allowed
    assert heights[0] < Tier.CF


@pytest.mark.parametrize("budget_ms", [-1000.0, 0.0, 1.0])
async def test_a_call_without_time_is_ended_or_answered_from_memory_and_no_thread_works_for_it(
    server: ChaosServer, callers: Callers, budget_ms: float
) -> None:
    before = work(server)
    calls = [await callers.call(deadline_ms=budget_ms) for _ in range(20)]
    await callers.call(deadline_ms=None, user="user-03")  # so that what was begun is done
    after = work(server)

    if budget_ms < 0:
        assert {call.status for call in calls} == {"DEADLINE_EXCEEDED"}
    assert {call.tier or call.status for call in calls} <= {"DEADLINE_EXCEEDED", "POPULARITY", "CF"}
    assert {name: after[name] - before[name] for name in ("scorer", "far")} == {"scorer": 1, "far": 1}


@pytest.mark.parametrize(
    ("named_ms", "like_ms"), [(None, 100.0), (3.6e6, 500.0)], ids=["none is like 100 ms", "an hour is like 500 ms"]
)
async def test_a_budget_that_is_not_named_or_endless_has_a_bound(
    server: ChaosServer,
    callers: Callers,
    *,
    figures: dict[str, object],
    named_ms: float | None,
    like_ms: float,
) -> None:
    """A generator that hangs is waited for as long as its share of the budget is."""
    took_ms = []
    for budget_ms in (named_ms, like_ms):
        server.command("generator far hang")
        calls = [await callers.call(deadline_ms=budget_ms) for _ in range(2)]
        waited = [call for call in calls if call.dropped.get("far") == "late"]
        took_ms.append(percentile_ms(waited, 0))
        server.command("generator far heal")
        await callers.until(lambda: not server.stats()["stuck"], 10, 5.0, "the threads are back")
    figures["took_ms"] = took_ms

    assert 0.25 * like_ms < took_ms[0] < 0.6 * like_ms
    assert abs(took_ms[0] - took_ms[1]) < 5.0


async def test_callers_with_short_deadlines_close_no_part_to_the_others(
    server: ChaosServer, callers: Callers, length: RunLength
) -> None:
    server.command("generator far slow 6")
    server.command("scorer slow 6")
    for budget_ms in (1.5, 3.0, 8.0, 15.0):
        await callers.run(100, length.seconds, deadline_ms=budget_ms, recent=("item-00",), user="user-00")

    assert {name: breaker["opened"] for name, breaker in server.stats()["breakers"].items()} == dict.fromkeys(
        ("user_store", "scorer", "user_tower", "neighbours", "far", "popularity"), 0
    )
