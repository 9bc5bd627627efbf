"""The deep rung in virtual time: what is abandoned, what is stopped, what the breakers learn of it."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from candidate_gen.merge import by_prior
from core.types import NO_ROWS, NO_SCORES, Candidates, Reason, Stopped, Tier
from server.rungs.deadline import Deadline
from server.rungs.deep_rung import SCORER, TOWER
from server.rungs.pipeline import Pipeline
from server.rungs.request_record import RequestRecord
from server.rungs.work_pool import Job, WorkPool
from server.settings import Settings
from server.store.user_store import MemoryUserStore
from tests.server import toy
from tests.server.deep_world import FAILURE, LATE, NEUTRAL, NO_TIME, REQUEST, SUCCESS, World
from tests.server.virtual import virtual

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from core.types import Scores
    from server.overload.breaker import Outcome


@pytest.fixture
def world() -> Iterator[World]:
    with virtual() as (loop, work):
        yield World(loop, work)


def test_all_is_well(world: World) -> None:
    answer = world.answer()

    assert (answer.tier, answer.skipped, answer.dropped) == (Tier.DEEP, {}, {})
    assert list(answer.stage_ms) == ["store", "propose", "merge", "retrieve", "score", "select"]
    assert [answer.stage_ms[stage] for stage in ("retrieve", "score")] == [pytest.approx(1), pytest.approx(1)]
    assert (world.outcomes("far"), world.outcomes(SCORER)) == ([SUCCESS], [SUCCESS])


def test_a_generator_that_overruns_its_share_is_abandoned_and_the_model_scores_the_rest(world: World) -> None:
    whole = world.answer()
    world.far_s = 5.0
    answer = world.answer()

    assert (answer.tier, answer.dropped) == (Tier.DEEP, {"far": LATE})
    assert 0 < answer.scored_rows < whole.scored_rows
    assert (world.outcomes("far"), world.outcomes(SCORER)) == ([SUCCESS, FAILURE], [SUCCESS, SUCCESS])
    assert world.begun[-1][0] == SCORER
    assert world.loop.now_s < 1  # the model ran on a thread that replaces it


def test_a_generator_that_comes_back_late_changes_nothing_any_more(world: World) -> None:
    world.far_s = 0.06
    answer = world.answer()
    world.loop.settle()

    assert (answer.tier, answer.dropped) == (Tier.DEEP, {"far": LATE})
    assert (world.outcomes("far"), world.outcomes(SCORER)) == ([FAILURE], [SUCCESS])


def test_slow_generators_take_turns_in_one_job() -> None:
    with virtual(threads=2) as (loop, work):
        world = World(loop, work)
        world.add("other", 0.004)
        answer = world.answer()

    assert (answer.tier, answer.dropped) == (Tier.DEEP, {})
    assert world.begun == [("far", 0.0), ("other", pytest.approx(0.001)), (SCORER, pytest.approx(0.005))]


def test_one_late_generator_of_two_costs_only_itself() -> None:
    with virtual() as (loop, work):
        world = World(loop, work, far_s=3.0)
        world.add("other", 0.004)
        answer = world.answer()

    assert (answer.tier, answer.dropped) == (Tier.DEEP, {"far": LATE})
    assert (world.outcomes("far"), world.outcomes("other")) == ([FAILURE], [SUCCESS])


def test_one_slot_is_enough_for_any_number_of_slow_generators() -> None:
    with virtual(max_jobs=1) as (loop, work):
        world = World(loop, work)
        world.add("other", 0.001)
        answer = world.answer()

    assert (answer.tier, answer.dropped) == (Tier.DEEP, {})


def test_a_late_generator_without_a_slot_for_what_is_left_leaves_no_time() -> None:
    with virtual(max_jobs=1) as (loop, work):
        world = World(loop, work, far_s=3.0)
        world.add("other", 0.001)
        answer = world.answer()

    assert (answer.tier, answer.skipped[Tier.DEEP]) == (Tier.CF, NO_TIME)
    assert answer.dropped == {"far": LATE, "other": NO_TIME}
    assert (world.outcomes("far"), world.outcomes("other"), world.outcomes(SCORER)) == ([FAILURE], [NEUTRAL], [NEUTRAL])


def test_a_thread_that_is_faster_than_the_event_loop_changes_nothing(world: World) -> None:
    class AtOnce:
        """A pool with one slot, whose thread is faster than the event loop."""

        free_jobs = 1

        def start(self, run: Callable[[], object], report: Callable[[object], None]) -> object:
            if not self.free_jobs:
                return None
            self.free_jobs = 0
            job = Job(run, report, world.loop)
            job.started, outcome = True, run()

            def finish() -> None:
                job.ended, self.free_jobs = True, 1
                report(outcome)

            world.loop.call_soon(finish)
            return job

        stuck_in = dict.fromkeys(("far", "other", TOWER, SCORER), 0)

        def abandon(self, *_: object) -> None:
            raise AssertionError

    world.work = AtOnce()  # type: ignore[assignment]
    world.far_s = 0.0
    world.add("other", 0.0)
    answer = world.answer()

    assert (answer.tier, answer.dropped) == (Tier.DEEP, {})
    assert world.loop.now_s < 0.05


def test_without_any_slot_there_is_no_time() -> None:
    with virtual(max_jobs=1) as (loop, work):
        world = World(loop, work, far_s=3.0)
        world.answer()
        begun = len(world.begun)
        answer = world.answer()

    assert answer.skipped[Tier.DEEP] is NO_TIME
    assert answer.dropped == {"far": NO_TIME}
    assert len(world.begun) == begun
    assert (world.outcomes("far"), world.outcomes(SCORER)) == ([FAILURE, NEUTRAL], [NEUTRAL, NEUTRAL])


def test_what_waited_too_long_for_a_thread_says_nothing_of_the_parts(world: World) -> None:
    world.loop.run(world.occupy(0.5))
    answer = world.answer()

    assert (answer.tier, answer.skipped[Tier.DEEP], answer.dropped) == (Tier.CF, NO_TIME, {"far": NO_TIME})
    assert (world.outcomes("far"), world.outcomes(SCORER)) == ([NEUTRAL], [NEUTRAL])
    world.loop.settle()
    assert world.begun == []


def test_a_model_that_overruns_is_stopped_and_cf_answers_in_time(world: World) -> None:
    world.model_s = 9.0
    answer = world.answer()
    world.loop.run(asyncio.sleep(0.001))

    assert (answer.tier, answer.skipped[Tier.DEEP], answer.dropped) == (Tier.CF, LATE, {})
    assert (world.outcomes("far"), world.outcomes(SCORER)) == ([SUCCESS], [FAILURE])
    assert (world.work.free_jobs, world.work.alive) == (16, 1)


def test_a_model_that_hangs_is_stopped_long_before_a_long_deadline(world: World) -> None:
    world.model_s = 9.0
    answer = world.answer(5.0)

    assert (answer.tier, answer.skipped[Tier.DEEP]) == (Tier.CF, LATE)
    assert world.loop.now_s == pytest.approx(0.051, abs=0.002)


def test_an_estimate_that_forbids_every_run_is_forgotten_with_time(world: World) -> None:
    assert world.pipeline.deep is not None
    cost = world.pipeline.deep.cost
    cost.slowdown = 1e6
    answer = world.answer()

    assert (answer.tier, answer.skipped[Tier.DEEP]) == (Tier.CF, NO_TIME)
    assert world.outcomes(SCORER) == [NEUTRAL]
    assert cost.slowdown < 1e6


def test_an_answer_leaves_no_timer_behind(world: World) -> None:
    world.answer()

    assert all(timer.cancelled() for timer in world.loop._scheduled)  # type: ignore[attr-defined]  # asyncio's own


def test_an_answer_leaves_nothing_for_the_garbage_collector(world: World) -> None:
    held: list[weakref.ref[Scores]] = []

    def note(scores: Scores) -> Scores:
        held.append(weakref.ref(scores))
        return scores

    world.after = note
    gc.collect()
    gc.disable()
    try:
        tier = world.answer().tier
        world.loop.settle()
        left = [each for each in held if each() is not None]
    finally:
        gc.enable()

    assert (tier, len(held), left) == (Tier.DEEP, 1, [])


def test_a_score_timeout_means_nothing_where_there_is_no_deadline(world: World) -> None:
    world.model_s = 9.0
    assert world.answer(np.inf).tier is Tier.DEEP


def raises(_: Scores) -> Scores:
    raise RuntimeError("secret: hunter2")


def stops(_: Scores) -> Scores:
    raise Stopped


def one_nan(scores: Scores) -> Scores:
    scores[0] = np.nan
    return scores


WRONG: dict[str, tuple[Callable[[Scores], object], Reason]] = {
    "raises": (raises, Reason.FAILED),
    "is stopped though nobody stopped it": (stops, LATE),
    "says NaN": (lambda scores: scores * np.nan, Reason.INVALID_SCORES),
    "says NaN once": (one_nan, Reason.INVALID_SCORES),
    "says infinity": (lambda scores: scores - np.inf, Reason.INVALID_SCORES),
    "says too little": (lambda scores: scores[:-1], Reason.INVALID_SCORES),
    "says too much": (lambda scores: np.append(scores, scores), Reason.INVALID_SCORES),
    "says nothing": (lambda scores: NO_SCORES, Reason.INVALID_SCORES),  # noqa: ARG005
    "says a column": (lambda scores: scores[:, None], Reason.INVALID_SCORES),
    "says None": (lambda scores: None, Reason.FAILED),  # noqa: ARG005
}


@pytest.mark.parametrize("how", WRONG)
def test_each_fault_of_the_model_has_its_reason_and_is_a_failure(how: str, world: World) -> None:
    world.after, reason = WRONG[how]
    answer = world.answer()

    assert (answer.tier, answer.skipped[Tier.DEEP], answer.dropped) == (Tier.CF, reason, {})
    assert (world.outcomes("far"), world.outcomes(SCORER)) == ([SUCCESS], [FAILURE])


def test_a_generator_that_raises_is_named_and_a_failure(world: World) -> None:
    world.more = (toy.ToyGenerator("other", False, 5, toy.fail),)
    world.__post_init__()
    answer = world.answer()

    assert (answer.tier, answer.dropped) == (Tier.DEEP, {"other": Reason.FAILED})
    assert (world.outcomes("other"), world.outcomes(SCORER)) == ([FAILURE], [SUCCESS])


@pytest.mark.parametrize(
    "wrong", [None, [1, 2], Candidates("another", NO_ROWS, NO_SCORES)], ids=["None", "list", "alien"]
)
def test_a_generator_that_returns_something_else_costs_only_itself_and_its_breaker_knows(
    world: World, wrong: object
) -> None:
    class Wrong(toy.ToyGenerator):
        def generate(self, query: object, limit: int) -> Any:  # noqa: ARG002
            return wrong

    world.more = (Wrong("quick", True, 5), Wrong("other", False, 5))
    world.__post_init__()
    answer = world.answer()

    assert (answer.tier, answer.dropped) == (Tier.DEEP, {"quick": Reason.FAILED, "other": Reason.FAILED})
    assert [world.outcomes(name) for name in ("quick", "other", SCORER)] == [[FAILURE], [FAILURE], [SUCCESS]]


def test_few_rows_are_scored_where_more_are_wanted_than_there_are_and_than_would_fit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A narrow filter, or few known items to rank."""
    assert world.pipeline.deep is not None
    few = REQUEST.limit - 2
    monkeypatch.setattr("server.rungs.deep_rung.by_prior", lambda *given: by_prior(*given).take(slice(few)))
    monkeypatch.setattr(world.pipeline.deep.cost, "rows_within", lambda _: few + 1)
    answer = world.answer()

    assert (answer.tier, answer.scored_rows) == (Tier.DEEP, few)


