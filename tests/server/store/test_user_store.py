from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING

import pytest
import redis.asyncio as redis

from core.events import VERSION, encode_event, encode_seen, item_hashes, user_hash
from core.types import Reason, UserState
from server.store.user_store import MemoryUserStore, RedisUserStore
from tests.contracts.store_contract import SEEN_TYPES, UserStoreContract, event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from server.store.user_store import UserStore


ADA, BOB = user_hash("ada"), user_hash("bob")


def _text(value: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(value), value)


def _listed(value: bytes) -> bytes:
    return b"*1\r\n" + _text(value)


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - what happens in the background tells nobody
        await asyncio.sleep(0)


class TestMemoryUserStore(UserStoreContract):
    @pytest.fixture
    def store(self) -> UserStore:
        return MemoryUserStore(SEEN_TYPES)


class TestRedisUserStore(UserStoreContract):
    @pytest.fixture
    async def store(self, valkey: str) -> AsyncIterator[RedisUserStore]:
        store = RedisUserStore(valkey, uuid.uuid4().hex, SEEN_TYPES)
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
        ttls = [await client.ttl(key) async for key in client.scan_iter(f"{store._prefix}*")]
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
        ("reply", "reason", "kind"),
        [
            (None, Reason.STORE_LATE, "late"),
            (b"", Reason.STORE_FAILED, "failed"),
            (b"+OK\r\nnonsense", Reason.STORE_FAILED, "failed"),
            (b"-LOADING Valkey is loading the dataset in memory\r\n", Reason.STORE_FAILED, "failed"),
            (b"-MOVED 7 127.0.0.1:1\r\n", Reason.STORE_FAILED, "moved"),
            (b"-MOVED nonsense\r\n", Reason.STORE_FAILED, "failed"),
            (b":1\r\n:2\r\n", Reason.STORE_FAILED, "corrupt"),
            (b"*1\r\n$3\r\nabc\r\n$-1\r\n", Reason.STORE_FAILED, "corrupt"),
            (b"*0\r\n$6\r\nabcdef\r\n", Reason.STORE_FAILED, "corrupt"),
            (b"*2\r\n$30\r\nhalf a re", Reason.STORE_LATE, "late"),
            (_listed(encode_event(event(1), BOB)) + b"$-1\r\n", Reason.STORE_FAILED, "foreign"),
            (b"*0\r\n" + _text(encode_seen(item_hashes(["item-1"]), BOB)), Reason.STORE_FAILED, "foreign"),
            (
                _listed(bytes([VERSION + 1]) + encode_event(event(1), ADA)[1:]) + b"$-1\r\n",
                Reason.STORE_FAILED,
                "version",
            ),
            (_listed(encode_event(event(1), ADA)[:-1]) + b"$-1\r\n", Reason.STORE_FAILED, "corrupt"),
        ],
        ids=[
            "silent",
            "closes",
            "nonsense",
            "loading",
            "moved",
            "moved nowhere",
            "numbers",
            "event too short",
            "seen items cut",
            "half a reply",
            "another user's events",
            "another user's seen items",
            "another version",
            "damaged",
        ],
    )
    async def test_a_store_that_answers_rubbish_is_a_failure_and_not_an_error(
        self, reply: bytes | None, reason: Reason, kind: str
    ) -> None:
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
        port = server.sockets[0].getsockname()[1]
        store = RedisUserStore(f"redis://127.0.0.1:{port}", "ns", SEEN_TYPES)

        state = await store.read("ada", 0.2)
        if kind != "late":  # the connection is not kept
            await ended.wait()
            assert store.in_use == 0
        await store.close()
        await ended.wait()
        server.close()
        await server.wait_closed()

        assert (state.missing, state.events, len(state.seen)) == (reason, (), 0)
        assert {k: count for k, count in store.misses.items() if count} == {kind: 1}

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
        assert store._links._open == 1
        assert (await store.read("ada")).missing is None
        assert store._links._open == 1

    async def test_closing_lets_go_of_connections_that_replies_are_under_way_on(self, store: RedisUserStore) -> None:
        reads = [asyncio.create_task(store.read(f"user-{i}")) for i in range(5)]
        await _until(lambda: store.in_use > 0)
        for read in reads:
            read.cancel()
        await asyncio.wait(reads)
        await store.close()

        assert (store._links._open, store.in_use) == (0, 0)
        assert (await store.read("ada")).missing is Reason.STORE_LATE

    async def test_user_password_and_database_are_those_of_the_url(self, valkey: str) -> None:
        client = redis.Redis.from_url(valkey)
        await client.acl_setuser("ada", enabled=True, passwords=["+p@ss"], keys=["*"], commands=["+@all"])
        await client.aclose()
        namespace, path = uuid.uuid4().hex, valkey.removeprefix("unix://")
        stores = [
            RedisUserStore(url, namespace, SEEN_TYPES)
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
        ((connection,),) = store._links._idle.values()
        events, seen = store._keys("bob")
        await connection.send_command("LRANGE", events, 0, -1)
        await connection.send_command("GET", seen)

        out_of_step, after = await store.read("ada"), await store.read("ada")

        assert (out_of_step.missing, out_of_step.events) == (Reason.STORE_FAILED, ())
        assert store.misses["foreign"] == 1
        assert after.events == (event(1),)

    async def test_one_bad_value_makes_the_whole_read_empty(self, store: RedisUserStore, valkey: str) -> None:
        await store.append("ada", [event(1, "purchase"), event(2, "purchase")])
        client = redis.Redis.from_url(valkey)
        await client.setrange(store._keys("ada")[1], 2, b"x")
        damaged = await store.read("ada")
        await client.aclose()

        assert (damaged.missing, damaged.events, len(damaged.seen)) == (Reason.STORE_FAILED, (), 0)
        assert store.misses["corrupt"] == 1


@pytest.mark.parametrize("loop_time_s", [0.03, 0.2])
async def test_an_event_loop_that_was_late_itself_still_looks_at_the_reply(valkey: str, loop_time_s: float) -> None:
    store = RedisUserStore(valkey, f"stall-{loop_time_s}", SEEN_TYPES)
    await store.append("ada", [event(1)])
    await store.read("ada")  # opens the connection
    reading = asyncio.create_task(store.read("ada", timeout_s=0.02))
    await asyncio.sleep(0)  # it has asked

    await asyncio.sleep(0)
    time.sleep(loop_time_s)  # noqa: ASYNC251 - what is tested: the loop stands still, the server does not

    assert (await reading).events == (event(1),)
    await store.close()
