"""Each fault leads to exactly one tier, and each rung above it has exactly one reason."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from core.query import Request
from core.types import NO_SCORES, Reason, Tier, UserState
from server.rungs.cost_model import CostModel
from server.rungs.deadline import Deadline
from server.rungs.pipeline import USER_STORE, Pipeline
from server.rungs.request_record import RequestRecord
from server.rungs.stop_flag import StopFlag
from server.rungs.work_pool import WorkPool
from server.settings import Settings
from server.store.user_store import MemoryUserStore
from tests.server import toy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from core.bundle import Bundle
    from core.types import Recommendation

NOT_CONFIGURED, NO_HISTORY, NO_TIME = Reason.NOT_CONFIGURED, Reason.NO_HISTORY, Reason.NO_TIME
REQUEST = Request(user_id="ada", limit=8)
SETTINGS = Settings(score_timeout_ms=10_000, reserve_share=0.1)
KNOWN = UserState(toy.HISTORY)


@pytest.fixture
def work() -> Iterator[WorkPool]:
    pool = WorkPool(threads=2, max_jobs=4)
    yield pool
    pool.close()


class FixedStore(MemoryUserStore):
    """A store that answers the same for everybody."""

    def __init__(self, state: UserState) -> None:
        super().__init__(())
        self._state = state

    async def read(self, user_id: str, timeout_s: float = 1.0, report: object = None) -> UserState:  # noqa: ARG002
        return self._state


def pipeline(bundle: Bundle, work: WorkPool, state: UserState = KNOWN, cost: CostModel | None = None) -> Pipeline:
    made = Pipeline(bundle, FixedStore(state), work, SETTINGS, now_s=lambda: 1000.0)
    if cost is not None and made.deep is not None:
        made.deep.cost = cost
    return made


def scorer(before: Callable[..., None] | None = None, after: Callable[..., object] | None = None) -> toy.ToyScorer:
    model = toy.ToyScorer()
    if before is not None:
        model.before = before
    if after is not None:
        model.after = after  # type: ignore[assignment]  # wrong on purpose
    return model


def waits(release: threading.Event) -> None:
    assert release.wait(30)


async def all_free(work: WorkPool) -> None:
    while work.free_jobs < 4:  # noqa: ASYNC110 - the pool tells nobody, and its threads are about to
        await asyncio.sleep(0)


CASES = {
    "all well": (toy.bundle(), KNOWN, 30.0, Tier.DEEP, None, None, {}),
    "cold user": (toy.bundle(), UserState(), 30.0, Tier.POPULARITY, NO_HISTORY, NO_HISTORY, {}),
    "store late": (
        toy.bundle(),
        UserState(missing=Reason.STORE_LATE),
        30.0,
        Tier.POPULARITY,
        Reason.STORE_LATE,
        Reason.STORE_LATE,
        {USER_STORE: Reason.STORE_LATE},
    ),
    "store dead": (
        toy.bundle(),
        UserState(missing=Reason.STORE_FAILED),
        30.0,
        Tier.POPULARITY,
        Reason.STORE_FAILED,
        Reason.STORE_FAILED,
        {USER_STORE: Reason.STORE_FAILED},
    ),
    "no model": (toy.bundle(deep=False), KNOWN, 30.0, Tier.CF, None, NOT_CONFIGURED, {}),
    "slow generator raises": (
        toy.bundle(far=toy.ToyGenerator("far", False, 7, toy.fail)),
        KNOWN,
        30.0,
        Tier.DEEP,
        None,
        None,
        {"far": Reason.FAILED},
    ),
    "quick generator raises": (
        toy.bundle(near=toy.ToyGenerator("neighbours", True, 1, toy.fail)),
        KNOWN,
        30.0,
        Tier.DEEP,
        None,
        None,
        {"neighbours": Reason.FAILED},
    ),
    "quick generator raises and there is no model": (
        toy.bundle(near=toy.ToyGenerator("neighbours", True, 1, toy.fail), deep=False),
        KNOWN,
        30.0,
        Tier.POPULARITY,
        Reason.NO_CANDIDATES,
        NOT_CONFIGURED,
        {"neighbours": Reason.FAILED},
    ),
    "model raises": (toy.bundle(scorer=scorer(toy.fail)), KNOWN, 30.0, Tier.CF, None, Reason.FAILED, {}),
    "model says NaN": (
        toy.bundle(scorer=scorer(after=lambda s: s * np.nan)),
        KNOWN,
        30.0,
        Tier.CF,
        None,
        Reason.INVALID_SCORES,
        {},
    ),
    "model says too little": (
        toy.bundle(scorer=scorer(after=lambda s: s[:-1])),
        KNOWN,
        30.0,
        Tier.CF,
        None,
        Reason.INVALID_SCORES,
        {},
    ),
    "model says nothing": (
        toy.bundle(scorer=scorer(after=lambda s: NO_SCORES)),  # noqa: ARG005
        KNOWN,
        30.0,
        Tier.CF,
        None,
        Reason.INVALID_SCORES,
        {},
    ),
    "model hangs": (toy.bundle(scorer=scorer(toy.hang_until_stopped)), KNOWN, 0.3, Tier.CF, None, Reason.LATE, {}),
    "time for the cheap rungs only": (toy.bundle(), KNOWN, 0.003, Tier.CF, None, NO_TIME, {}),
    "no time at all": (toy.bundle(), KNOWN, 0.0, Tier.POPULARITY, NO_TIME, NO_TIME, {USER_STORE: NO_TIME}),
    "over before it came": (toy.bundle(), KNOWN, -1.0, Tier.POPULARITY, NO_TIME, NO_TIME, {USER_STORE: NO_TIME}),
}


@pytest.mark.parametrize("name", CASES)
async def test_each_fault_has_one_tier_and_one_reason_for_each_rung_above(name: str, work: WorkPool) -> None:
    bundle, state, budget_s, tier, cf, deep, dropped = CASES[name]
    # A model that hangs needs time that passes; for the others it stands still.
    deadline = Deadline.after(budget_s) if deep is Reason.LATE else Deadline.after(budget_s, lambda: 0.0)

    answer = await pipeline(bundle, work, state).recommend(REQUEST, RequestRecord(deadline))

    assert answer.tier == tier
    wanted = {Tier.CF: cf, Tier.PRECOMPUTED: NOT_CONFIGURED, Tier.DEEP: deep}
    assert answer.skipped == {rung: reason for rung, reason in wanted.items() if rung > tier}
    assert answer.dropped == dropped
    assert len(answer.rows) == REQUEST.limit


async def test_a_generator_that_is_late_is_named_and_the_model_scores_the_rest(work: WorkPool) -> None:
    release = threading.Event()
    bundle = toy.bundle(far=toy.ToyGenerator("far", False, 7, lambda: waits(release)))

    answer = await pipeline(bundle, work).recommend(REQUEST, RequestRecord(Deadline.after(0.3)))
    release.set()

    assert (answer.tier, answer.dropped) == (Tier.DEEP, {"far": Reason.LATE})


async def test_stuck_threads_keep_no_request_from_its_cf_answer_and_nothing_piles_up() -> None:
    release = threading.Event()
    work = WorkPool(threads=1, max_jobs=2)
    bundle = toy.bundle(scorer=scorer(lambda stop: waits(release)))  # noqa: ARG005 - deaf to stop
    served = pipeline(bundle, work)

    answers = [await served.recommend(REQUEST, RequestRecord(Deadline.after(0.2))) for _ in range(6)]
    jobs_waiting = work._jobs.qsize()
    release.set()
    work.close()

    assert {answer.tier for answer in answers} == {Tier.CF}
    assert answers[0].skipped[Tier.DEEP] is Reason.LATE
    assert answers[-1].skipped[Tier.DEEP] is NO_TIME
    assert answers[-1].dropped == {"far": NO_TIME}
    assert jobs_waiting <= 2


async def test_a_stopped_model_frees_its_thread(work: WorkPool) -> None:
    served = pipeline(toy.bundle(scorer=scorer(toy.hang_until_stopped)), work)

    for _ in range(6):
        assert (await served.recommend(REQUEST, RequestRecord(Deadline.after(0.1)))).tier is Tier.CF
    await all_free(work)


async def test_a_caller_that_goes_away_stops_the_model(work: WorkPool) -> None:
    started = threading.Event()

    def hang(stop: object) -> None:
        started.set()
        toy.hang_until_stopped(stop)  # type: ignore[arg-type]  # a Stop

    served = pipeline(toy.bundle(scorer=scorer(hang)), work)
    task = asyncio.create_task(served.recommend(REQUEST, RequestRecord(Deadline.after(20))))
    await asyncio.to_thread(started.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    await all_free(work)


async def test_the_model_scores_as_many_rows_as_fit_and_the_others_follow_in_prior_order(work: WorkPool) -> None:
    """At 9.9 ms a row 9 rows fit into 100 ms less the reserve of a tenth."""
    clock = [0.0]
    bundle = toy.bundle()
    everything = await pipeline(bundle, work).recommend(replace(REQUEST, limit=9), RequestRecord(Deadline.never()))
    short = pipeline(bundle, work, cost=CostModel(fixed_s=0.0, row_s=0.0099))

    answer = await short.recommend(replace(REQUEST, limit=9), RequestRecord(Deadline.after(0.1, lambda: clock[0])))

    assert (answer.tier, answer.scored_rows) == (Tier.DEEP, 9)
    assert answer.pool_rows == everything.pool_rows > 9
    assert np.isfinite(answer.scores).all()


async def test_rows_that_the_model_did_not_score_have_no_score(work: WorkPool) -> None:
    bundle = toy.bundle()
    served = pipeline(bundle, work)
    part = await served.recommend(replace(REQUEST, limit=50), RequestRecord(Deadline.never()))

    assert part.scored_rows == part.pool_rows < len(part.rows)
    assert np.isnan(part.scores[part.scored_rows :]).all()
    assert (part.proposed[part.scored_rows :] == 0).all()


async def test_too_few_rows_for_the_list_are_no_deep_answer(work: WorkPool) -> None:
    clock = [0.0]
    served = pipeline(toy.bundle(), work, cost=CostModel(row_s=0.02))

    answer = await served.recommend(REQUEST, RequestRecord(Deadline.after(0.1, lambda: clock[0])))

    assert (answer.tier, answer.skipped[Tier.DEEP]) == (Tier.CF, NO_TIME)


@pytest.mark.parametrize("ceiling", [Tier.POPULARITY, Tier.CF, Tier.DEEP])
async def test_no_answer_comes_from_above_the_ceiling(ceiling: Tier, work: WorkPool) -> None:
    answer = await pipeline(toy.bundle(), work).recommend(REQUEST, RequestRecord(Deadline.never(), ceiling))

    assert answer.tier == ceiling
    assert set(answer.skipped.values()) <= {Reason.NOT_ASKED}


async def test_more_time_never_means_a_lower_tier(work: WorkPool) -> None:
    clock = [0.0]
    served = pipeline(toy.bundle(), work)

    async def tier(budget_ms: float) -> Tier:
        return (await served.recommend(REQUEST, RequestRecord(Deadline.after(budget_ms / 1000, lambda: clock[0])))).tier

    tiers = [await tier(budget_ms) for budget_ms in (0, 0.5, 1.5, 3, 200, 2000)]

    assert tiers == sorted(tiers)
    assert (tiers[0], tiers[-1]) == (Tier.POPULARITY, Tier.DEEP)


async def test_cf_answers_from_the_quick_generators_only_whatever_the_model_did(work: WorkPool) -> None:
    """So that what is served after a fault is what was evaluated."""
    broken: Recommendation = await pipeline(toy.bundle(scorer=scorer(toy.fail)), work).recommend(
        REQUEST, RequestRecord(Deadline.never())
    )
    asked = await pipeline(toy.bundle(), work).recommend(REQUEST, RequestRecord(Deadline.never(), Tier.CF))

    assert broken.rows.tolist() == asked.rows.tolist()


def test_runs_that_take_longer_leave_time_for_fewer_rows_and_quick_ones_for_more_again() -> None:
    cost = CostModel(fixed_s=0.001, row_s=1e-5)
    before = cost.rows_within(0.01)
    cost.observe(100, 0.02)
    slow = cost.rows_within(0.01)
    for _ in range(200):
        cost.observe(100, 0.002)

    assert before == 900
    assert slow < before / 3
    assert cost.rows_within(0.01) == pytest.approx(before, rel=0.01)


def test_a_run_that_was_stopped_says_how_slow_the_model_is_at_least() -> None:
    cost = CostModel(fixed_s=0.001, row_s=1e-5)
    cost.observe(100, 0.1, stopped=True)
    cost.observe(100, 0.01, stopped=True)

    assert cost.expected_s(100) == pytest.approx(0.1)


def test_a_model_that_is_too_slow_to_be_asked_is_asked_again_after_some_refusals() -> None:
    cost = CostModel(fixed_s=0.0, row_s=1e-6)
    cost.observe(500, 0.4, stopped=True)
    refused = 0
    while cost.rows_within(0.01) < 20:
        cost.refused()
        refused += 1

    assert 0 < refused < 200


def test_costs_are_fitted_to_two_sizes() -> None:
    cost = CostModel()
    cost.seed((1, 0.00102), (101, 0.00302))

    assert cost.row_s == pytest.approx(2e-5)
    assert cost.fixed_s == pytest.approx(1e-3)
    assert cost.rows_within(0.003) == pytest.approx(100, abs=1)
    assert cost.rows_within(0.0005) == 0


def test_where_many_rows_took_no_longer_than_few_the_cost_is_fixed() -> None:
    """A busy moment of the machine while few were scored must not make every row seem to cost as much as a run."""
    cost = CostModel()
    cost.seed((1, 0.003), (500, 0.003))

    assert cost.expected_s(500) == pytest.approx(0.003)
    assert cost.rows_within(0.01) > 500
    assert cost.rows_within(0.002) == 0


def test_a_stop_that_came_first_stops_the_run_at_once() -> None:
    calls: list[str] = []
    stop = StopFlag()
    stop.stop()
    stop.on_stop(lambda: calls.append("ended"))

    assert calls == ["ended"]


def test_a_child_deadline_is_never_later() -> None:
    parent = Deadline.after(1.0, lambda: 5.0)

    assert parent.sooner(0.25).end_s == 5.75
    assert parent.sooner(-9).end_s == 6.0


def test_stage_times_add_up_in_the_order_they_ended() -> None:
    record = RequestRecord(Deadline.never(), Tier.DEEP)
    record.ended("store")
    record.ended("propose")

    assert list(record.stage_ms) == ["store", "propose"]
    assert min(record.stage_ms.values()) >= 0