def test_a_pool_that_cannot_be_merged_fails_the_rung(world: World) -> None:
    class Prior:
        def score(self, query: object, pool: object) -> Scores:  # noqa: ARG002
            raise RuntimeError("secret: hunter2")

    world.pipeline.deep.bundle = replace(world.pipeline.bundle, prior=Prior())  # type: ignore[union-attr]
    answer = world.answer()

    assert (answer.tier, answer.skipped[Tier.DEEP]) == (Tier.CF, Reason.FAILED)


def test_an_empty_pool_is_no_fault_of_the_model(world: World) -> None:
    class Nothing:
        def __init__(self, name: str, inline: bool) -> None:
            self.name, self.inline = name, inline

        def generate(self, query: object, limit: int) -> Candidates:  # noqa: ARG002
            return Candidates.none(self.name)

    bundle = toy.bundle(near=Nothing("neighbours", True), far=Nothing("far", False))  # type: ignore[arg-type]
    found = [Nothing(generator.name, generator.inline) for generator in bundle.generators]
    world.pipeline = world.serve(replace(bundle, generators=tuple(found)))
    answer = world.answer()

    assert (answer.tier, answer.skipped[Tier.DEEP]) == (Tier.POPULARITY, Reason.NO_CANDIDATES)
    assert world.outcomes(SCORER) == [NEUTRAL]


