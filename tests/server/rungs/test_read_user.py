"""When a request asks the user store, and what its breaker learns: it belongs to everybody."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import redis.asyncio as redis

from core.events import item_hashes
from core.query import Request
from core.types import Reason, Tier, UserEvent, UserState
from server.overload.breaker import State
from server.rungs.deadline import Deadline
from server.rungs.pipeline import USER_STORE, Pipeline
from server.rungs.request_record import RequestRecord
from server.rungs.work_pool import WorkPool
from server.settings import Settings
from server.store.user_store import MemoryUserStore, RedisUserStore
from tests.contracts.store_contract import SEEN_TYPES
from tests.faults.fault_proxy import BLACK_HOLE, FaultProxy
from tests.server import toy

if TYPE_CHECKING:
    from collections.abc import Iterator

BOUGHT, DISMISSED = "item-59", "item-58"
STORED = UserState(
    (UserEvent(DISMISSED, "dismiss", 990.0), UserEvent("item-11", "view", 980.0)), seen=item_hashes([BOUGHT])
)


class CountingStore(MemoryUserStore):
    """Knows the same of everybody, and how often it was read."""

    def __init__(self) -> None:
        super().__init__(())
        self.reads = 0

    async def read(self, user_id: str, timeout_s: float = 1.0, report: object = None) -> UserState:  # noqa: ARG002
        self.reads += 1
        return STORED


@pytest.fixture
def work() -> Iterator[WorkPool]:
    pool = WorkPool(threads=1, max_jobs=4)
    yield pool
    pool.close()


def lowered(why: Reason, deadline: Deadline | None = None) -> RequestRecord:
    return RequestRecord(deadline or Deadline.never(), cap=Tier.POPULARITY, why=why)


@pytest.mark.parametrize("why", [Reason.EXERCISED, Reason.FORCED])
async def test_a_call_that_is_lowered_on_purpose_leaves_out_what_its_user_dismissed_or_has_bought(
    work: WorkPool, why: Reason
) -> None:
    store = CountingStore()
    answer = await Pipeline(toy.bundle(), store, work, Settings()).recommend(Request("ada", 60), lowered(why))
    ids = {toy.bundle().catalogue.ids[row] for row in answer.rows}

    assert answer.tier is Tier.POPULARITY
    assert not answer.dropped
    assert not ids & {BOUGHT, DISMISSED}
    assert store.reads == 1


@pytest.mark.parametrize("why", [Reason.OVERLOADED, Reason.NO_TIME])
async def test_a_call_that_is_lowered_for_lack_of_time_does_not_ask_the_store_and_says_so(
    work: WorkPool, why: Reason
) -> None:
    store = CountingStore()
    answer = await Pipeline(toy.bundle(), store, work, Settings()).recommend(Request("ada", 60), lowered(why))

    assert answer.tier is Tier.POPULARITY
    assert answer.dropped == {USER_STORE: why}
    assert store.reads == 0


async def test_a_call_without_any_time_left_does_not_ask_the_store_and_says_so(work: WorkPool) -> None:
    store = CountingStore()
    record = RequestRecord(Deadline(0.0, lambda: 1.0))
    answer = await Pipeline(toy.bundle(), store, work, Settings()).recommend(Request("ada", 8), record)

    assert answer.dropped[USER_STORE] is Reason.NO_TIME
    assert store.reads == 0


async def test_callers_with_short_deadlines_open_the_breaker_of_a_store_that_never_answers(
    work: WorkPool, valkey: str
) -> None:
    async with FaultProxy(valkey.removeprefix("unix://")) as proxy:
        store = RedisUserStore(f"redis://127.0.0.1:{proxy.port}", "hole", SEEN_TYPES, connect_timeout_s=60.0)
        proxy.mode = BLACK_HOLE
        pipeline = Pipeline(toy.bundle(), store, work, Settings())
        async with asyncio.timeout(30):
            while pipeline.breakers[USER_STORE].state is State.CLOSED:
                await pipeline.recommend(Request("ada", 8), RequestRecord(Deadline.after(0.003)))
                await asyncio.sleep(0)
        late = await pipeline.recommend(Request("ada", 8), RequestRecord(Deadline.after(60.0)))
        await store.close()

    assert late.dropped == {USER_STORE: Reason.BREAKER_OPEN}


async def test_a_user_whose_values_are_damaged_costs_the_others_nothing(work: WorkPool, valkey: str) -> None:
    store = RedisUserStore(valkey, "damaged", SEEN_TYPES, slow_s=60.0, connect_timeout_s=60.0)
    for user_id in ("hot", "other"):
        await store.append(user_id, toy.HISTORY)
    async with redis.Redis.from_url(valkey) as client:
        await client.lset(store._keys.events_and_seen("hot")[0], 0, b"garbage")
    settings = Settings(store_timeout_ms=60_000)
    pipeline = Pipeline(toy.bundle(), store, work, settings)
    hot, other = [], []
    for _ in range(40):
        for user_id, answers in (("hot", hot), ("other", other)):
            record = RequestRecord(Deadline.after(60.0))
            answers.append(await pipeline.recommend(Request(user_id, 8), record))
    await store.close()

    assert {(answer.tier, tuple(answer.dropped.items())) for answer in other} == {(Tier.DEEP, ())}
    assert {(answer.tier, answer.dropped[USER_STORE]) for answer in hot} == {(Tier.DEEP, Reason.STORE_FAILED)}
    assert pipeline.breakers[USER_STORE].state is State.CLOSED
