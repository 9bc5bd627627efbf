"""Each read reports once how the store did: by when the reply came, not by how long the caller waited."""

from __future__ import annotations

import asyncio
import gc
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Self

import pytest

from core.types import Reason
from server.overload.breaker import Outcome
from server.store.reply_monitor import ReplyMonitor
from server.store.user_store import MemoryUserStore, RedisUserStore
from tests.contracts.store_contract import SEEN_TYPES, event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

SUCCESS, FAILURE, NEUTRAL = Outcome.SUCCESS, Outcome.FAILURE, Outcome.NEUTRAL
EMPTY = b"*0\r\n$-1\r\n"
HURRY_S, AT_ONCE_S, NEVER_S = 0.001, 0.002, 60.0


class HeldServer:
    """A server that replies that nothing is stored, once ``release`` is set."""

    def __init__(self) -> None:
        self.asked, self.release = asyncio.Event(), asyncio.Event()
        self._serving: set[asyncio.Task[None] | None] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()
        await asyncio.gather(*filter(None, self._serving))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(asyncio.current_task())
        with suppress(ConnectionError):
            while await reader.read(4096):
                self.asked.set()
                await self.release.wait()
                writer.write(EMPTY)
            writer.close()
            await writer.wait_closed()


@asynccontextmanager
async def held(slow_s: float, **options: int) -> AsyncIterator[tuple[HeldServer, RedisUserStore]]:
    async with HeldServer() as server:
        store = RedisUserStore(server.url, "ns", SEEN_TYPES, slow_s=slow_s, connect_timeout_s=NEVER_S, **options)
        yield server, store
        server.release.set()
        await store.close()


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - what happens in the background wakes nobody
            await asyncio.sleep(0)


async def test_a_reply_that_comes_after_a_hurried_caller_has_gone_is_a_success() -> None:
    reports: list[Outcome] = []
    async with held(slow_s=NEVER_S) as (server, store):
        server.release.set()
        await store.read("ada", NEVER_S)  # opens the connection
        server.release.clear()
        state = await store.read("ada", HURRY_S, reports.append)
        early = list(reports)
        server.release.set()
        await until(lambda: reports)

    assert state.missing is Reason.STORE_LATE
    assert (early, reports) == ([], [SUCCESS])


async def test_a_reply_that_never_comes_is_a_failure_however_soon_the_caller_has_gone() -> None:
    reports: list[Outcome] = []
    async with held(slow_s=AT_ONCE_S) as (server, store):
        reading = asyncio.create_task(store.read("ada", NEVER_S, reports.append))
        await server.asked.wait()
        reading.cancel()
        await until(lambda: reports)

    assert reports == [FAILURE]


async def test_a_slow_reply_is_a_failure_at_once_though_a_patient_caller_gets_it() -> None:
    reports: list[Outcome] = []
    async with held(slow_s=AT_ONCE_S) as (server, store):
        reading = asyncio.create_task(store.read("ada", NEVER_S, reports.append))
        await until(lambda: reports)
        waiting = not reading.done()
        server.release.set()
        state = await reading

    assert waiting
    assert state.missing is None
    assert reports == [FAILURE]


async def test_a_caller_who_cancels_before_the_reply_is_due_counts_as_what_the_reply_is() -> None:
    reports: list[Outcome] = []
    async with held(slow_s=NEVER_S) as (server, store):
        reading = asyncio.create_task(store.read("ada", NEVER_S, reports.append))
        await server.asked.wait()
        reading.cancel()
        await asyncio.wait([reading])
        early = list(reports)
        server.release.set()
        await until(lambda: reports)

    assert (early, reports) == ([], [SUCCESS])


async def test_that_all_connections_are_in_use_says_nothing_of_the_store() -> None:
    reports: list[Outcome] = []
    async with held(slow_s=NEVER_S, max_connections=1) as (server, store):
        first = asyncio.create_task(store.read("ada", NEVER_S))
        await server.asked.wait()
        second = await store.read("bob", NEVER_S, reports.append)
        server.release.set()
        await first

    assert second.missing is Reason.STORE_LATE
    assert reports == [NEUTRAL]


async def test_a_connection_that_opens_after_the_caller_has_gone_says_nothing_and_is_kept() -> None:
    reports: list[Outcome] = []
    async with held(slow_s=NEVER_S) as (_, store):
        reading = asyncio.create_task(store.read("ada", NEVER_S, reports.append))
        await until(lambda: store.in_use)
        reading.cancel()
        await until(lambda: reports and not store.in_use)
        kept = store._pool._open

    assert (reports, kept) == ([NEUTRAL], 1)


async def test_a_connection_that_is_refused_after_the_caller_has_gone_is_a_failure() -> None:
    reports: list[Outcome] = []
    store = RedisUserStore("redis://127.0.0.1:1", "ns", SEEN_TYPES)
    reading = asyncio.create_task(store.read("ada", NEVER_S, reports.append))
    await until(lambda: store.in_use)
    reading.cancel()
    await until(lambda: reports)
    await store.close()

    assert reports == [FAILURE]


@pytest.mark.parametrize("loop_time_s", [0.03, 0.2])
async def test_an_event_loop_that_was_late_itself_still_looks_at_the_reply_and_does_not_blame_the_store(
    valkey: str, loop_time_s: float
) -> None:
    reports: list[Outcome] = []
    store = RedisUserStore(valkey, f"stall-{loop_time_s}", SEEN_TYPES, slow_s=0.015)
    await store.append("ada", [event(1)])
    await store.read("ada")  # opens the connection
    reading = asyncio.create_task(store.read("ada", 0.02, reports.append))
    await asyncio.sleep(0)  # it has asked

    await asyncio.sleep(0)
    time.sleep(loop_time_s)  # noqa: ASYNC251 - what is tested: the loop stands still, the server does not

    assert (await reading).events == (event(1),)
    assert reports == [SUCCESS]
    await store.close()


async def test_a_server_is_given_back_the_time_that_the_event_loop_stood_still() -> None:
    reports: list[Outcome] = []
    monitor = ReplyMonitor(reports.append, 0.01, lambda: None)
    monitor.sent()
    time.sleep(0.2)  # noqa: ASYNC251 - it may not have sent anything yet
    for _ in range(10):
        await asyncio.sleep(0)
    early = list(reports)
    await until(lambda: reports)

    assert (early, reports) == ([], [FAILURE])


async def test_a_reply_leaves_nothing_for_the_garbage_collector() -> None:
    async with held(slow_s=NEVER_S) as (server, store):
        server.release.set()
        gc.collect()
        gc.disable()
        try:
            await store.read("ada", NEVER_S)
            left = [each for each in gc.get_objects() if isinstance(each, ReplyMonitor)]
        finally:
            gc.enable()

    assert left == []


async def test_memory_is_always_well() -> None:
    reports: list[Outcome] = []
    await MemoryUserStore(SEEN_TYPES).read("ada", report=reports.append)

    assert reports == [SUCCESS]
