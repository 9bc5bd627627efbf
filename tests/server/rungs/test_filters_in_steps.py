"""A filter that needs a look at the whole catalogue keeps nobody else waiting, and costs no generator its good name."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import TYPE_CHECKING

import numpy as np
import pytest

from candidate_gen.popularity import Popularity, Ranking
from core.allowed import BLOCK
from core.catalogue import Catalogue, Filters
from core.query import Request, build_query
from core.types import Candidates, Reason, UserState
from server.overload.breaker import Breaker, State
from server.rungs.deadline import Deadline
from server.rungs.floor import FILTERS, Floor
from server.rungs.pipeline import Pipeline
from server.rungs.request_record import RequestRecord
from server.rungs.work_pool import WorkPool
from server.settings import Settings
from server.store.user_store import MemoryUserStore
from tests.contracts.filter_world import small_blocks
from tests.server import toy

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from core.bundle import Bundle
    from core.types import Query, Recommendation, Rows, Scores
    from server.overload.breaker import Rule

ITEMS = 400_000


@dataclass
class Clock:
    """Each reading is a moment later."""

    step_s: float
    now_s: float = 0.0

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


class Plugged(toy.ToyPopularity):
    """Fails, and cannot pause."""

    def generate(self, query: Query, limit: int) -> Candidates:
        del query, limit
        raise ValueError

    def score_rows(self, rows: Rows) -> Scores:
        return -rows.astype(np.float32)


class Stuck(Popularity):
    """Fails half-way."""

    def steps(self, query: Query, limit: int) -> Generator[int, None, Candidates]:
        del query, limit
        yield 0
        raise ValueError


def catalogue(price: Scores) -> Catalogue:
    """Items that differ in their prices alone."""
    n = len(price)
    return Catalogue(
        ids=range(n),  # type: ignore[arg-type] - nobody asks for ids
        available=np.ones(n, np.bool_),
        price=price.astype(np.float32),
        created_at=np.zeros(n, np.int64),
        category_ptr=np.zeros(n + 1, np.int32),
        category_idx=np.empty(0, np.int32),
        category_names=(),
        attributes={},
    )


def bundle_of(items: Catalogue, kind: type[Popularity] = Popularity) -> Bundle:
    """Rows are popular in the catalogue's order."""
    popularity = kind(Ranking.of(-np.arange(len(items), dtype=np.float32), items))
    return replace(toy.bundle(items=items, deep=False), popularity=popularity)


def prepared(floor: Floor, query: Query, deadline: Deadline) -> tuple[RequestRecord, int]:
    """What is noted of a request whose floor was prepared, and how often others had the event loop meanwhile."""
    record, turns = RequestRecord(deadline), 0

    async def beside_others() -> None:
        nonlocal turns
        work = asyncio.create_task(floor.prepare(query, query.limit, record, 0.001))
        while not work.done():
            turns += 1
            await asyncio.sleep(0)
        await work

    asyncio.run(beside_others())
    return record, turns


DEAR_BUT_THE_LAST = np.where(np.arange(ITEMS) < ITEMS - 1, 1, 0)
SOME_CHEAP = np.where(np.arange(ITEMS) % 20_000 == 0, 0, 1)
CHEAP = Filters(max_price=0.5)


@pytest.mark.parametrize("kind", ["sound", "failing plug-in", "failing in steps"])
def test_a_long_look_for_allowed_items_leaves_the_event_loop_to_others_after_every_block(kind: str) -> None:
    """Every block seems to take long here; asking for the list afterwards looks at nothing again."""
    bundle = bundle_of(catalogue(DEAR_BUT_THE_LAST), Stuck if kind == "failing in steps" else Popularity)
    if kind == "failing plug-in":
        bundle = replace(bundle, popularity=Plugged())
    floor = Floor(bundle)
    query = build_query(bundle, Request("ada", 20, filters=CHEAP), UserState(), 1000.0)
    record, turns = prepared(floor, query, Deadline(math.inf, Clock(0.01)))

    assert turns >= ITEMS // BLOCK
    assert record.dropped == {}
    spent_s = query.allowed().spent_s
    assert floor.generate(query, 20).rows.tolist() == [ITEMS - 1]
    assert query.allowed().spent_s == spent_s


def test_all_who_look_through_the_catalogue_take_turns_with_a_rest_in_between() -> None:
    """Ten that come at once have the event loop for no more than a third of the time, by a clock that only they move."""
    floor = Floor(bundle_of(catalogue(DEAR_BUT_THE_LAST)))
    clock, stretch_s = Clock(0.0), 0.0005
    deadline = Deadline(1e6, clock)
    waiting = [(0.0, who) for who in range(10)]
    for _ in range(100):
        wakes_s, who = heappop(waiting)
        clock.now_s = max(clock.now_s, wakes_s) + stretch_s
        heappush(waiting, (clock.now_s + floor._rest_s(stretch_s, deadline, 0.001), who))
    assert clock.now_s >= 3 * 90 * stretch_s
    late = Deadline(clock.now_s + 0.002, clock)
    assert floor._rest_s(1.0, late, 0.001) == pytest.approx(0.001)
    assert floor._rest_s(1.0, Deadline.never(), 0.001) == 0