@pytest.mark.parametrize(
    ("at_s", "told"),
    [(0.0, {"far": [NEUTRAL], SCORER: [NEUTRAL]}), (0.01, {"far": [NEUTRAL], SCORER: [NEUTRAL]}),
     (0.03, {"far": [SUCCESS], SCORER: [NEUTRAL]})],
    ids=["waiting", "searching", "scoring"],
)  # fmt: skip
def test_a_caller_that_goes_away_frees_the_thread_and_says_nothing_of_the_parts(
    at_s: float, told: dict[str, list[Outcome]], world: World
) -> None:
    world.far_s = world.model_s = 0.02
    if at_s == 0:
        world.loop.run(world.occupy(0.001))

    async def go_away() -> None:
        task = asyncio.create_task(world.ask())
        await asyncio.sleep(at_s)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    world.loop.run(go_away())
    world.loop.settle()

    assert {name: world.outcomes(name) for name in told} == told
    assert (world.work.free_jobs, world.work.alive) == (16, 1)
    assert all(begun_s <= at_s for _, begun_s in world.begun)  # and nothing was begun after that


@pytest.mark.parametrize("far_s", [0.0005, 0.01, 0.03, 0.2])
@pytest.mark.parametrize("model_s", [0.0005, 0.02, 0.2])
@pytest.mark.parametrize("budget_s", [0.006, 0.02, 0.05, 0.1])
def test_nothing_begins_after_the_deadline(far_s: float, model_s: float, budget_s: float, world: World) -> None:
    """Of requests in a row, which wait for each other's threads."""
    world.far_s, world.model_s = far_s, model_s

    async def crowd() -> float:
        began_s = world.loop.now_s
        await asyncio.gather(*(world.ask(budget_s) for _ in range(6)))
        return began_s + budget_s

    ends_s = world.loop.run(crowd())
    world.loop.settle()

    assert all(at_s < ends_s for _, at_s in world.begun)


