"""A user tower that hangs, is slow or wrong: it holds up nothing but its own job; in virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from core.types import Reason, Tier
from server.overload.breaker import State
from server.rungs.deep_parts import MOST_STUCK
from server.rungs.deep_rung import SCORER, TOWER
from tests.server import toy
from tests.server.deep_world import FAILURE, LATE, NEUTRAL, NO_TIME, SUCCESS, World
from tests.server.virtual import virtual

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from core.types import Query, Vector


@pytest.fixture
def world() -> Iterator[World]:
    with virtual() as (loop, work):
        yield World(loop, work)


def test_a_slow_tower_is_waited_for_once_and_all_parts_find_its_vector(world: World) -> None:
    asked: list[Query] = []
    model = toy.ToyScorer()
    score = model.score
    model.score = lambda query, pool, stop=None: asked.append(query) or score(query, pool, stop)  # type: ignore[func-returns-value, method-assign]
    world.tower_s = 0.005
    world.pipeline = world.serve(replace(world.pipeline.bundle, scorer=model))
    answer = world.answer()

    assert (answer.tier, answer.dropped) == (Tier.DEEP, {})
    assert asked[0].user_vector is not None
    assert asked[0].user_vector().shape == (toy.WIDTH,)
    assert world.begun == [(TOWER, 0.0), ("far", pytest.approx(0.005))]
    assert (world.outcomes(TOWER), world.outcomes("far"), world.outcomes(SCORER)) == ([SUCCESS], [SUCCESS], [SUCCESS])


def test_a_tower_that_overruns_is_stopped_and_cf_answers_in_time(world: World) -> None:
    world.tower_s = 9.0
    answer = world.answer()
    world.loop.run(asyncio.sleep(0.001))

    assert (answer.tier, answer.skipped[Tier.DEEP], answer.dropped) == (Tier.CF, LATE, {"far": NO_TIME})
    assert (world.outcomes(TOWER), world.outcomes("far"), world.outcomes(SCORER)) == ([FAILURE], [NEUTRAL], [NEUTRAL])
    assert (world.work.free_jobs, world.work.alive) == (16, 1)
    assert list(answer.stage_ms) == ["store", "propose", "merge", "retrieve", "select"]


def test_a_tower_that_cannot_be_stopped_holds_up_nothing_but_its_own_job(world: World) -> None:
    world.tower_s, world.deaf_tower = 50.0, True
    assert world.answer().skipped[Tier.DEEP] is LATE
    world.tower_s = 0.0

    assert [world.answer().tier for _ in range(5)] == [Tier.DEEP] * 5
    assert world.outcomes(SCORER) == [NEUTRAL, *[SUCCESS] * 5]
    assert world.loop.now_s < 1


def test_a_tower_that_stays_hung_is_left_alone_by_its_breaker_and_takes_few_threads(world: World) -> None:
    world.tower_s, world.deaf_tower = 50.0, True
    answers = [world.answer() for _ in range(30)]

    assert [answer.skipped[Tier.DEEP] for answer in answers] == [LATE] * 20 + [Reason.BREAKER_OPEN] * 10
    assert {answer.tier for answer in answers} == {Tier.CF}
    assert world.calls(TOWER) <= MOST_STUCK + 1  # of the last one it is not known yet that it does not come back
    assert (world.state(TOWER), world.state(SCORER), world.state("far")) == (State.OPEN, State.CLOSED, State.CLOSED)
    assert world.calls(SCORER) == 0


def test_a_healed_tower_is_probed_and_deep_is_back(world: World) -> None:
    world.tower_s = 9.0
    for _ in range(20):
        world.answer()
    world.tower_s = 0.0
    assert world.answer().skipped[Tier.DEEP] is Reason.BREAKER_OPEN
    world.loop.run(asyncio.sleep(1.1))

    assert [world.answer().tier for _ in range(6)] == [Tier.DEEP] * 6
    assert world.state(TOWER) is State.CLOSED


def raises(_: Vector) -> Vector:
    raise RuntimeError("secret: hunter2")


WRONG: dict[str, tuple[Callable[[Vector], Vector], Reason]] = {
    "raises": (raises, Reason.FAILED),
    "says NaN": (lambda vector: vector * np.nan, Reason.INVALID_SCORES),
    "says infinity": (lambda vector: vector + np.inf, Reason.INVALID_SCORES),
    "says too little": (lambda vector: vector[:-1], Reason.INVALID_SCORES),
    "says a table": (lambda vector: vector[None], Reason.INVALID_SCORES),
    "says None": (lambda vector: None, Reason.FAILED),  # type: ignore[arg-type, return-value]  # noqa: ARG005
}


@pytest.mark.parametrize("how", WRONG)
def test_each_fault_of_the_tower_has_its_reason_and_is_its_own_failure(how: str, world: World) -> None:
    world.placed, reason = WRONG[how]
    answer = world.answer()

    assert (answer.tier, answer.skipped[Tier.DEEP], answer.dropped) == (Tier.CF, reason, {})
    assert (world.outcomes(TOWER), world.outcomes("far"), world.outcomes(SCORER)) == ([FAILURE], [NEUTRAL], [NEUTRAL])
    assert world.begun == []


def test_a_caller_that_goes_away_stops_the_tower_and_says_nothing_of_it(world: World) -> None:
    world.tower_s = 0.02

    async def go_away() -> None:
        task = asyncio.create_task(world.ask())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    world.loop.run(go_away())
    world.loop.run(asyncio.sleep(0.001))

    assert (world.outcomes(TOWER), world.work.free_jobs, world.work.alive) == ([NEUTRAL], 16, 1)


def test_a_tower_with_little_time_that_is_late_has_not_failed(world: World) -> None:
    world.tower_s = 9.0
    answer = world.answer(0.02)

    assert answer.skipped[Tier.DEEP] is LATE
    assert world.outcomes(TOWER) == [NEUTRAL]
