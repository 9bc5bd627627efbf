"""Users in bulk, and records of jobs, in a real Valkey."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
import redis.asyncio as redis

from core.precompute_record import Counts, PrecomputeError, Shard, ShardRecord, Task
from core.types import Reason
from server.store.batch_store import BatchStore
from server.store.user_store import RedisUserStore
from tests.contracts.store_contract import SEEN_TYPES, event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ODD_IDS = ("ada", "}", "{", "{}", "}x}", "a}b", "{a}b", "a b", "::", "ü漢", "a{", ":}x", "a}:hex", "x}:events", "7d")


@pytest.fixture
async def namespace() -> str:
    return uuid.uuid4().hex


@pytest.fixture
async def users(valkey: str, namespace: str) -> AsyncIterator[RedisUserStore]:
    store = RedisUserStore(valkey, namespace, SEEN_TYPES, connect_timeout_s=20.0)
    yield store
    await store.close()


@pytest.fixture
async def store(valkey: str, namespace: str) -> AsyncIterator[BatchStore]:
    store = BatchStore.open(valkey, namespace, "v1")
    yield store
    await store.close()


def record(shard: Shard, run: str = "run-1", **more: object) -> ShardRecord:
    return ShardRecord(Task("v1", "", 60, shard, "all", 100, 1000.0), run, 1, 0.0, 0.0, **more)  # type: ignore[arg-type]


async def test_every_user_is_found_whatever_the_id_and_nobody_of_another_namespace(
    valkey: str, users: RedisUserStore, store: BatchStore, namespace: str
) -> None:
    await users.load({user_id: [event(1, "purchase")] for user_id in ODD_IDS})
    other = RedisUserStore(valkey, f"{namespace}-2", SEEN_TYPES)
    await other.append("eve", [event(1)])
    await other.close()

    assert sorted([user_id async for user_id in store.user_ids()]) == sorted(ODD_IDS)


async def test_a_namespace_is_no_pattern(valkey: str) -> None:
    own, other = f"{uuid.uuid4().hex}[ab]*?\\", f"{uuid.uuid4().hex}a"
    for namespace in (own, other):
        users = RedisUserStore(valkey, namespace, SEEN_TYPES)
        await users.append("ada", [event(1)])
        await users.append(namespace, [event(1)])
        await users.close()
    store = BatchStore.open(valkey, own, "v1")

    assert sorted([user_id async for user_id in store.user_ids()]) == sorted(["ada", own])
    await store.close()


async def test_many_users_are_read_as_one_is(users: RedisUserStore, store: BatchStore) -> None:
    await users.load({user_id: [event(n), event(n + 1, "purchase")] for n, user_id in enumerate(ODD_IDS)})
    asked = [*ODD_IDS, "nobody"]

    states = await store.read_many(asked)

    for user_id, state in zip(asked, states, strict=True):
        alone = await users.read(user_id)
        assert (state.events, state.missing) == (alone.events, alone.missing)
        assert state.seen.tolist() == alone.seen.tolist()


async def test_values_that_are_not_readable_are_that_users_alone(
    valkey: str, users: RedisUserStore, store: BatchStore
) -> None:
    await users.load({user_id: [event(1), event(2, "purchase")] for user_id in ("ada", "bob", "eve", "joe")})
    raw = redis.Redis.from_url(valkey)
    events, _ = users._keys.events_and_seen("ada")
    await raw.lset(events, 0, b"damaged")
    await raw.set(users._keys.events_and_seen("bob")[0], b"no list")
    for stolen, own in zip(*(users._keys.events_and_seen(user_id) for user_id in ("joe", "eve")), strict=True):
        await raw.copy(stolen, own, replace=True)
    await raw.aclose()

    states = dict(zip(("ada", "bob", "eve", "joe"), await store.read_many(("ada", "bob", "eve", "joe")), strict=True))

    assert {user_id: (len(state.events), state.missing) for user_id, state in states.items()} == {
        "ada": (1, Reason.STORE_FAILED),
        "bob": (0, Reason.STORE_FAILED),
        "eve": (0, Reason.STORE_FAILED),
        "joe": (2, None),
    }


async def test_records_of_shards_are_kept_side_by_side(store: BatchStore) -> None:
    one, two = record(Shard(0, 2)), record(Shard(1, 2), counts=Counts(users=2, failed={"late": 2}), sample=("ü{}",))
    for each in (one, two):
        await store.swap_record("", each)

    assert set(map(repr, await store.records())) == {repr(one), repr(two)}
    assert await store.stored_record(Shard(1, 2)) == two.to_json()
    assert await store.stored_record(Shard(0, 3)) == ""


async def test_of_two_processes_that_work_on_one_shard_the_first_stops(store: BatchStore) -> None:
    first = await store.swap_record("", record(Shard()))
    second = await store.swap_record(first, record(Shard(), "run-2"))

    with pytest.raises(PrecomputeError, match="another process works on shard 0/1 of v1"):
        await store.swap_record(first, record(Shard()))
    with pytest.raises(PrecomputeError, match="another process"):
        await store.swap_record("", record(Shard()))
    assert await store.stored_record(Shard()) == second


async def test_records_of_other_versions_and_users_called_alike_are_no_records(
    valkey: str, users: RedisUserStore, store: BatchStore, namespace: str
) -> None:
    other = BatchStore.open(valkey, namespace, "v2")
    await other.swap_record("", record(Shard()))
    await other.close()
    await users.append("shards", [event(1)])

    assert await store.records() == ()
