"""Parts of the deep rung that stay broken: replaced threads, breakers, probes; in virtual time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest

from core.types import Reason, Tier
from server.overload.breaker import State
from server.rungs.deep_parts import MOST_STUCK
from server.rungs.deep_rung import SCORER
from server.rungs.work_pool import REPLACEMENTS
from tests.server.deep_world import LATE, NEUTRAL, NO_TIME, World
from tests.server.virtual import virtual

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.types import Recommendation


@pytest.fixture
def world() -> Iterator[World]:
    with virtual() as (loop, work):
        yield World(loop, work)


def test_a_deaf_model_keeps_nobody_from_an_answer_and_its_breaker_opens(world: World) -> None:
    world.model_s, world.deaf = 0.3, True
    answers = [world.answer() for _ in range(30)]
    reasons = [answer.skipped[Tier.DEEP] for answer in answers]

    assert reasons == [LATE] * 20 + [Reason.BREAKER_OPEN] * 10
    assert {answer.tier for answer in answers} == {Tier.CF}
    assert world.calls(SCORER) <= MOST_STUCK + 1  # of the last one it is not known yet that it does not come back
    assert world.state() is State.OPEN


def test_one_part_keeps_few_threads_and_replacements_go_when_these_are_back(world: World) -> None:
    world.model_s, world.deaf = 50.0, True
    for _ in range(12):
        world.answer()
    most = world.work.alive
    world.loop.settle()

    assert MOST_STUCK < most <= 1 + REPLACEMENTS
    assert (world.work.alive, world.work.stuck) == (1, 0)
    assert world.calls(SCORER) <= MOST_STUCK + 1


def test_a_generator_that_never_comes_back_takes_no_thread_from_the_model(world: World) -> None:
    world.far_s = 50.0
    answers = [world.answer() for _ in range(30)]

    assert {answer.tier for answer in answers} == {Tier.DEEP}
    assert [answer.dropped["far"] for answer in answers] == [LATE] * 20 + [Reason.BREAKER_OPEN] * 10
    assert world.calls("far") == MOST_STUCK


def test_requests_that_queue_behind_a_hung_generator_do_not_give_it_the_threads_that_replace_it(world: World) -> None:
    world.far_s = 50.0

    async def at_once() -> list[Recommendation]:
        return list(await asyncio.gather(*(world.ask() for _ in range(8))))

    answers = world.loop.run(at_once())

    assert world.calls("far") == MOST_STUCK
    assert world.answer().tier is Tier.DEEP
    assert all(answer.dropped["far"] in {LATE, NO_TIME} for answer in answers)


def test_while_a_replacement_works_the_model_answers(world: World) -> None:
    world.model_s, world.deaf = 50.0, True
    world.answer()
    world.loop.run(asyncio.sleep(0.05))
    world.model_s = 0.001

    assert world.answer().tier is Tier.DEEP


def test_an_open_breaker_leaves_model_and_slow_generators_alone_until_a_probe_says_otherwise(world: World) -> None:
    world.after = lambda scores: scores * np.nan
    for _ in range(20):
        world.answer()
    assert world.state() is State.OPEN
    asked = len(world.begun)
    answer = world.answer()
    assert (answer.skipped[Tier.DEEP], answer.dropped) == (Reason.BREAKER_OPEN, {})
    assert len(world.begun) == asked

    world.loop.run(asyncio.sleep(1.1))
    world.after = lambda scores: scores

    async def at_once() -> list[Tier]:
        return [answer.tier for answer in await asyncio.gather(world.ask(), world.ask(), world.ask())]

    assert world.loop.run(at_once()) == [Tier.DEEP, Tier.CF, Tier.CF]  # one probe at a time
    assert world.state() is State.HALF_OPEN
    for _ in range(4):
        assert world.answer().tier is Tier.DEEP
    assert world.state() is State.CLOSED


def test_a_failed_probe_opens_again(world: World) -> None:
    world.after = lambda scores: scores * np.nan
    for _ in range(20):
        world.answer()
    world.loop.run(asyncio.sleep(1.1))
    reasons = [world.answer().skipped[Tier.DEEP] for _ in range(2)]

    assert reasons == [Reason.INVALID_SCORES, Reason.BREAKER_OPEN]


def test_a_slow_generator_behind_an_open_breaker_is_not_called_and_the_model_scores_the_rest(world: World) -> None:
    world.far_s = 0.2
    for _ in range(20):
        world.answer()
    world.loop.settle()
    asked = world.calls("far")
    breaker = world.pipeline.breakers["far"]
    assert breaker.opened == 1
    breaker._not_before_s = np.inf  # stay open
    answer = world.answer()

    assert (answer.tier, answer.dropped) == (Tier.DEEP, {"far": Reason.BREAKER_OPEN})
    assert world.calls("far") == asked
    assert world.begun[-1][0] == SCORER
    assert world.begun[-1][1] != world.begun[-2][1]  # once


def test_with_an_open_breaker_and_no_slot_there_is_no_time() -> None:
    with virtual(max_jobs=1) as (loop, work):
        world = World(loop, work)
        breaker = world.pipeline.breakers["far"]
        breaker._enter(State.OPEN)
        breaker._not_before_s = np.inf
        loop.run(world.occupy(0.5))
        answer = world.answer()

    assert (answer.skipped[Tier.DEEP], answer.dropped) == (NO_TIME, {"far": Reason.BREAKER_OPEN})
    assert world.outcomes(SCORER) == [NEUTRAL]