async def test_a_thread_that_comes_free_after_the_deadline_begins_nothing_though_the_event_loop_is_late() -> None:
    """In real time: only there do threads go on while the event loop computes where it should not."""
    clock, called = [0.0], []
    release, passed = threading.Event(), threading.Event()
    work = WorkPool(threads=1, max_jobs=4)
    far = toy.ToyGenerator("far", False, 7, lambda: called.append("far"))
    bundle = toy.bundle(far=far, scorer=toy.ToyScorer(lambda _: called.append(SCORER)))
    served = Pipeline(bundle, MemoryUserStore(()), work, Settings(), now_s=lambda: 1000.0)

    work.start(lambda: release.wait(30), lambda _: None)
    deadline = Deadline.after(0.05, lambda: clock[0])
    asked = asyncio.create_task(served.recommend(REQUEST, RequestRecord(deadline)))
    while work.free_jobs > 2:  # noqa: ASYNC110 - until it waits for the thread
        await asyncio.sleep(0)
    work.start(passed.set, lambda _: None)
    clock[0] = 1.0
    release.set()
    assert passed.wait(30)
    answer = await asked
    work.close()

    assert (answer.tier, answer.skipped[Tier.DEEP], answer.dropped) == (Tier.CF, NO_TIME, {"far": NO_TIME})
    assert called == []


async def test_scoring_does_not_begin_after_the_deadline_though_the_event_loop_is_late() -> None:
    """In real time, as above."""
    clock, called = [0.0], []
    began, release, passed = threading.Event(), threading.Event(), threading.Event()
    work = WorkPool(threads=1, max_jobs=4)

    def search() -> None:
        began.set()
        release.wait(30)

    far = toy.ToyGenerator("far", False, 7, search)
    bundle = toy.bundle(far=far, scorer=toy.ToyScorer(lambda _: called.append(SCORER)))
    served = Pipeline(bundle, MemoryUserStore(()), work, Settings(), now_s=lambda: 1000.0)

    deadline = Deadline.after(0.05, lambda: clock[0])
    asked = asyncio.create_task(served.recommend(REQUEST, RequestRecord(deadline)))
    while not began.is_set():  # noqa: ASYNC110 - a thread sets it
        await asyncio.sleep(0)
    work.start(passed.set, lambda _: None)
    clock[0] = 1.0
    release.set()
    assert passed.wait(30)
    answer = await asked
    work.close()

    assert (answer.tier, answer.skipped[Tier.DEEP], answer.dropped) == (Tier.CF, LATE, {})
    assert called == []
