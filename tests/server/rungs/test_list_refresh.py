"""Lists that answers renew: which answers do, what is kept, and what is left out first."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from core.catalogue import Filters
from core.precomputed import LIST_ROWS, PrecomputedList, RowSpace
from core.query import Request
from core.types import Pool, Reason, Tier
from server.rungs.deadline import Deadline
from server.rungs.list_refresh import MOST_IN_FLIGHT, ListRefresh
from server.rungs.pipeline import Pipeline
from server.rungs.request_record import RequestRecord
from server.rungs.work_pool import WorkPool
from server.settings import Settings
from server.store.user_store import MemoryUserStore
from tests.server import toy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SPACE = RowSpace("v", 1_000)
REQUEST = Request("ada", 8)
NOW_S = 1_700_000_000.0


def scored(rows: int) -> tuple[Pool, np.ndarray]:
    """A pool of 150 rows of which some were scored, the last of these best."""
    pool = Pool(
        np.arange(900, 750, -1, dtype=np.int32), np.zeros((150, 1), np.float32), ("near",), np.zeros(150, np.float32)
    )
    return pool, np.arange(rows, dtype=np.float32)


def answered(rows: int = 120, *, alone: bool = True) -> RequestRecord:
    record = RequestRecord(Deadline.never(), alone=alone)
    record.scored = scored(rows)
    return record


class Held(MemoryUserStore):
    """Writes nothing before it is told to."""

    def __init__(self, fail: bool = False) -> None:
        super().__init__((), SPACE)
        self.go, self.fail, self.begun = asyncio.Event(), fail, 0

    async def write_lists(self, lists: Mapping[str, PrecomputedList], ttl_s: float = 1e6) -> None:
        self.begun += 1
        await self.go.wait()
        if self.fail:
            raise ConnectionError("secret: hunter2")
        await super().write_lists(lists, ttl_s)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - what happens in the background wakes nobody
            await asyncio.sleep(0)


def refresh(store: MemoryUserStore, share: float = 1.0) -> ListRefresh:
    return ListRefresh(store, share, now_s=lambda: NOW_S, rng=lambda: 0.5)


async def test_the_best_hundred_of_what_was_scored_are_kept() -> None:
    store = MemoryUserStore((), SPACE)
    kept = refresh(store)

    kept.offer(REQUEST, answered())
    await until(lambda: kept.writes["written"] == 1)

    found = (await store.read("ada")).precomputed
    assert found is not None
    assert found.rows.tolist() == list(range(781, 881))  # of rows 900 to 781 the last is best
    assert found.scores.tolist() == list(range(119, 19, -1))
    assert found.created_s == NOW_S


@pytest.mark.parametrize(
    ("request_", "record"),
    [
        (replace(REQUEST, filters=Filters(categories=("book",))), answered()),
        (replace(REQUEST, exclude=("item-1",)), answered()),
        (replace(REQUEST, allow_repeats=True), answered()),
        (REQUEST, answered(LIST_ROWS - 1)),
        (REQUEST, RequestRecord(Deadline.never(), alone=True)),
    ],
    ids=["filters", "exclusions", "repeats", "too few rows", "not from the deep rung"],
)
async def test_what_is_no_list_for_another_request_is_not_kept(request_: Request, record: RequestRecord) -> None:
    kept = refresh(MemoryUserStore((), SPACE))

    kept.offer(request_, record)

    assert not kept._tasks
    assert set(kept.writes.values()) == {0}


async def test_an_answer_that_was_made_without_the_users_history_is_not_kept() -> None:
    kept, record = refresh(MemoryUserStore((), SPACE)), answered()
    record.missing = Reason.STORE_FAILED

    kept.offer(REQUEST, record)

    assert not kept._tasks


@pytest.mark.parametrize(("share", "begun"), [(0.0, 0), (0.5, 0), (0.51, 1)])
async def test_a_share_of_the_answers_is_kept(share: float, begun: int) -> None:
    kept = refresh(MemoryUserStore((), SPACE), share)

    kept.offer(REQUEST, answered())

    assert len(kept._tasks) == begun
    await kept.close()


@pytest.mark.parametrize("lists", [None, RowSpace("another", toy.ITEMS)], ids=["none", "another bundle's"])
async def test_where_the_store_keeps_no_lists_of_this_bundle_nothing_is_written_or_read(
    monkeypatch: pytest.MonkeyPatch, lists: RowSpace | None
) -> None:
    monkeypatch.setattr("server.rungs.list_refresh.LIST_ROWS", 5)
    store, work = MemoryUserStore((), lists), WorkPool(threads=1, max_jobs=4)
    await store.append("ada", toy.HISTORY)
    if lists is not None:
        await store.write_lists({"ada": PrecomputedList(np.arange(9, dtype=np.int32), np.zeros(9, np.float32), NOW_S)})
    served = Pipeline(toy.bundle(), store, work, Settings(refresh_share=1.0), now_s=lambda: 1000.0)

    deep = await served.recommend(REQUEST, RequestRecord(Deadline.never(), alone=True))
    below = await served.recommend(REQUEST, RequestRecord(Deadline.never(), Tier.PRECOMPUTED))
    work.close()

    assert deep.tier is Tier.DEEP
    assert not served.refresh._tasks
    assert (below.tier, below.skipped[Tier.PRECOMPUTED]) == (Tier.CF, Reason.NOT_CONFIGURED)


async def test_a_call_that_met_others_writes_nothing_and_it_is_counted() -> None:
    kept = refresh(MemoryUserStore((), SPACE))

    kept.offer(REQUEST, answered(alone=False))

    assert kept.writes == {"written": 0, "failed": 0, "dropped": 1}


async def test_a_store_that_is_slow_has_a_few_lists_to_write_and_no_more() -> None:
    store = Held()
    kept = refresh(store)

    for _ in range(MOST_IN_FLIGHT + 3):
        kept.offer(REQUEST, answered())
    await until(lambda: store.begun == MOST_IN_FLIGHT)
    store.go.set()
    await until(lambda: not kept._tasks)
    kept.offer(REQUEST, answered())
    await until(lambda: kept.writes["written"] == MOST_IN_FLIGHT + 1)

    assert kept.writes["dropped"] == 3


async def test_a_list_that_cannot_be_written_is_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    store = Held(fail=True)
    store.go.set()
    kept = refresh(store)

    kept.offer(REQUEST, answered())
    await until(lambda: kept.writes["failed"] == 1)

    assert "could not be written" in caplog.text


async def test_closing_gives_up_what_is_not_written() -> None:
    store = Held()
    kept = refresh(store)
    kept.offer(REQUEST, answered())
    await until(lambda: store.begun == 1)

    await kept.close()

    assert not kept._tasks
    assert (await store.read("ada")).no_list is Reason.NO_LIST


async def test_an_answer_of_the_deep_rung_does_not_wait_for_its_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.rungs.list_refresh.LIST_ROWS", 5)  # the toy pool has no hundred
    store, work = Held(), WorkPool(threads=1, max_jobs=4)
    store.lists = RowSpace("toy", toy.ITEMS)
    await store.append("ada", toy.HISTORY)
    served = Pipeline(toy.bundle(), store, work, Settings(refresh_share=1.0), now_s=lambda: 1000.0)

    record = RequestRecord(Deadline.never(), alone=True)
    answer = await served.recommend(REQUEST, record)
    begun = store.begun
    store.go.set()
    await until(lambda: served.refresh.writes["written"] == 1)
    listed = await served.recommend(REQUEST, RequestRecord(Deadline.never(), Tier.PRECOMPUTED))
    work.close()

    assert (answer.tier, begun) == (Tier.DEEP, 0)
    assert listed.tier is Tier.PRECOMPUTED
    assert listed.rows[:5].tolist() == answer.rows[:5].tolist()
