"""How long calls wait before the server sees them, measured by a call to ourselves.

gRPC's asyncio server takes one call from its completion queue in each turn of the event loop. Calls that arrive faster
wait in that queue, which cannot be read from Python; and the loop itself is on time, since each turn is short. So while
there is traffic, an empty call joins the same queue twenty times a second, and more often while there is a queue, over a
socket of our own, and its wait is theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import time
from typing import TYPE_CHECKING

import grpc

from server.telemetry.rate_limited_log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY_S = 0.05
"""Time between probes while there is no queue: as long as the shortest usual deadline. A probe under way counts with the time
it has waited so far, so that a queue is seen before its probe has come through it."""
SOON_S = 0.005
"""Time to the next probe while there is one: what one probe found is believed until the next is under way, and a queue that
has gone must not keep calls down for another 50 ms."""
QUEUE_S = 0.002
"""A wait that is a queue: a turn of the event loop or two are none."""
FEW_CALLS = 5
"""With fewer calls than this since the last probe there is no queue, and none is sent: an idle process stays idle."""
_ORDINARY_S = 0.001
"""What a probe takes when nothing waits: two passes through gRPC."""
_TIMEOUT_S = 1.0
"""Longer than the longest budget of a call; a probe that waits longer tells nothing more."""
_SERVICE, _METHOD = "terrace.internal.AcceptQueueProbe", "Probe"
_log = logging.getLogger(__name__)


class AcceptQueueProbe:
    """Measures the queue before the event loop; belongs to one event loop, but ``wait_s`` may be read from any thread.

    Attributes:
        address: of the probe's socket, for ``grpc.aio.Server.add_insecure_port``; abstract, so it leaves no file and no
            other machine can reach it.

        failures: how often probing ended with an error and was started again.
    """

    def __init__(self, arrived: Callable[[], int]) -> None:
        """Nothing is sent before ``start``.

        Args:
            arrived: how many calls have arrived so far, whatever became of them.
        """
        self.address = f"unix-abstract:terrace-{os.getpid()}-{secrets.token_hex(8)}"
        self.failures = 0
        self._arrived = arrived
        self._wait_s = 0.0
        self._sent_s: float | None = None
        self._token = b""
        self._task: asyncio.Task[None] | None = None
        self._limited_log = RateLimitedLog(_log)

    @property
    def wait_s(self) -> float:
        """Queueing delay of calls, seconds: that of the last probe, or what the one under way has waited so far."""
        sent_s = self._sent_s  # read once: the event loop may clear it meanwhile
        return self._wait_s if sent_s is None else max(self._wait_s, self._since(sent_s))

    def handler(self) -> grpc.GenericRpcHandler:
        """What the server registers; answers our own probes and nobody else's."""
        method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self._probed)
        return grpc.method_handlers_generic_handler(_SERVICE, {_METHOD: method})

    def start(self) -> None:
        """Begin, once the server listens."""
        self._task = asyncio.create_task(self._keep_probing())

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _keep_probing(self) -> None:
        """Probe until cancelled; an error is counted and logged, and must not end the measurement unnoticed."""
        while True:
            try:
                await self._probe()
            except Exception:  # noqa: BLE001 - whatever it is, without the probe nobody sees the queue
                self.failures += 1
                self._limited_log.exception("the accept-queue probe failed and is started again")
                self._wait_s, self._sent_s = 0.0, None
            await asyncio.sleep(EVERY_S)

    async def _probe(self) -> None:
        seen, every_s = self._arrived(), EVERY_S
        async with grpc.aio.insecure_channel(self.address) as channel:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{_SERVICE}/{_METHOD}")
            while True:
                await asyncio.sleep(every_s)
                arrived = self._arrived()
                if arrived - seen < FEW_CALLS * every_s / EVERY_S:
                    self._wait_s, every_s = 0.0, EVERY_S
                    continue
                seen, self._token, self._sent_s = arrived, secrets.token_bytes(16), time.monotonic()
                try:
                    await call(self._token, timeout=_TIMEOUT_S)
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                        raise
                    self._wait_s = _TIMEOUT_S
                self._sent_s = None
                every_s = pause_s(self._wait_s)

    async def _probed(self, token: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        sent_s = self._sent_s
        if sent_s is None or not secrets.compare_digest(token, self._token):
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "")
        else:
            self._wait_s, self._sent_s = self._since(sent_s), None
        return b""

    @staticmethod
    def _since(sent_s: float) -> float:
        return max(time.monotonic() - sent_s - _ORDINARY_S, 0.0)


def pause_s(wait_s: float) -> float:
    """Seconds until the next probe after one that has waited so long."""
    return SOON_S if wait_s > QUEUE_S else EVERY_S
