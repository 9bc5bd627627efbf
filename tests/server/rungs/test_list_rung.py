"""The rung PRECOMPUTED: when a list answers, what of it still counts, and what fills it up."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from core.catalogue import Filters
from core.events import item_hashes
from core.precomputed import PrecomputedList
from core.query import Request
from core.types import Reason, Tier, UserEvent, UserState
from server.rungs.deadline import Deadline
from server.rungs.list_rung import SOURCE
from server.rungs.pipeline import Pipeline
from server.rungs.request_record import RequestRecord
from server.rungs.work_pool import WorkPool
from server.settings import Settings
from server.store.user_store import MemoryUserStore
from tests.server import toy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.bundle import Bundle
    from core.types import Recommendation

POPULARITY, CF, PRECOMPUTED, DEEP = Tier
LISTED = (41, 7, 22, 58, 13, 36, 1, 49, 27, 33)
"""All available; in no order that a generator, popularity or the model would find."""
REQUEST = Request("ada", 8)
BROKEN = toy.bundle(scorer=toy.ToyScorer(toy.fail))
IDS = toy.catalogue().ids


def made(rows: tuple[int, ...]) -> PrecomputedList:
    return PrecomputedList(np.array(rows, np.int32), np.linspace(0.9, 0.1, len(rows), dtype=np.float32), 900.0)


def known(*rows: int, events: tuple[UserEvent, ...] = toy.HISTORY, bought: tuple[str, ...] = ()) -> UserState:
    return UserState(events, item_hashes(bought), precomputed=made(rows or LISTED))


@pytest.fixture
def work() -> Iterator[WorkPool]:
    pool = WorkPool(threads=1, max_jobs=4)
    yield pool
    pool.close()


@dataclass
class World:
    work: WorkPool
    bundle: Bundle = BROKEN
    settings: Settings = field(default_factory=Settings)

    async def ask(
        self, user: UserState, request: Request = REQUEST, record: RequestRecord | None = None
    ) -> Recommendation:
        pipeline = Pipeline(self.bundle, MemoryUserStore(()), self.work, self.settings)
        record = record or RequestRecord(Deadline.never())
        answer = await pipeline.answer(request, user, record, now_s=1000.0)
        assert len(answer.rows) == request.limit == len(set(answer.rows.tolist()))
        return answer


@pytest.fixture
def world(work: WorkPool) -> World:
    return World(work)


def with_cf_above(bundle: Bundle) -> Bundle:
    return replace(bundle, manifest=replace(bundle.manifest, precomputed_above_cf=False))


def capped(tier: Tier, why: Reason = Reason.FORCED) -> RequestRecord:
    return RequestRecord(Deadline.never(), cap=tier, why=why)


async def test_where_the_model_fails_the_list_answers_in_its_order_and_says_so(world: World) -> None:
    answer = await world.ask(known())

    assert answer.tier is PRECOMPUTED
    assert answer.skipped == {DEEP: Reason.FAILED}
    assert answer.rows.tolist() == list(LISTED[:8])
    assert answer.scores.tolist() == made(LISTED).scores[:8].tolist()
    assert (answer.scored_rows, answer.pool_rows) == (10, 10)
    assert {answer.sources[i] for i in range(32) for bits in answer.proposed.tolist() if bits >> i & 1} == {SOURCE}


async def test_where_the_model_answers_the_list_is_not_asked(world: World) -> None:
    world.bundle = toy.bundle()

    with_list, without = await world.ask(known()), await world.ask(UserState(toy.HISTORY))

    assert with_list.tier is without.tier is DEEP
    assert with_list.rows.tolist() == without.rows.tolist()


@pytest.mark.parametrize(
    "why", [Reason.NO_LIST, Reason.UNREADABLE_LIST, Reason.STORE_LATE, Reason.NOT_CONFIGURED, Reason.BREAKER_OPEN]
)
async def test_without_a_usable_list_the_rung_below_answers_with_its_reason(world: World, why: Reason) -> None:
    answer = await world.ask(UserState(toy.HISTORY, no_list=why))

    assert (answer.tier, answer.skipped) == (CF, {PRECOMPUTED: why, DEEP: Reason.FAILED})


async def test_a_user_of_whom_nothing_but_a_list_is_known_gets_the_list(world: World) -> None:
    answer = await world.ask(known(events=()), replace(REQUEST, limit=12))

    assert (answer.tier, answer.skipped) == (PRECOMPUTED, {DEEP: Reason.NO_HISTORY})
    assert answer.rows.tolist()[:10] == list(LISTED)
    assert answer.rows.tolist()[10:] == [59, 57]  # popular, and not in the list


async def test_a_list_that_is_too_short_is_topped_up_from_cf_and_then_from_popularity(world: World) -> None:
    of_cf = await world.ask(UserState(toy.HISTORY), record=capped(CF))

    answer = await world.ask(known(41, 13, 7), replace(REQUEST, limit=30))

    proposed_by_cf = [row for row in of_cf.rows.tolist() if row != 13]
    rows = answer.rows.tolist()
    assert answer.tier is PRECOMPUTED
    assert rows[:3] == [41, 13, 7]
    assert rows[3:10] == proposed_by_cf[:7]
    assert answer.scored_rows == 3
    assert np.isnan(answer.scores[3:]).all()
    others = [answer.sources[i] for i in range(32) for bits in answer.proposed[3:].tolist() if bits >> i & 1]
    assert SOURCE not in others


@pytest.mark.parametrize("broken", ["prior", "generators"])
async def test_what_tops_up_may_fail_and_the_list_is_as_long_all_the_same(world: World, broken: str) -> None:
    if broken == "prior":
        world.bundle = replace(BROKEN, prior=toy.ToyScorer(toy.fail))
    else:
        world.bundle = toy.bundle(
            near=toy.ToyGenerator("neighbours", True, 1, toy.fail), scorer=toy.ToyScorer(toy.fail)
        )

    answer = await world.ask(known(41, 7))

    assert answer.tier is PRECOMPUTED
    assert answer.rows.tolist()[:2] == [41, 7]


async def test_items_that_were_bought_disliked_or_sold_out_since_are_not_on_the_list(world: World) -> None:
    dismissed = UserEvent("item-22", "dismiss", 995.0)
    user = known(40, *LISTED, events=(dismissed, *toy.HISTORY), bought=("item-41",))
    now_bought = UserEvent("item-07", "purchase", 999.0)

    answer = await world.ask(user, replace(REQUEST, recent_events=(now_bought,), exclude=("item-13",)))

    assert answer.tier is PRECOMPUTED
    assert answer.rows.tolist()[:6] == [58, 36, 1, 49, 27, 33]  # 40 is not available
    assert not {40, 41, 7, 22, 13} & set(answer.rows.tolist())


async def test_where_repeats_are_allowed_what_was_bought_may_come_back(world: World) -> None:
    answer = await world.ask(known(bought=("item-41",)), replace(REQUEST, allow_repeats=True))

    assert answer.rows.tolist() == list(LISTED[:8])


async def test_filters_hold_for_a_list_and_for_what_tops_it_up(world: World) -> None:
    answer = await world.ask(known(), replace(REQUEST, limit=12, filters=Filters(categories=("book",))))

    books = [row for row in LISTED if row % 3 == 0]
    assert answer.tier is PRECOMPUTED
    assert answer.rows.tolist()[: len(books)] == books
    assert all(row % 3 == 0 for row in answer.rows.tolist())


async def test_a_list_of_which_nothing_is_allowed_is_none(world: World) -> None:
    answer = await world.ask(known(), replace(REQUEST, exclude=tuple(IDS[row] for row in LISTED)))

    assert (answer.tier, answer.skipped) == (CF, {PRECOMPUTED: Reason.NO_CANDIDATES, DEEP: Reason.FAILED})


@pytest.mark.parametrize("why", [Reason.FORCED, Reason.EXERCISED, Reason.OVERLOADED])
@pytest.mark.parametrize("allowed", [10, 3], ids=["enough", "too short"])
async def test_a_call_that_may_not_climb_to_the_model_is_answered_from_the_list(
    world: World, why: Reason, allowed: int
) -> None:
    answer = await world.ask(known(*LISTED[:allowed]), record=capped(PRECOMPUTED, why))

    assert (answer.tier, answer.skipped) == (PRECOMPUTED, {DEEP: why})
    assert answer.rows.tolist()[:3] == list(LISTED[:3])


async def test_where_the_list_lacks_nothing_and_no_rung_above_is_tried_no_generator_runs(world: World) -> None:
    calls: list[str] = []
    near = toy.ToyGenerator("neighbours", True, 1, lambda: calls.append("near"))
    world.bundle = toy.bundle(near=near, deep=False)

    at_once, short = await world.ask(known()), await world.ask(known(41, 7))

    assert (
        (at_once.tier, at_once.skipped) == (short.tier, short.skipped) == (PRECOMPUTED, {DEEP: Reason.NOT_CONFIGURED})
    )
    assert list(at_once.stage_ms) == ["select"]
    assert calls == ["near"]


@pytest.mark.parametrize("cap", [POPULARITY, CF])
async def test_a_call_that_is_kept_below_the_list_is_answered_from_below(world: World, cap: Tier) -> None:
    answer = await world.ask(known(), record=capped(cap))

    assert answer.tier is cap
    assert answer.skipped[PRECOMPUTED] is Reason.FORCED


@pytest.mark.parametrize("left_s", [0.0, 0.0005])
async def test_a_call_without_time_takes_no_list(world: World, left_s: float) -> None:
    answer = await world.ask(known(), record=RequestRecord(Deadline(left_s, lambda: 0.0)))

    assert (answer.tier, answer.skipped[PRECOMPUTED]) == (POPULARITY, Reason.NO_TIME)


async def test_a_model_that_hangs_leaves_the_list(work: WorkPool) -> None:
    world = World(work, toy.bundle(scorer=toy.ToyScorer(toy.hang_until_stopped)))

    answer = await world.ask(known(), record=RequestRecord(Deadline.after(0.2)))

    assert (answer.tier, answer.skipped) == (PRECOMPUTED, {DEEP: Reason.LATE})


async def test_where_a_bundle_says_so_cf_stands_above_the_list(world: World) -> None:
    world.bundle = with_cf_above(BROKEN)

    usual = await world.ask(known())
    cold = await world.ask(known(events=()))
    forced = await world.ask(known(), record=capped(PRECOMPUTED))
    overloaded = await world.ask(known(), record=capped(PRECOMPUTED, Reason.OVERLOADED))

    assert (usual.tier, usual.skipped) == (CF, {DEEP: Reason.FAILED})
    assert (cold.tier, cold.skipped) == (PRECOMPUTED, {CF: Reason.NO_HISTORY, DEEP: Reason.NO_HISTORY})
    assert (forced.tier, forced.skipped) == (PRECOMPUTED, {CF: Reason.FORCED, DEEP: Reason.FORCED})
    assert (overloaded.tier, overloaded.skipped) == (CF, {DEEP: Reason.OVERLOADED})


async def test_where_cf_stands_above_it_still_tops_up_a_list_that_is_asked_for(world: World) -> None:
    world.bundle = with_cf_above(BROKEN)

    answer = await world.ask(known(41), record=capped(PRECOMPUTED))

    assert (answer.tier, answer.skipped[CF]) == (PRECOMPUTED, Reason.FORCED)
    assert answer.rows.tolist()[0] == 41
    assert {12, 13, 14} <= set(answer.rows.tolist())  # the neighbours of the newest event


async def test_where_cf_stands_above_and_fails_the_list_answers(world: World) -> None:
    world.bundle = with_cf_above(
        toy.bundle(near=toy.ToyGenerator("neighbours", True, 1, toy.fail), scorer=toy.ToyScorer(toy.fail))
    )

    answer = await world.ask(known())

    assert answer.tier is PRECOMPUTED
    assert set(answer.skipped) == {CF, DEEP}


@pytest.mark.parametrize("cf_above", [False, True])
@pytest.mark.parametrize("allowed", [10, 3], ids=["enough", "too short"])
async def test_a_surface_may_take_lists_first_and_the_model_is_not_asked_then(
    work: WorkPool, cf_above: bool, allowed: int
) -> None:
    model = toy.ToyScorer()
    bundle = toy.bundle(scorer=model)
    world = World(work, with_cf_above(bundle) if cf_above else bundle, Settings(precomputed_first=("cheap",)))

    cheap = await world.ask(known(*LISTED[:allowed]), replace(REQUEST, surface="cheap"))
    assert model.scored == []
    other = await world.ask(known(), replace(REQUEST, surface="home"))
    nothing = await world.ask(UserState(toy.HISTORY, no_list=Reason.NO_LIST), replace(REQUEST, surface="cheap"))
    excluded = tuple(IDS[row] for row in LISTED)
    empty = await world.ask(known(), replace(REQUEST, surface="cheap", exclude=excluded))

    above = {CF: Reason.NOT_NEEDED} if cf_above else {}
    assert (cheap.tier, cheap.skipped) == (PRECOMPUTED, above | {DEEP: Reason.NOT_NEEDED})
    assert cheap.rows.tolist()[:3] == list(LISTED[:3])
    assert other.tier is nothing.tier is empty.tier is DEEP


async def test_items_that_a_caller_names_are_not_ordered_by_a_list(world: World) -> None:
    pipeline = Pipeline(world.bundle, MemoryUserStore(()), world.work, Settings())

    answer = await pipeline.answer(
        replace(REQUEST, limit=2),
        known(),
        RequestRecord(Deadline.never()),
        now_s=1000.0,
        restrict=("item-41", "item-12"),
    )

    assert (answer.tier, answer.skipped[PRECOMPUTED]) == (CF, Reason.NOT_ASKED)


@pytest.mark.parametrize("bundle", [BROKEN, with_cf_above(BROKEN)], ids=["usual", "cf above"])
async def test_similar_items_ask_for_no_list(work: WorkPool, bundle: Bundle) -> None:
    pipeline = Pipeline(bundle, MemoryUserStore(()), work, Settings())

    answer = await pipeline.similar("unheard-of", REQUEST, RequestRecord(Deadline.never(), CF))

    assert answer.skipped == {CF: Reason.UNKNOWN_ITEM, PRECOMPUTED: Reason.NOT_ASKED, DEEP: Reason.NOT_ASKED}
