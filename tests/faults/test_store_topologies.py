"""A store behind Sentinels, and one that is a Cluster: found in the background, and again after it changed."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from typing import TYPE_CHECKING

import numpy as np
import pytest
from redis.crc import key_slot

from core.precompute_record import Shard, ShardRecord, Task
from core.precomputed import PrecomputedList
from core.types import Reason
from server.store.batch_store import BatchStore
from server.store.user_store import RedisUserStore
from server.telemetry.rate_limited_log import RateLimitedLog
from tests.contracts.store_contract import LISTS, SEEN_TYPES, UserStoreContract, event
from tests.faults.valkeys import SERVICE, cluster, sentinel_set_up

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from core.precomputed import RowSpace
    from core.types import UserEvent, UserState
    from tests.faults.valkeys import Cluster, SentinelSetUp

FOUND_S = 20.0
READ_S = 0.5


@pytest.fixture(scope="module")
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelSetUp]:
    with sentinel_set_up(tmp_path_factory.mktemp("sentinel") / "servers") as set_up:
        yield set_up


@pytest.fixture(scope="module")
def three_masters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster") / "servers") as three:
        yield three


async def answered(store: RedisUserStore, user_id: str = "ada") -> UserState:
    """The first answer; until then every read is a miss, and none waits for what is found in the background."""
    end_s = time.monotonic() + FOUND_S
    while True:
        start_s = time.monotonic()
        state = await store.read(user_id, READ_S)
        assert time.monotonic() - start_s < 2 * READ_S
        if state.missing is None:
            return state
        assert time.monotonic() < end_s, dict(store.misses)
        await asyncio.sleep(0.01)


async def until(holds: Callable[[], bool], store: RedisUserStore) -> None:
    """Read until it holds: a store that is not read looks for nothing."""
    end_s = time.monotonic() + FOUND_S
    while not holds():
        await store.read("ada", READ_S)
        assert time.monotonic() < end_s, dict(store.misses)
        await asyncio.sleep(0.01)


async def append(url: str, like: RedisUserStore, *events: UserEvent) -> None:
    """Write as another process does that starts now, into the namespace of a store."""
    store = RedisUserStore(url, like._keys.prefix.split(":")[1], SEEN_TYPES)
    await store.append("ada", events)
    await store.close()


async def ready(url: str, lists: RowSpace | None = None) -> RedisUserStore:
    store = RedisUserStore(url, uuid.uuid4().hex, SEEN_TYPES, lists)
    await answered(store)
    return store


class TestBehindSentinels(UserStoreContract):
    @pytest.fixture
    async def store(self, sentinels: SentinelSetUp) -> AsyncIterator[RedisUserStore]:
        store = await ready(sentinels.url)
        yield store
        await store.close()

    @pytest.fixture
    async def list_store(self, sentinels: SentinelSetUp) -> AsyncIterator[RedisUserStore]:
        store = await ready(sentinels.url, LISTS)
        yield store
        await store.close()

    async def test_the_first_read_is_a_miss_at_once_and_the_master_is_found_behind_it(
        self, sentinels: SentinelSetUp
    ) -> None:
        store = RedisUserStore(sentinels.url, uuid.uuid4().hex, SEEN_TYPES)

        first = await store.read("ada")
        later = await answered(store)
        await store.close()

        assert (first.missing, later.missing) == (Reason.STORE_FAILED, None)
        assert {kind for kind, count in store.misses.items() if count} == {"moved"}

    async def test_a_service_that_no_sentinel_knows_is_a_miss_that_says_so(
        self, sentinels: SentinelSetUp, caplog: pytest.LogCaptureFixture
    ) -> None:
        store = RedisUserStore(f"redis+sentinel://127.0.0.1:{sentinels.sentinel.port}/others", "ns", SEEN_TYPES)
        await until(lambda: store._topology.last_error != "not asked for yet", store)
        store._limited_log = RateLimitedLog(logging.getLogger("again"))
        await store.read("ada")
        await store.close()

        assert "no Sentinel knows the service others" in caplog.text

    async def test_after_a_failover_reads_come_from_the_new_master_though_the_old_one_answers(
        self, store: RedisUserStore, sentinels: SentinelSetUp
    ) -> None:
        await store.append("ada", [event(1)])
        before = sentinels.master_port
        sentinels.sentinel.ask("SENTINEL", "FAILOVER", SERVICE)
        await until(lambda: sentinels.master_port != before, store)
        old, new = sorted(sentinels.servers, key=lambda server: server.port == sentinels.master_port)
        old.ask("REPLICAOF", "127.0.0.1", "1")  # what it answers from now on is of the past
        old.ask("CLIENT", "KILL", "TYPE", "normal")  # as Sentinel does, ten seconds later
        await append(f"redis://127.0.0.1:{new.port}", store, event(2))

        await until(lambda: store._topology.address(b"ada") == ("127.0.0.1", new.port), store)
        found = await answered(store)

        assert found.events == (event(2), event(1))
        assert store.misses["foreign"] == store.misses["corrupt"] == 0


class TestInACluster(UserStoreContract):
    @pytest.fixture
    async def store(self, three_masters: Cluster) -> AsyncIterator[RedisUserStore]:
        store = await ready(three_masters.url)
        yield store
        await store.close()

    @pytest.fixture
    async def list_store(self, three_masters: Cluster) -> AsyncIterator[RedisUserStore]:
        store = await ready(three_masters.url, LISTS)
        yield store
        await store.close()

    async def test_users_on_every_node_are_read_over_few_connections(
        self, store: RedisUserStore, three_masters: Cluster
    ) -> None:
        users = {f"user-{i}": [event(i), event(i + 1, "purchase")] for i in range(60)}
        await store.load(users)
        small = RedisUserStore(three_masters.url, store._keys.prefix.split(":")[1], SEEN_TYPES, max_connections=2)
        await answered(small)

        states = {user_id: await small.read(user_id) for user_id in users}
        await small.close()

        assert {node.client.dbsize() > 0 for node in three_masters.nodes} == {True}
        assert {u: set(s.events) for u, s in states.items()} == {u: set(e) for u, e in users.items()}
        assert small._pool._open == 0

    async def test_a_job_finds_and_reads_users_on_every_node_and_keeps_its_records(
        self, three_masters: Cluster
    ) -> None:
        jobs = BatchStore.open(three_masters.url, uuid.uuid4().hex, "v1")
        users = {f"user-{i}": [event(i), event(i + 1, "purchase")] for i in range(60)}
        await jobs.load(users)
        found = [user_id async for user_id in jobs.user_ids()]
        states = await jobs.read_many(found)
        made = PrecomputedList(np.array([3, 1], np.int32), np.array([0.5, 0.25], np.float32), 1.0)
        await jobs.write_lists(dict.fromkeys(found, made))
        record = ShardRecord(Task("v1", "", 60, Shard(), "all", 100, 1.0), "run", 1, 0.0, 0.0)
        await jobs.swap_record("", record)

        assert sorted(found) == sorted(users)
        assert {u: set(s.events) for u, s in zip(found, states, strict=True)} == {u: set(e) for u, e in users.items()}
        for user_id in found:
            read = (await jobs.read_list(user_id)).precomputed
            assert read is not None
            assert read.rows.tolist() == [3, 1]
        assert await jobs.records() == (record,)
        await jobs.close()

    @pytest.mark.parametrize("user_id", ["ada", "}x", "{a}b", "a}b", "{", "ü"])
    async def test_the_slot_of_a_users_keys_is_the_servers(
        self, store: RedisUserStore, three_masters: Cluster, user_id: str
    ) -> None:
        keys = *store._keys.events_and_seen(user_id), store._keys.precomputed(user_id)
        slots = {three_masters.nodes[0].ask("CLUSTER", "KEYSLOT", key) for key in keys}

        assert slots == {key_slot(keys[0].encode())}

    async def test_a_slot_that_moves_is_a_miss_until_it_is_found_again(
        self, store: RedisUserStore, three_masters: Cluster
    ) -> None:
        await store.append("ada", [event(1, "purchase")])
        slot = key_slot(b"ada")
        source, target = three_masters.begin_move(slot)
        three_masters.move_keys(slot, source, target)

        asked_elsewhere = await store.read("ada")
        three_masters.end_move(slot, target)
        moved = await store.read("ada")
        found = await answered(store)

        assert (asked_elsewhere.missing, moved.missing) == (Reason.STORE_FAILED, Reason.STORE_FAILED)
        assert store.misses["moved"] >= 2
        assert found.events == (event(1, "purchase"),)
        assert len(found.seen) == 1