def test_turns_of_callers_who_have_gone_keep_nobody_waiting() -> None:
    """Nor does a long pause of the whole process."""
    floor = Floor(bundle_of(catalogue(DEAR_BUT_THE_LAST)))
    clock = Clock(0.0)
    for _ in range(1000):
        floor._rest_s(0.001, Deadline(clock.now_s + 0.01, clock), 0.001)
    floor._rest_s(5.0, Deadline(clock.now_s + 0.01, clock), 0.001)

    assert floor._rest_s(0.001, Deadline(1e6, clock), 0.001) <= 0.05


def test_a_list_that_is_complete_is_not_waited_for_though_it_took_long() -> None:
    bundle = bundle_of(catalogue(SOME_CHEAP))
    query = build_query(bundle, Request("ada", 20, filters=Filters(max_price=1.5)), UserState(), 1000.0)
    assert prepared(Floor(bundle), query, Deadline(math.inf, Clock(1.0)))[1] == 1


def test_a_list_found_at_the_head_keeps_the_event_loop_to_itself() -> None:
    bundle = bundle_of(catalogue(SOME_CHEAP))
    query = build_query(bundle, Request("ada", 20, filters=Filters(max_price=1.5)), UserState(), 1000.0)
    assert prepared(Floor(bundle), query, Deadline(math.inf, Clock(1e-6)))[1] == 1


def test_a_deadline_too_near_for_the_whole_list_is_noted_and_the_list_is_not_empty() -> None:
    """The head of the order is looked at in any case; where nothing is found there, the look goes on until something is."""
    for price, expected in ((SOME_CHEAP, [0, 20_000]), (DEAR_BUT_THE_LAST, [ITEMS - 1])):
        bundle = bundle_of(catalogue(price))
        floor = Floor(bundle)
        query = build_query(bundle, Request("ada", 20, filters=CHEAP), UserState(), 1000.0)
        record, _ = prepared(floor, query, Deadline(0.0))
        assert floor.generate(query, 20).rows.tolist() == expected
        assert record.dropped == ({FILTERS: Reason.LATE} if price is SOME_CHEAP else {})


def test_rows_to_rank_are_looked_for_nowhere() -> None:
    bundle = bundle_of(catalogue(DEAR_BUT_THE_LAST))
    query = build_query(bundle, Request("ada", 20), UserState(), 1000.0, restrict=())
    prepared(Floor(bundle), query, Deadline.never())
    assert not query.allowed().ranked


@pytest.fixture
def work() -> Generator[WorkPool, None, None]:
    pool = WorkPool(threads=1, max_jobs=4)
    yield pool
    pool.close()


def answers(
    bundle: Bundle, work: WorkPool, request: Request, *deadlines: Deadline
) -> tuple[list[Recommendation], Mapping[str, Breaker]]:
    """Of one pipeline whose breakers' time stands still, and those breakers."""

    def breaker(name: str, rule: Rule) -> Breaker:
        return Breaker(name, rule, clock=lambda: 0.0)

    pipeline = Pipeline(bundle, MemoryUserStore(()), work, Settings(), now_s=lambda: 1000.0, breaker=breaker)

    async def ask() -> list[Recommendation]:
        return [await pipeline.answer(request, UserState(), RequestRecord(each)) for each in deadlines]

    return asyncio.run(ask()), pipeline.breakers


def test_the_answer_names_the_filters_when_time_was_too_short_for_them(work: WorkPool) -> None:
    items = catalogue(np.where(np.arange(60) % 7 == 0, 0, 1))
    with small_blocks():
        (short, whole), _ = answers(
            bundle_of(items), work, Request("ada", 8, filters=CHEAP), Deadline(0.0), Deadline.never()
        )
    assert (whole.rows.tolist(), whole.dropped) == ([0, 7, 14, 21, 28, 35, 42, 49], {})
    assert short.dropped == {FILTERS: Reason.LATE}
    assert short.rows.tolist() == whole.rows.tolist()[: len(short.rows)]
    assert 0 < len(short.rows) < 8


@dataclass
class Slow(toy.ToyGenerator):
    """Takes a tenth of a second of the clock, of which the filters take a part."""

    clock: Clock | None = None
    filters_s: float = 0.0

    def generate(self, query: Query, limit: int) -> Candidates:
        assert self.clock is not None
        self.clock.now_s += 0.1
        query.allowed().spent_s += self.filters_s
        return super().generate(query, limit)


@pytest.mark.parametrize(("filters_s", "state"), [(0.09, State.CLOSED), (0.0, State.OPEN)])
def test_what_the_filters_take_is_no_fault_of_the_generator(work: WorkPool, filters_s: float, state: State) -> None:
    clock = Clock(0.0)
    near = Slow("neighbours", True, 1, clock=clock, filters_s=filters_s)
    request = Request("ada", 8, recent_events=toy.HISTORY)
    _, breakers = answers(toy.bundle(near=near, deep=False), work, request, *(Deadline(1e6, clock) for _ in range(40)))
    assert breakers["neighbours"].state is state
