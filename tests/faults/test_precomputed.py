"""Lists that were made beforehand stand in for a model that fails, and a list that cannot be used for nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import redis.asyncio as redis

from core.events import user_hash
from core.precomputed import PrecomputedList, RowSpace, encode_list
from server.store.user_store import RedisUserStore
from tests.faults.chaos_world import USERS, VERSIONS, owned
from tests.faults.fault_proxy import HEALTHY, REFUSED
from tests.faults.history import nearly_all, outcomes, percentile_ms
from tests.faults.run_length import DEADLINE_MS
from tests.server import toy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.faults.chaos import Callers, ChaosServer
    from tests.faults.fault_proxy import ProxyThread
    from tests.faults.history import Call
    from tests.faults.run_length import RunLength

RATE = 60
ADA, BOB = USERS[0], USERS[1]
ROWS = (58, 9, 33, 47, 21, 52, 14, 38, 26, 41, 29, 44)
"""All available, and of nobody's who is asked for."""
SPACE = RowSpace(VERSIONS[0], toy.ITEMS)
LISTED = PrecomputedList(np.array(ROWS, np.int32), np.linspace(0.9, 0.1, len(ROWS), dtype=np.float32), 1_700_000_000.0)


@pytest.fixture(autouse=True)
def _unfiltered(callers: Callers) -> None:
    callers.mix = replace(callers.mix, filtered=False, limits=(5,))


@pytest.fixture
async def lists(valkey: str, chaos_namespace: str) -> AsyncIterator[RedisUserStore]:
    """Where the server finds lists; after a test there are none."""
    store = RedisUserStore(valkey, chaos_namespace, ("purchase",), SPACE, connect_timeout_s=20.0)
    yield store
    async with redis.Redis.from_url(valkey) as client:
        await client.delete(*map(store._keys.precomputed, USERS))
    await store.close()


def ids(call: Call) -> list[str]:
    return [item.item_id for item in call.items]


async def until(callers: Callers, holds: Callable[[Call], bool]) -> Call:
    """The first of a user's calls of which it holds."""
    async with asyncio.timeout(30):
        while not holds(call := await callers.call(user=ADA)):
            pass
    return call


async def test_while_the_model_hangs_users_with_lists_get_them_in_time_and_the_others_the_rung_below(
    server: ChaosServer, callers: Callers, lists: RedisUserStore, length: RunLength, figures: dict[str, object]
) -> None:
    with_lists = USERS[::2]
    await lists.write_lists(dict.fromkeys(with_lists, LISTED))
    await callers.run(RATE, length.seconds)
    callers.broken()
    server.command("scorer hang")
    await callers.until(lambda: server.breaker("scorer") == "open", RATE, 10.0, "the breaker opens")
    left_alone = await callers.run(RATE, length.outage_s)
    hurt = await callers.since(callers.history.broken_s)
    server.command("scorer heal")
    callers.healed()
    await callers.until(lambda: server.breaker("scorer") == "closed", RATE, 35.0, "the breaker closes")
    again = await callers.run(RATE, length.seconds)
    figures |= {"hurt": outcomes(hurt), "left_alone": outcomes(left_alone), "again": outcomes(again)}

    of_lists = [call for call in hurt if call.request.user in with_lists]
    others = [call for call in hurt if call.request.user not in with_lists]
    assert nearly_all(sum(call.tier == "PRECOMPUTED" for call in of_lists), len(of_lists)), outcomes(of_lists)
    assert nearly_all(sum(call.tier == "CF" for call in others), len(others)), outcomes(others)
    assert {call.skipped.get("PRECOMPUTED") for call in others if call.tier == "CF"} == {"no_list"}
    assert {call.why for call in of_lists if call.ok} <= {"late", "breaker_open", "no_time"}
    assert percentile_ms(hurt, 99) <= DEADLINE_MS
    assert outcomes(again).get("DEEP", 0) >= 0.8 * len(again), outcomes(again)


@pytest.mark.parametrize("flaw", ["expired", "foreign", "damaged", "of another bundle", "with a row too many"])
async def test_a_list_that_cannot_be_used_leaves_the_next_rung_with_its_reason_and_harms_nobody(
    server: ChaosServer, callers: Callers, lists: RedisUserStore, valkey: str, flaw: str
) -> None:
    server.command("scorer raise")
    mine = user_hash(ADA)
    stored = {
        "foreign": encode_list(SPACE.version, user_hash(BOB), *LISTED),
        "damaged": encode_list(SPACE.version, mine, *LISTED)[:-3] + b"???",
        "of another bundle": encode_list(VERSIONS[1], mine, *LISTED),
        "with a row too many": encode_list(SPACE.version, mine, LISTED.rows + 3, LISTED.scores, 0.0),
    }
    await lists.write_lists({ADA: LISTED, BOB: LISTED}, ttl_s=3600.0)
    before = await until(callers, lambda call: call.tier == "PRECOMPUTED")
    async with redis.Redis.from_url(valkey) as client:
        if flaw == "expired":
            await client.pexpire(lists._keys.precomputed(ADA), 1)
        else:
            await client.set(lists._keys.precomputed(ADA), stored[flaw])

    after = await until(callers, lambda call: call.tier == "CF")
    other = await callers.call(user=BOB)

    assert ids(before) == [f"item-{row:02}" for row in ROWS[:5]]
    assert after.skipped == {"DEEP": after.why, "PRECOMPUTED": "no_list" if flaw == "expired" else "unreadable_list"}
    assert "user_store" not in after.dropped
    assert other.tier == "PRECOMPUTED"
    assert server.breaker("user_store") == "closed"


async def test_what_the_caller_names_is_kept_from_a_list_and_it_is_topped_up(
    server: ChaosServer, callers: Callers, lists: RedisUserStore
) -> None:
    server.command("scorer raise")
    bought = int(owned(ADA)[-1].removeprefix("item-"))
    await lists.write_lists({ADA: LISTED._replace(rows=np.array((bought, 55, *ROWS[:10]), np.int32))})  # 55: sold out

    call = await until(callers, lambda call: call.tier == "PRECOMPUTED")
    fuller = await callers.call(user=ADA, limit=20, exclude=(f"item-{ROWS[0]:02}",))

    assert ids(call) == [f"item-{row:02}" for row in ROWS[:5]]
    assert ids(fuller)[:9] == [f"item-{row:02}" for row in ROWS[1:10]]
    assert len(fuller.items) == 20
    assert fuller.scored == 9


async def test_while_the_store_is_down_there_are_no_lists_and_afterwards_there_are_again(
    server: ChaosServer, callers: Callers, lists: RedisUserStore, redis_proxy: ProxyThread
) -> None:
    server.command("scorer raise")
    await lists.write_lists({ADA: LISTED})
    await until(callers, lambda call: call.tier == "PRECOMPUTED")

    redis_proxy.mode = REFUSED
    down = await until(callers, lambda call: call.tier == "POPULARITY")
    redis_proxy.mode = HEALTHY
    back = await until(callers, lambda call: call.tier == "PRECOMPUTED")

    assert down.skipped["PRECOMPUTED"] == down.dropped["user_store"]
    assert down.dropped["user_store"] in {"store_failed", "store_late", "breaker_open"}
    assert ids(back) == [f"item-{row:02}" for row in ROWS[:5]]
