"""The deep rung in virtual time: what is left behind, what is stopped, what the breakers learn of it."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from core.query import Request
from core.types import NO_SCORES, Candidates, Reason, Stopped, Tier
from server.breaker import Breaker, Outcome, State
from server.deadline import Deadline
from server.deep import SCORER
from server.fan_out import SPARES, Job, WorkPool
from server.ladder import Ascent
from server.pipeline import Pipeline
from server.settings import Settings
from server.user_store import MemoryUserStore
from tests.server import toy
from tests.server.virtual import virtual

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from core.bundle import Bundle
    from core.types import Recommendation, Scores, StopSignal
    from server.breaker import Rule
    from tests.server.virtual import VirtualLoop, VirtualPool

REQUEST = Request("ada", 8, recent_events=toy.HISTORY)
SUCCESS, FAILURE, NEUTRAL = Outcome.SUCCESS, Outcome.FAILURE, Outcome.NEUTRAL
LATE, NO_TIME = Reason.LATE, Reason.NO_TIME
AWAY = 2


class Noted(Breaker):
    """Remembers what it was told."""

    __slots__ = ("told",)

    def __init__(self, name: str, rule: Rule, clock: Callable[[], float]) -> None:
        super().__init__(name, rule, clock=clock, rng=lambda: 0.5)
        self.told: list[Outcome] = []

    def ended(self, permit: int, outcome: Outcome, seconds: float = 0.0) -> None:
        self.told.append(outcome)
        super().ended(permit, outcome, seconds)


@dataclass
class World:
    """A pipeline in virtual time; what its parts take, in seconds, can be changed at any time.

    Attributes:
        deaf: whether the model ignores being stopped.

        begun: name and moment of every call of a slow generator and of the model.
    """

    loop: VirtualLoop
    work: VirtualPool
    settings: Settings = field(default_factory=Settings)
    far_s: float = 0.001
    model_s: float = 0.001
    deaf: bool = False
    after: Callable[[Scores], object] = lambda scores: scores
    more: tuple[toy.ToyGenerator, ...] = ()
    begun: list[tuple[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        model = toy.ToyScorer(self._model, lambda scores: self.after(scores))  # noqa: PLW0108 - it may change
        far = toy.ToyGenerator("far", False, 7, lambda: self.spend("far", self.far_s))
        self.pipeline = self.serve(toy.bundle(far=far, scorer=model))

    def serve(self, bundle: Bundle) -> Pipeline:
        bundle = replace(
            bundle,
            generators=(*bundle.generators, *self.more),
            limits={**bundle.limits, **{g.name: 30 for g in self.more}},
        )
        return Pipeline(
            bundle,
            MemoryUserStore(()),
            self.work,
            self.settings,
            now_s=lambda: 1000.0,
            breaker=lambda name, rule: Noted(name, rule, self.loop.time),
        )

    def spend(self, name: str, seconds: float, stop: StopSignal | None = None) -> None:
        self.begun.append((name, self.loop.now_s))
        self.loop.spend(seconds, stop)

    def _model(self, stop: StopSignal | None) -> None:
        self.spend(SCORER, self.model_s, None if self.deaf else stop)

    async def ask(self, budget_s: float = 0.1) -> Recommendation:
        deadline = Deadline.after(budget_s, self.loop.time)
        answer = await self.pipeline.recommend(REQUEST, Ascent(deadline))
        assert deadline.left_s() >= 0
        assert len(answer.rows) == REQUEST.limit
        return answer

    def add(self, name: str, takes_s: float) -> None:
        """One more slow generator."""
        self.more = (*self.more, toy.ToyGenerator(name, False, 5, lambda: self.spend(name, takes_s)))
        self.__post_init__()

    async def occupy(self, seconds: float) -> None:
        """A thread, as another request does."""
        self.work.start(lambda: self.loop.spend(seconds), lambda _: None)

    def answer(self, budget_s: float = 0.1) -> Recommendation:
        return self.loop.run(self.ask(budget_s))

    def told(self, name: str) -> list[Outcome]:
        breaker = self.pipeline.breakers[name]
        assert isinstance(breaker, Noted)
        return breaker.told

    def state(self, name: str = SCORER) -> State:
        return self.pipeline.breakers[name].state

    def calls(self, name: str) -> int:
        return [each for each, _ in self.begun].count(name)


@pytest.fixture
def world() -> Iterator[World]:
    with virtual() as (loop, work):
        yield World(loop, work)


def test_all_is_well(world: World) -> None:
    answer = world.answer()

    assert (answer.tier, answer.skipped, answer.dropped) == (Tier.DEEP, {}, {})
    assert list(answer.stage_ms) == ["store", "propose", "retrieve", "score", "select"]
    assert [answer.stage_ms[stage] for stage in ("retrieve", "score")] == [pytest.approx(1), pytest.approx(1)]
    assert (world.told("far"), world.told(SCORER)) == ([SUCCESS], [SUCCESS])


def test_a_generator_that_overruns_its_share_is_left_behind_and_the_model_scores_the_rest(world: World) -> None:
    whole = world.answer()
    world.far_s = 5.0
    answer = world.answer()

    assert (answer.tier, answer.dropped) == (Tier.DEEP, {"far": LATE})
    assert 0 < answer.scored_rows < whole.scored_rows
    assert (world.told("far"), world.told(SCORER)) == ([SUCCESS, FAILURE], [SUCCESS, SUCCESS])
    assert world.begun[-1][0] == SCORER
    assert world.loop.now_s < 1  # the model ran on a thread that stands in


def test_a_generator_that_comes_back_late_changes_nothing_any_more(world: World) -> None:
    world.far_s = 0.06
    answer = world.answer()
    world.loop.settle()

    assert (answer.tier, answer.dropped) == (Tier.DEEP, {"far": LATE})
    assert (world.told("far"), world.told(SCORER)) == ([FAILURE], [SUCCESS])


def test_of_two_slow_generators_the_one_that_ends_last_goes_on_to_score() -> None:
    with virtual(threads=2) as (loop, work):
        world = World(loop, work)
        world.add("other", 0.004)
        answer = world.answer()

    assert (answer.tier, answer.dropped) == (Tier.DEEP, {})
    assert world.begun == [("far", 0.0), ("other", 0.0), (SCORER, pytest.approx(0.004))]


def test_one_late_generator_of_two_costs_only_itself() -> None:
    with virtual() as (loop, work):
        world = World(loop, work, far_s=3.0)
        world.add("other", 0.004)
        answer = world.answer()

    assert (answer.tier, answer.dropped) == (Tier.DEEP, {"far": LATE})
    assert (world.told("far"), world.told("other")) == ([FAILURE], [SUCCESS])


@pytest.mark.parametrize(("slots", "dropped"), [(1, {"other": NO_TIME}), (2, {})])
def test_a_generator_without_a_slot_is_named_and_nobody_waits_for_it(slots: int, dropped: dict[str, Reason]) -> None:
    with virtual(slots=slots) as (loop, work):
        world = World(loop, work)
        world.add("other", 0.001)
        answer = world.answer()

    assert (answer.tier, answer.dropped) == (Tier.DEEP, dropped)


def test_nobody_waits_for_a_generator_without_a_slot_when_the_other_one_has_ended_by_then(world: World) -> None:
    class AtOnce:
        """A pool with one slot, whose thread is faster than the event loop."""

        slots = 1

        def start(self, run: Callable[[], object], report: Callable[[object], None]) -> object:
            if not self.slots:
                return None
            self.slots = 0
            job = Job(run, report)
            job.started, outcome = True, run()

            def finish() -> None:
                job.ended, self.slots = True, 1
                report(outcome)

            world.loop.call_soon(finish)
            return job

        def give_up(self, job: object) -> None:  # noqa: ARG002
            raise AssertionError

    world.work = AtOnce()  # type: ignore[assignment]
    world.far_s = 0.0
    world.add("other", 0.0)
    answer = world.answer()

    assert (answer.skipped[Tier.DEEP], answer.dropped) == (NO_TIME, {"other": NO_TIME})
    assert world.loop.now_s < 0.05


def test_without_any_slot_there_is_no_time() -> None:
    with virtual(slots=1) as (loop, work):
        world = World(loop, work, far_s=3.0)
        world.answer()
        begun = len(world.begun)
        answer = world.answer()

    assert answer.skipped[Tier.DEEP] is NO_TIME
    assert answer.dropped == {"far": NO_TIME}
    assert len(world.begun) == begun
    assert (world.told("far"), world.told(SCORER)) == ([FAILURE, NEUTRAL], [NEUTRAL, NEUTRAL])


def test_what_waited_too_long_for_a_thread_says_nothing_of_the_parts(world: World) -> None:
    world.loop.run(world.occupy(0.5))
    answer = world.answer()

    assert (answer.tier, answer.skipped[Tier.DEEP], answer.dropped) == (Tier.CF, NO_TIME, {"far": NO_TIME})
    assert (world.told("far"), world.told(SCORER)) == ([NEUTRAL], [NEUTRAL])
    world.loop.settle()
    assert world.begun == []


def test_a_model_that_overruns_is_stopped_and_cf_answers_in_time(world: World) -> None:
    world.model_s = 9.0
    answer = world.answer()
    world.loop.run(asyncio.sleep(0.001))

    assert (answer.tier, answer.skipped[Tier.DEEP], answer.dropped) == (Tier.CF, LATE, {})
    assert (world.told("far"), world.told(SCORER)) == ([SUCCESS], [FAILURE])
    assert (world.work.free_slots, world.work.alive) == (16, 1)


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
    assert world.told(SCORER) == [NEUTRAL]
    assert cost.slowdown < 1e6


def test_an_answer_leaves_no_timer_behind(world: World) -> None:
    world.answer()

    assert all(timer.cancelled() for timer in world.loop._scheduled)  # type: ignore[attr-defined]  # asyncio's own


def test_a_score_timeout_means_nothing_where_there_is_no_deadline(world: World) -> None:
    world.model_s = 9.0
    assert world.answer(np.inf).tier is Tier.DEEP


def test_a_deaf_model_keeps_nobody_from_an_answer_and_its_breaker_opens(world: World) -> None:
    world.model_s, world.deaf = 0.3, True
    answers = [world.answer() for _ in range(30)]
    reasons = [answer.skipped[Tier.DEEP] for answer in answers]

    assert reasons == [LATE] * 20 + [Reason.BREAKER_OPEN] * 10
    assert {answer.tier for answer in answers} == {Tier.CF}
    assert world.calls(SCORER) <= AWAY + 1  # of the last one it is not known yet that it does not come back
    assert world.state() is State.OPEN


def test_one_part_keeps_few_threads_and_stand_ins_go_when_these_are_back(world: World) -> None:
    world.model_s, world.deaf = 50.0, True
    for _ in range(12):
        world.answer()
    most = world.work.alive
    world.loop.settle()

    assert AWAY < most <= 1 + SPARES
    assert (world.work.alive, world.work.stuck) == (1, 0)
    assert world.calls(SCORER) <= AWAY + 1


def test_a_generator_that_never_comes_back_takes_no_thread_from_the_model(world: World) -> None:
    world.far_s = 50.0
    answers = [world.answer() for _ in range(30)]

    assert {answer.tier for answer in answers} == {Tier.DEEP}
    assert [answer.dropped["far"] for answer in answers] == [LATE] * 20 + [Reason.BREAKER_OPEN] * 10
    assert world.calls("far") == AWAY


def test_requests_that_queue_behind_a_hung_generator_do_not_give_it_the_threads_that_stand_in(world: World) -> None:
    world.far_s = 50.0

    async def at_once() -> list[Recommendation]:
        return list(await asyncio.gather(*(world.ask() for _ in range(8))))

    answers = world.loop.run(at_once())

    assert world.calls("far") == AWAY
    assert world.answer().tier is Tier.DEEP
    assert all(answer.dropped["far"] in {LATE, NO_TIME} for answer in answers)


def test_while_a_stand_in_works_the_model_answers(world: World) -> None:
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
    with virtual(slots=1) as (loop, work):
        world = World(loop, work)
        breaker = world.pipeline.breakers["far"]
        breaker._enter(State.OPEN)
        breaker._not_before_s = np.inf
        loop.run(world.occupy(0.5))
        answer = world.answer()

    assert (answer.skipped[Tier.DEEP], answer.dropped) == (NO_TIME, {"far": Reason.BREAKER_OPEN})
    assert world.told(SCORER) == [NEUTRAL]


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
    assert (world.told("far"), world.told(SCORER)) == ([SUCCESS], [FAILURE])


def test_a_generator_that_raises_is_named_and_a_failure(world: World) -> None:
    world.more = (toy.ToyGenerator("other", False, 5, toy.fail),)
    world.__post_init__()
    answer = world.answer()

    assert (answer.tier, answer.dropped) == (Tier.DEEP, {"other": Reason.FAILED})
    assert (world.told("other"), world.told(SCORER)) == ([FAILURE], [SUCCESS])


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
    assert world.told(SCORER) == [NEUTRAL]


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

    assert {name: world.told(name) for name in told} == told
    assert (world.work.free_slots, world.work.alive) == (16, 1)
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
    work = WorkPool(threads=1, slots=4)
    far = toy.ToyGenerator("far", False, 7, lambda: called.append("far"))
    bundle = toy.bundle(far=far, scorer=toy.ToyScorer(lambda _: called.append(SCORER)))
    served = Pipeline(bundle, MemoryUserStore(()), work, Settings(), now_s=lambda: 1000.0)

    work.start(lambda: release.wait(30), lambda _: None)
    deadline = Deadline.after(0.05, lambda: clock[0])
    asked = asyncio.create_task(served.recommend(REQUEST, Ascent(deadline)))
    while work.free_slots > 2:  # noqa: ASYNC110 - until it waits for the thread
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
    work = WorkPool(threads=1, slots=4)

    def search() -> None:
        began.set()
        release.wait(30)

    far = toy.ToyGenerator("far", False, 7, search)
    bundle = toy.bundle(far=far, scorer=toy.ToyScorer(lambda _: called.append(SCORER)))
    served = Pipeline(bundle, MemoryUserStore(()), work, Settings(), now_s=lambda: 1000.0)

    deadline = Deadline.after(0.05, lambda: clock[0])
    asked = asyncio.create_task(served.recommend(REQUEST, Ascent(deadline)))
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
