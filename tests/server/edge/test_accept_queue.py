"""What calls wait before anybody looks at them is found out, and nobody else can make it up."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc
import pytest

from server.edge.accept_queue import EVERY_S, AcceptQueueProbe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

BUSY_S = 0.03
CALLS = 60


async def busy(_: bytes, __: object) -> bytes:
    time.sleep(BUSY_S)  # noqa: ASYNC251 - what keeps an event loop from taking the next call
    return b""


@asynccontextmanager
async def served(calls: Callable[[], int]) -> AsyncIterator[tuple[AcceptQueueProbe, grpc.aio.Channel]]:
    server = grpc.aio.server()
    door = AcceptQueueProbe(calls)
    handlers = grpc.method_handlers_generic_handler("test", {"Busy": grpc.unary_unary_rpc_method_handler(busy)})
    server.add_generic_rpc_handlers((handlers, door.handler()))
    server.add_insecure_port(door.address)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    door.open()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield door, channel
    await door.close()
    await server.stop(None)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - the door tells nobody
            await asyncio.sleep(EVERY_S / 5)


def many() -> Callable[[], int]:
    """More calls at every look."""
    count = iter(range(0, 10**9, 1000))
    return lambda: next(count)


async def test_a_queue_that_nobody_sees_is_found() -> None:
    """Sixty calls of 30 ms come at once: the loop is hardly late, the door is."""
    async with served(many()) as (door, channel):
        assert door.wait_s == 0
        calls = [asyncio.ensure_future(channel.unary_unary("/test/Busy")(b"")) for _ in range(CALLS)]
        await until(lambda: door.wait_s > 5 * BUSY_S)
        await asyncio.gather(*calls)
        await until(lambda: door.wait_s < BUSY_S)


async def test_an_idle_server_is_not_looked_at() -> None:
    async with served(lambda: 0) as (door, channel):
        calls = [asyncio.ensure_future(channel.unary_unary("/test/Busy")(b"")) for _ in range(10)]
        await asyncio.gather(*calls)

        assert (door.wait_s, door._knock) == (0, b"")


async def test_who_knocks_from_outside_is_not_heard() -> None:
    async with served(lambda: 0) as (door, channel):
        knock = channel.unary_unary("/terrace.internal.AcceptQueueProbe/Knock")
        for guess in (b"", b"x" * 16):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await knock(guess)
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED

        assert door.wait_s == 0
