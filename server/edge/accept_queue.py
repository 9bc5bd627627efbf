"""How long a call waits before anybody looks at it: measured by calling ourselves.

gRPC takes calls from its sockets one after another, each in a turn of the event loop. What waits there is on no list that
a process can see, and the loop itself is on time: an overload of cheap calls shows nowhere but in how late calls come in.
So while there is traffic, an empty call goes through the same door now and then, over a socket of our own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY_S = 0.05
FEW_CALLS = 5
"""With fewer calls than this since the last look, nobody looks: there is no queue, and an idle process stays idle."""
_ORDINARY_S = 0.001
_TIMEOUT_S = 1.0
_SERVICE, _METHOD = "terrace.internal.AcceptQueueProbe", "Knock"


class AcceptQueueProbe:
    """Knocks at our own door; belongs to one event loop.

    Attributes:
        address: of the socket, for ``grpc.aio.Server.add_insecure_port``; no path, no other machine.
    """

    def __init__(self, calls: Callable[[], int]) -> None:
        """Nothing is sent before ``open``.

        Args:
            calls: how many calls there have been.
        """
        self.address = f"unix-abstract:terrace-{os.getpid()}-{secrets.token_hex(8)}"
        self._calls = calls
        self._wait_s = 0.0
        self._sent_s: float | None = None
        self._knock = b""
        self._task: asyncio.Task[None] | None = None

    @property
    def wait_s(self) -> float:
        """What the last look found, or what the one under way has waited already, above what is ordinary; seconds."""
        waiting_s = 0.0 if self._sent_s is None else time.monotonic() - self._sent_s - _ORDINARY_S
        return max(self._wait_s, waiting_s)

    def handler(self) -> grpc.GenericRpcHandler:
        """What the server registers: knows our own knock, and no other."""
        knock: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self._knocked)
        return grpc.method_handlers_generic_handler(_SERVICE, {_METHOD: knock})

    def open(self) -> None:
        """Begin, once the server listens."""
        self._task = asyncio.create_task(self._look())

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _look(self) -> None:
        seen = self._calls()
        async with grpc.aio.insecure_channel(self.address) as channel:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{_SERVICE}/{_METHOD}")
            while True:
                await asyncio.sleep(EVERY_S)
                count = self._calls()
                if count - seen < FEW_CALLS:
                    self._wait_s = 0.0
                    continue
                seen, self._knock, self._sent_s = count, secrets.token_bytes(16), time.monotonic()
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await call(self._knock, timeout=_TIMEOUT_S)
                self._sent_s = None

    async def _knocked(self, knock: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        if self._sent_s is None or not secrets.compare_digest(knock, self._knock):
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "")
        self._wait_s = max(time.monotonic() - (self._sent_s or 0.0) - _ORDINARY_S, 0.0)
        self._sent_s = None
        return b""
