"""The proxy breaks connections as networks do, and only in the way it is told to."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.faults.fault_proxy import (
    BLACK_HOLE,
    GARBAGE,
    HEALTHY,
    LOADING,
    REFUSED,
    FaultProxy,
    Mode,
    ProxyThread,
    Toxic,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SHORT_S, LONG_S = 0.2, 5.0


@pytest.fixture
async def echo() -> AsyncIterator[tuple[str, int]]:
    """A server that sends back what it gets."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[:2]
    server.close()


@pytest.fixture
async def proxy(echo: tuple[str, int]) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(echo) as proxy:
        yield proxy


class Caller:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def of(cls, proxy: FaultProxy) -> Caller:
        return cls(*await asyncio.open_connection("127.0.0.1", proxy.port))

    async def ask(self, data: bytes, length: int | None = None, wait_s: float = LONG_S) -> bytes:
        self.writer.write(data)
        async with asyncio.timeout(wait_s):
            return await self.reader.readexactly(len(data) if length is None else length)

    async def close(self) -> None:
        self.writer.close()


@pytest.fixture
async def caller(proxy: FaultProxy) -> AsyncIterator[Caller]:
    caller = await Caller.of(proxy)
    yield caller
    await caller.close()


async def test_bytes_pass_in_both_directions_and_connections_are_counted(proxy: FaultProxy, caller: Caller) -> None:
    other = await Caller.of(proxy)
    assert await caller.ask(b"one") == b"one"
    assert await other.ask(b"x" * 300_000) == b"x" * 300_000
    assert (proxy.open, proxy.total, proxy.peak) == (2, 2, 2)

    await other.close()
    while proxy.open > 1:  # noqa: ASYNC110 - the proxy tells nobody
        await asyncio.sleep(0)

    assert (proxy.open, proxy.total, proxy.peak) == (1, 2, 2)


async def test_latency_holds_bytes_back(proxy: FaultProxy, caller: Caller) -> None:
    proxy.mode = Mode(down=Toxic(latency_s=2 * SHORT_S, jitter_s=SHORT_S))
    with pytest.raises(TimeoutError):
        await caller.ask(b"one", wait_s=SHORT_S)
    assert await caller.ask(b"", 3) == b"one"


async def test_a_black_hole_swallows_and_a_healed_one_passes_on_the_same_connection(
    proxy: FaultProxy, caller: Caller
) -> None:
    proxy.mode = BLACK_HOLE
    with pytest.raises(TimeoutError):
        await caller.ask(b"one", wait_s=SHORT_S)
    proxy.mode = HEALTHY
    assert await caller.ask(b"two") == b"two"


async def test_refusing_resets_what_is_open_and_takes_nothing_new_until_it_heals(
    proxy: FaultProxy, caller: Caller
) -> None:
    await caller.ask(b"one")
    proxy.mode = REFUSED
    with pytest.raises(ConnectionResetError):
        await caller.ask(b"two")
    with pytest.raises(ConnectionRefusedError):
        await Caller.of(proxy)
    proxy.mode = HEALTHY
    again = await Caller.of(proxy)
    assert await again.ask(b"three") == b"three"
    await again.close()


async def test_a_reset_comes_in_the_middle_of_a_reply(proxy: FaultProxy, caller: Caller) -> None:
    await caller.ask(b"one")
    proxy.mode = Mode(down=Toxic(reset_after=4))
    assert await caller.ask(b"abcdef", 4) == b"abcd"
    with pytest.raises(ConnectionResetError):
        await caller.ask(b"", 1)


async def test_a_close_ends_the_stream_after_half_a_reply(proxy: FaultProxy, caller: Caller) -> None:
    proxy.mode = Mode(down=Toxic(close_after=3))
    with pytest.raises(asyncio.IncompleteReadError) as ended:
        await caller.ask(b"abcdef")
    assert ended.value.partial == b"abc"


async def test_a_slicer_passes_everything_slowly(proxy: FaultProxy, caller: Caller) -> None:
    proxy.mode = Mode(down=Toxic(slice_bytes=1, slice_pause_s=0.01))
    assert await caller.ask(b"abcdef") == b"abcdef"


@pytest.mark.parametrize("mode", [LOADING, GARBAGE])
async def test_a_canned_reply_answers_each_command_in_the_servers_place(
    proxy: FaultProxy, caller: Caller, mode: Mode
) -> None:
    proxy.mode = mode
    reply = (mode.reply or b"") * 2
    commands = b"*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"

    assert await caller.ask(commands, len(reply)) == reply


def test_on_a_thread_of_its_own_it_serves_a_client_that_blocks(valkey: str) -> None:
    with ProxyThread(valkey.removeprefix("unix://")) as thread:
        with redis.Redis(port=thread.port, socket_timeout=LONG_S, retry=Retry(NoBackoff(), 0)) as client:
            assert client.ping()
            thread.mode = LOADING
            with pytest.raises(redis.exceptions.BusyLoadingError):
                client.get("k")
        thread.mode = REFUSED
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", thread.port)):
            pass
        assert thread.proxy.total >= 1
