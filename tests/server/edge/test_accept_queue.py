"""What calls wait before anybody looks at them is found out, and nobody else can make it up."""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc
import pytest

from server.edge.accept_queue import EVERY_S, QUEUE_S, SOON_S, AcceptQueueProbe, pause_s

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
    probe = AcceptQueueProbe(calls)
    handlers = grpc.method_handlers_generic_handler("test", {"Busy": grpc.unary_unary_rpc_method_handler(busy)})
    server.add_generic_rpc_handlers((handlers, probe.handler()))
    server.add_insecure_port(probe.address)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    probe.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield probe, channel
    await probe.close()
    await server.stop(None)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - the probe wakes nobody
            await asyncio.sleep(EVERY_S / 5)


def many() -> Callable[[], int]:
    """More calls at every look."""
    count = iter(range(0, 10**9, 1000))
    return lambda: next(count)


async def test_a_queue_that_nobody_sees_is_found() -> None:
    """Sixty calls of 30 ms come at once: the loop is hardly late, calls are."""
    async with served(many()) as (probe, channel):
        assert probe.wait_s == 0
        calls = [asyncio.ensure_future(channel.unary_unary("/test/Busy")(b"")) for _ in range(CALLS)]
        await until(lambda: probe.wait_s > 5 * BUSY_S)
        await asyncio.gather(*calls)
        await until(lambda: probe.wait_s < BUSY_S)


@pytest.mark.parametrize(
    ("waited_s", "seconds"), [(0.0, EVERY_S), (QUEUE_S, EVERY_S), (QUEUE_S * 1.01, SOON_S), (1.0, SOON_S)]
)
def test_a_queue_is_looked_at_again_at_once(waited_s: float, seconds: float) -> None:
    """What one probe found counts until the next: a queue that has gone must not keep calls down for 50 ms more."""
    assert pause_s(waited_s) == seconds


async def test_a_queue_is_gone_when_nobody_calls_any_more() -> None:
    counts = iter(range(0, 10**9, 1000))
    traffic = True
    last = 0

    def arrived() -> int:
        nonlocal last
        last = next(counts) if traffic else last
        return last

    async with served(arrived) as (probe, channel):
        calls = [asyncio.ensure_future(channel.unary_unary("/test/Busy")(b"")) for _ in range(CALLS)]
        await until(lambda: probe.wait_s > 5 * BUSY_S)
        traffic = False
        await asyncio.gather(*calls)
        await until(lambda: probe.wait_s == 0)


async def test_an_idle_server_is_not_looked_at() -> None:
    async with served(lambda: 0) as (probe, channel):
        calls = [asyncio.ensure_future(channel.unary_unary("/test/Busy")(b"")) for _ in range(10)]
        await asyncio.gather(*calls)

        assert (probe.wait_s, probe._token) == (0, b"")


async def test_a_probe_from_outside_is_not_answered() -> None:
    async with served(lambda: 0) as (probe, channel):
        call = channel.unary_unary("/terrace.internal.AcceptQueueProbe/Probe")
        for guess in (b"", b"x" * 16):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(guess)
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED

        assert probe.wait_s == 0


async def test_a_probe_that_fails_is_counted_logged_and_started_again(caplog: pytest.LogCaptureFixture) -> None:
    """Else nobody would see a queue any more, and nobody know."""
    counts = itertools.count(0, 1000)

    def arrived() -> int:
        if (count := next(counts)) == 2000:
            raise OSError("no more descriptors")
        return count

    async with served(arrived) as (probe, channel):
        await until(lambda: probe.failures == 1)
        calls = [asyncio.ensure_future(channel.unary_unary("/test/Busy")(b"")) for _ in range(CALLS)]
        await until(lambda: probe.wait_s > 5 * BUSY_S)
        await asyncio.gather(*calls)

    assert [record.message for record in caplog.records] == ["the accept-queue probe failed and is started again"]
    assert "no more descriptors" in caplog.text


async def test_the_wait_may_be_read_while_a_probe_comes_back() -> None:
    """Telemetry reads it from a thread of its own."""

    class Returning(AcceptQueueProbe):
        """The probe is under way at the first look, and has come back by the second."""

        @property
        def _sent_s(self) -> float | None:
            return next(sent, None)

        @_sent_s.setter
        def _sent_s(self, value: float | None) -> None:
            pass

    sent = iter([time.monotonic() - 1.0])

    assert Returning(many()).wait_s == pytest.approx(1, abs=0.9)
