from __future__ import annotations

import asyncio
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import redis.asyncio as redis

from core.events import VERSION, encode_event, encode_seen, item_hashes, user_hash
from core.precomputed import RowSpace, encode_list
from core.types import Reason, UserState
from server.overload.breaker import Outcome
from server.store.user_store import MemoryUserStore, RedisUserStore
from tests.contracts.store_contract import LISTS, SEEN_TYPES, UserStoreContract, event, listed, rows_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from server.store.connections import Miss
    from server.store.user_store import UserStore


PATIENT_S = 20.0
ADA, BOB = user_hash("ada"), user_hash("bob")


def _text(value: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(value), value)


def _listed(value: bytes) -> bytes:
    return b"*1\r\n" + _text(value)


@asynccontextmanager
async def _server_of(reply: bytes | None) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A server that answers whatever it is asked with the same bytes; None: nothing, empty: it closes.

    Its URL, and what is set when a connection has ended.
    """
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            writer.write(reply or b"")
            if reply == b"":
                break
        writer.close()
        await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", ended
    await ended.wait()
    server.close()
    await server.wait_closed()


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - what happens in the background wakes nobody
            await asyncio.sleep(0)


class TestMemoryUserStore(UserStoreContract):
    @pytest.fixture
    def store(self) -> UserStore:
        return MemoryUserStore(SEEN_TYPES)

    @pytest.fixture
    def list_store(self) -> UserStore:
        return MemoryUserStore(SEEN_TYPES, LISTS)


class TestRedisUserStore(UserStoreContract):
    @pytest.fixture
    async def store(self, valkey: str) -> AsyncIterator[RedisUserStore]:
        store = RedisUserStore(valkey, uuid.uuid4().hex, SEEN_TYPES, connect_timeout_s=PATIENT_S)
        yield store
        await store.close()

    @pytest.fixture
    async def list_store(self, valkey: str) -> AsyncIterator[RedisUserStore]:
        store = RedisUserStore(valkey, uuid.uuid4().hex, SEEN_TYPES, LISTS, connect_timeout_s=PATIENT_S)
        yield store
        await store.close()

    async def test_loading_replaces_what_was_stored(self, store: RedisUserStore) -> None:
        await store.append("ada", [event(9, "purchase")])
        await store.load({"ada": [event(1), event(2, "purchase")], "bob": [event(3)], "eve": []})

        assert (await store.read("ada")).events == (event(2, "purchase"), event(1))
        assert len((await store.read("ada")).seen) == 1
        assert (await store.read("bob")).events == (event(3),)
        assert (await store.read("eve")).events == ()

    async def test_everything_of_a_user_expires(self, store: RedisUserStore, valkey: str) -> None:
        await store.append("ada", [event(1, "purchase")])
        await store.load({"bob": [event(1, "purchase")]})

        client = redis.Redis.from_url(valkey)
        ttls = [await client.ttl(key) async for key in client.scan_iter(f"{store._keys.prefix}*")]
        await client.aclose()

        assert len(ttls) == 4
        assert min(ttls) > 0

    async def test_reads_at_once_get_their_own_user_even_when_some_are_cancelled(self, store: RedisUserStore) -> None:
        """A cancelled read leaves a reply under way; nobody else may ever get it (CVE-2023-28858)."""
        await store.load({f"user-{i}": [event(i)] for i in range(20)})

        async def read(i: int) -> bool:
            state = await store.read(f"user-{i}")
            return state.missing is not None or state.events == (event(i),)

        for turn in range(15):
            tasks = [asyncio.create_task(read(i)) for i in range(20)]
            for _ in range(turn):
                await asyncio.sleep(0)
            for task in tasks[turn % 3 :: 3]:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(o is True for o in outcomes if not isinstance(o, asyncio.CancelledError))

        assert (await store.read("user-7")).events == (event(7),)

    async def test_one_read_too_many_is_late_at_once(self, valkey: str) -> None:
        store = RedisUserStore(valkey, uuid.uuid4().hex, SEEN_TYPES, max_connections=1)

        both = await asyncio.gather(store.read("ada"), store.read("bob"))
        after = await store.read("bob")
        await store.close()

        assert [state.missing for state in both] == [None, Reason.STORE_LATE]
        assert after.missing is None

    async def test_a_store_that_refuses_is_a_failure_and_not_an_error_and_said_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        store = RedisUserStore("redis://127.0.0.1:1", "ns", SEEN_TYPES)

        state = await store.read("ada")
        await store.read("ada")
        await store.close()

        assert state.missing is Reason.STORE_FAILED
        assert store.misses["refused"] == 2
        (said,) = caplog.messages
        assert "refused" in said
        assert "127.0.0.1:1" in said

    @pytest.mark.parametrize(
        ("reply", "kind", "outcome"),
        [
            (None, "late", Outcome.FAILURE),
            (b"", "failed", Outcome.FAILURE),
            (b"+OK\r\nnonsense", "failed", Outcome.FAILURE),
            (b"-LOADING Valkey is loading the dataset in memory\r\n", "failed", Outcome.FAILURE),
            (b"-MOVED 7 127.0.0.1:1\r\n", "moved", Outcome.FAILURE),
            (b"-MOVED nonsense\r\n", "failed", Outcome.FAILURE),
            (b":1\r\n:2\r\n", "failed", Outcome.FAILURE),
            (b"*1\r\n:1\r\n$-1\r\n", "failed", Outcome.FAILURE),
            (b"*2\r\n$30\r\nhalf a re", "late", Outcome.FAILURE),
            (_listed(encode_event(event(1), BOB)) + b"$-1\r\n", "foreign", Outcome.SUCCESS),
            (b"*0\r\n" + _text(encode_seen(item_hashes(["item-1"]), BOB)), "foreign", Outcome.SUCCESS),
        ],
        ids=[
            "silent",
            "closes",
            "nonsense",
            "loading",
            "moved",
            "moved nowhere",
            "numbers",
            "a list of numbers",
            "half a reply",
            "another user's events",
            "another user's seen items",
        ],
    )
    async def test_a_store_that_answers_rubbish_is_a_miss_and_not_an_error_and_loses_its_connection(
        self, reply: bytes | None, kind: Miss, outcome: Outcome
    ) -> None:
        reports: list[Outcome] = []
        async with _server_of(reply) as (url, ended):
            slow_s, timeout_s = (0.1, 0.2) if kind == "late" else (PATIENT_S, PATIENT_S)
            store = RedisUserStore(url, "ns", SEEN_TYPES, slow_s=slow_s, connect_timeout_s=PATIENT_S)
            state = await store.read("ada", timeout_s, reports.append)
            if kind != "late":
                await ended.wait()
                assert store.in_use == 0
            await store.close()

        assert state.missing is (Reason.STORE_LATE if kind == "late" else Reason.STORE_FAILED)
        assert (state.events, len(state.seen)) == ((), 0)
        assert {k: count for k, count in store.misses.items() if count} == {kind: 1}
        assert reports == [outcome]

    @pytest.mark.parametrize(
        ("reply", "kind"),
        [
            (_listed(b"abc") + b"$-1\r\n", "corrupt"),
            (b"*0\r\n$6\r\nabcdef\r\n", "corrupt"),
            (_listed(bytes([VERSION + 1]) + encode_event(event(1), ADA)[1:]) + b"$-1\r\n", "version"),
            (_listed(encode_event(event(1), ADA)[:-1]) + b"$-1\r\n", "corrupt"),
            (b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n" * 2, "corrupt"),
        ],
        ids=["event too short", "seen items cut", "another version", "damaged", "another type"],
    )
    async def test_values_that_cannot_be_read_are_that_users_miss_and_cost_neither_breaker_nor_connection(
        self, reply: bytes, kind: Miss
    ) -> None:
        reports: list[Outcome] = []
        async with _server_of(reply) as (url, _):
            store = RedisUserStore(url, "ns", SEEN_TYPES, slow_s=PATIENT_S, connect_timeout_s=PATIENT_S)
            states = [await store.read("ada", PATIENT_S, reports.append) for _ in range(3)]
            kept = store._pool._open, store.in_use
            await store.close()

        assert {(state.missing, state.events, len(state.seen)) for state in states} == {(Reason.STORE_FAILED, (), 0)}
        assert {k: count for k, count in store.misses.items() if count} == {kind: 3}
        assert reports == [Outcome.SUCCESS] * 3
        assert kept == (1, 0)

    async def test_a_connection_that_the_store_closed_is_replaced_without_a_failed_read(
        self, store: RedisUserStore, valkey: str
    ) -> None:
        await store.append("ada", [event(1)])
        await store.read("ada")
        client = redis.Redis.from_url(valkey)
        await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await client.aclose()
        await asyncio.sleep(0)  # lets the loop see the end of the stream

        assert (await store.read("ada")).events == (event(1),)

    async def test_a_read_that_is_cancelled_while_it_connects_leaves_its_connection_to_the_next(
        self, store: RedisUserStore
    ) -> None:
        read = asyncio.create_task(store.read("ada"))
        await _until(lambda: store.in_use > 0)
        read.cancel()
        await _until(lambda: store.in_use == 0)

        assert read.cancelled()
        assert store._pool._open == 1
        assert (await store.read("ada")).missing is None
        assert store._pool._open == 1

    async def test_closing_lets_go_of_connections_that_replies_are_under_way_on(self, store: RedisUserStore) -> None:
        reads = [asyncio.create_task(store.read(f"user-{i}")) for i in range(5)]
        await _until(lambda: store.in_use > 0)
        for read in reads:
            read.cancel()
        await asyncio.wait(reads)
        await store.close()

        assert (store._pool._open, store.in_use) == (0, 0)
        assert (await store.read("ada")).missing is Reason.STORE_LATE

    async def test_user_password_and_database_are_those_of_the_url(self, valkey: str) -> None:
        client = redis.Redis.from_url(valkey)
        await client.acl_setuser("ada", enabled=True, passwords=["+p@ss"], keys=["*"], commands=["+@all"])
        await client.aclose()
        namespace, path = uuid.uuid4().hex, valkey.removeprefix("unix://")
        stores = [
            RedisUserStore(url, namespace, SEEN_TYPES, connect_timeout_s=PATIENT_S)
            for url in (f"unix://ada:p%40ss@{path}?db=1", f"unix://ada:wrong@{path}?db=1", f"unix://{path}?db=0")
        ]
        await stores[0].append("ada", [event(1)])

        right, wrong, elsewhere = [await store.read("ada") for store in stores]
        misses = stores[1].misses["refused"]
        for store in stores:
            await store.close()

        assert (right.events, elsewhere) == ((event(1),), UserState((), elsewhere.seen))
        assert (wrong.missing, misses) == (Reason.STORE_FAILED, 1)

    async def test_a_connection_that_is_out_of_step_gives_nothing_away(self, store: RedisUserStore) -> None:
        await store.load({"ada": [event(1)], "bob": [event(2)]})
        await store.read("ada")
        ((connection,),) = store._pool._idle.values()
        events, seen = store._keys.events_and_seen("bob")
        await connection.send_command("LRANGE", events, 0, -1)
        await connection.send_command("GET", seen)

        out_of_step, after = await store.read("ada"), await store.read("ada")

        assert (out_of_step.missing, out_of_step.events) == (Reason.STORE_FAILED, ())
        assert store.misses["foreign"] == 1
        assert after.events == (event(1),)

    async def test_of_damaged_values_those_are_left_out_and_the_others_are_read(
        self, store: RedisUserStore, valkey: str
    ) -> None:
        await store.append("ada", [event(i, "purchase") for i in range(5)])
        client = redis.Redis.from_url(valkey)
        events, seen = store._keys.events_and_seen("ada")
        await client.lset(events, 1, b"garbage")
        await client.lset(events, 3, encode_event(event(1), BOB))
        await client.setrange(seen, 2, b"x")
        await client.aclose()

        state = await store.read("ada")

        assert state.missing is Reason.STORE_FAILED
        assert state.events == tuple(event(i, "purchase") for i in (4, 2, 0))
        assert state.seen.tolist() == item_hashes(f"item-{i}" for i in range(1, 5)).tolist()
        assert (store.misses["corrupt"], store.misses["foreign"]) == (1, 1)

    async def test_a_key_of_another_type_leaves_the_other_key_readable_and_the_connection_in_step(
        self, store: RedisUserStore, valkey: str
    ) -> None:
        await store.append("ada", [event(1, "purchase")])
        await store.append("bob", [event(2)])
        client = redis.Redis.from_url(valkey)
        await client.set(store._keys.events_and_seen("ada")[0], b"a text")
        await client.aclose()

        ada, bob = await store.read("ada"), await store.read("bob")

        assert (ada.missing, ada.events, len(ada.seen)) == (Reason.STORE_FAILED, (), 1)
        assert (bob.missing, bob.events) == (None, (event(2),))
        assert store._pool._open == 1

    async def test_lists_that_were_written_together_expire_one_after_the_other(
        self, list_store: RedisUserStore, valkey: str
    ) -> None:
        users = [f"user-{i}" for i in range(200)]
        await list_store.write_lists({user_id: listed(1) for user_id in users}, ttl_s=1_000)

        client = redis.Redis.from_url(valkey)
        ttls = [await client.pttl(list_store._keys.precomputed(user_id)) / 1000 for user_id in users]
        await client.aclose()

        assert max(ttls) - min(ttls) > 150
        assert 1_000 < max(ttls) <= 1_150
        assert min(ttls) > 850 - 100  # however long this machine took since

    async def test_lists_of_another_bundle_are_not_there(self, list_store: RedisUserStore, valkey: str) -> None:
        await list_store.write_lists({"ada": listed(1)})
        namespace = list_store._keys.prefix.split(":")[1]
        other = RedisUserStore(
            valkey, namespace, SEEN_TYPES, RowSpace("2026-01-02", LISTS.items), connect_timeout_s=PATIENT_S
        )

        state = await other.read("ada")
        await other.close()

        assert (state.precomputed, state.no_list) == (None, Reason.NO_LIST)

    @pytest.mark.parametrize(
        ("stored", "kind"),
        [
            (b"", "corrupt"),
            (b"garbage", "corrupt"),
            (encode_list(LISTS.version, ADA, *listed(1, 2))[:-1], "corrupt"),
            (encode_list(LISTS.version, ADA, *listed(LISTS.items)), "corrupt"),
            (encode_list(LISTS.version, BOB, *listed(1)), "foreign"),
            (encode_list("2026-01-02", ADA, *listed(1)), "version"),
            (None, "corrupt"),
        ],
        ids=["empty", "garbage", "cut", "a row too many", "another user's", "another bundle's", "of another type"],
    )
    async def test_a_list_that_cannot_be_read_costs_neither_history_nor_breaker_nor_connection(
        self, list_store: RedisUserStore, valkey: str, stored: bytes | None, kind: Miss
    ) -> None:
        await list_store.append("ada", [event(1, "purchase")])
        client, key = redis.Redis.from_url(valkey), list_store._keys.precomputed("ada")
        await (client.lpush(key, "x") if stored is None else client.set(key, stored))
        await client.aclose()
        reports: list[Outcome] = []

        state = await list_store.read("ada", PATIENT_S, reports.append)

        assert (state.precomputed, state.no_list) == (None, Reason.UNREADABLE_LIST)
        assert (state.events, len(state.seen), state.missing) == ((event(1, "purchase"),), 1, None)
        assert {k: count for k, count in list_store.misses.items() if count} == {kind: 1}
        assert reports == [Outcome.SUCCESS]
        assert (list_store._pool._open, list_store.in_use) == (1, 0)

    async def test_where_a_list_is_readable_damaged_events_do_not_harm_it(
        self, list_store: RedisUserStore, valkey: str
    ) -> None:
        await list_store.write_lists({"ada": listed(4)})
        client = redis.Redis.from_url(valkey)
        await client.lpush(list_store._keys.events_and_seen("ada")[0], encode_event(event(1), BOB))
        await client.aclose()

        state = await list_store.read("ada")

        assert (rows_of(state), state.missing) == ([4], Reason.STORE_FAILED)

    async def test_where_lists_are_asked_for_a_store_that_is_down_is_the_reason_that_there_is_none(self) -> None:
        store = RedisUserStore("redis://127.0.0.1:1", "ns", SEEN_TYPES, LISTS)

        state = await store.read("ada")
        await store.close()

        assert (state.missing, state.no_list) == (Reason.STORE_FAILED, Reason.STORE_FAILED)

    async def test_a_connection_that_is_out_of_step_gives_no_list_away(self, list_store: RedisUserStore) -> None:
        await list_store.load({"ada": [event(1)], "bob": [event(2)]})
        await list_store.write_lists({"ada": listed(1), "bob": listed(2)})
        await list_store.read("ada")
        ((connection,),) = list_store._pool._idle.values()
        events, seen = list_store._keys.events_and_seen("bob")
        await connection.send_command("LRANGE", events, 0, -1)
        await connection.send_command("GET", seen)
        await connection.send_command("GET", list_store._keys.precomputed("bob"))

        out_of_step, after = await list_store.read("ada"), await list_store.read("ada")

        assert (out_of_step.missing, out_of_step.events, out_of_step.precomputed) == (Reason.STORE_FAILED, (), None)
        assert list_store.misses["foreign"] == 1
        assert rows_of(after) == [1]
