"""A TCP proxy that breaks what goes through it, switchable while it runs; after Toxiproxy's toxics."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeAlias

if TYPE_CHECKING:
    from types import TracebackType

Upstream: TypeAlias = str | tuple[str, int]
"""Path of a unix socket, or host and port."""
_CHUNK = 64 * 1024
_BACKLOG = 1024


@dataclass(frozen=True)
class Toxic:
    """What happens to the bytes of one direction; by default nothing.

    Attributes:
        latency_s: how long each chunk is held back, and up to ``jitter_s`` longer.

        black_hole: bytes vanish; connections stay open.

        slice_bytes: chunks are passed on in pieces of so many bytes, ``slice_pause_s`` apart; 0: whole.

        close_after: a connection ends in good order after so many more bytes.

        reset_after: a connection is reset (RST to the client) after so many more bytes.
    """

    latency_s: float = 0.0
    jitter_s: float = 0.0
    black_hole: bool = False
    slice_bytes: int = 0
    slice_pause_s: float = 0.0
    close_after: int | None = None
    reset_after: int | None = None


@dataclass(frozen=True)
class Mode:
    """What the proxy does: to what clients send (``up``), to what they get (``down``).

    Attributes:
        refused: nobody listens, and connections that were open are reset.

        reply: answers each command of the Redis protocol in the server's place, which never hears of it.
    """

    up: Toxic = Toxic()
    down: Toxic = Toxic()
    refused: bool = False
    reply: bytes | None = None


HEALTHY = Mode()
REFUSED = Mode(refused=True)
BLACK_HOLE = Mode(up=Toxic(black_hole=True))
LOADING = Mode(reply=b"-LOADING Redis is loading the dataset in memory\r\n")
OUT_OF_MEMORY = Mode(reply=b"-OOM command not allowed when used memory > 'maxmemory'.\r\n")
GARBAGE = Mode(reply=b"\x00\xffHTTP/1.1 400 Bad Request\r\n\r\n")


class FaultProxy:
    """Stands in front of a server, on a free port of the loopback; an async context manager.

    Attributes:
        port: where it listens, also when it refuses.

        open: connections of clients that are open now.

        total: connections accepted so far.

        peak: most that were open at a time.

        asked: commands of the Redis protocol that clients sent so far.
    """

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._mode = HEALTHY
        self._listener: socket.socket | None = None
        self._links: dict[asyncio.Task[None], socket.socket] = {}
        self.port = 0
        self.open, self.total, self.peak, self.asked = 0, 0, 0, 0

    @property
    def mode(self) -> Mode:
        """What it does now; setting it takes effect at once, also on open connections."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._mode = mode
        if mode.refused:
            self._deafen()
            for client in self._links.values():
                _arm_reset(client)
            self.cut()
        elif self._listener is None:
            self._listen()

    def cut(self) -> None:
        """End every open connection."""
        for task in tuple(self._links):
            task.cancel()

    async def __aenter__(self) -> Self:
        self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deafen()
        self.cut()
        await asyncio.gather(*self._links, return_exceptions=True)

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        self.port, self._listener = listener.getsockname()[1], listener
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _deafen(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        with suppress(BlockingIOError, ConnectionError):
            client, _ = listener.accept()
            client.setblocking(False)
            self.open += 1
            self.total += 1
            self.peak = max(self.peak, self.open)
            task = asyncio.create_task(self._serve(client))
            self._links[task] = client
            task.add_done_callback(lambda done: self._ended(done, client))

    def _ended(self, task: asyncio.Task[None], client: socket.socket) -> None:
        client.close()
        self.open -= 1
        del self._links[task]

    async def _serve(self, client: socket.socket) -> None:
        """One connection until either side ends it."""
        server = socket.socket(socket.AF_UNIX if isinstance(self._upstream, str) else socket.AF_INET)
        server.setblocking(False)
        with server, suppress(OSError):
            await asyncio.get_running_loop().sock_connect(server, self._upstream)
            pumps = [
                asyncio.create_task(self._pump(client, server, client, "up")),
                asyncio.create_task(self._pump(server, client, client, "down")),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, source: socket.socket, target: socket.socket, client: socket.socket, way: str) -> None:
        """Pass bytes on, one direction, until the end; its end ends the connection."""
        loop = asyncio.get_running_loop()
        mode, passed = self._mode, 0
        while chunk := await loop.sock_recv(source, _CHUNK):
            if self._mode is not mode:
                mode, passed = self._mode, 0
            toxic: Toxic = getattr(mode, way)
            commands = _commands(chunk) if way == "up" else 0
            self.asked += commands
            if toxic.latency_s or toxic.jitter_s:
                await asyncio.sleep(toxic.latency_s + random.random() * toxic.jitter_s)
            if toxic.black_hole:
                continue
            if mode.reply is not None and way == "up":
                await loop.sock_sendall(client, mode.reply * commands)
                continue
            limits = [limit - passed for limit in (toxic.close_after, toxic.reset_after) if limit is not None]
            passing = chunk[: max(0, min(limits))] if limits else chunk
            step = toxic.slice_bytes or len(chunk)
            for start in range(0, len(passing), step):
                if start:
                    await asyncio.sleep(toxic.slice_pause_s)
                await loop.sock_sendall(target, passing[start : start + step])
            passed += len(passing)
            if limits and min(limits) <= len(chunk):
                if toxic.reset_after is not None:
                    _arm_reset(client)
                return


class ProxyThread:
    """A ``FaultProxy`` on a thread and loop of its own, for clients that block and servers in other processes."""

    def __init__(self, upstream: Upstream) -> None:
        self._proxy = FaultProxy(upstream)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._proxy.__aenter__(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._proxy.__aexit__(None, None, None), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def proxy(self) -> FaultProxy:
        """For its counts, which may be read from any thread."""
        return self._proxy

    @property
    def port(self) -> int:
        return self._proxy.port

    @property
    def mode(self) -> Mode:
        """See ``FaultProxy.mode``."""
        return self._proxy.mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        asyncio.run_coroutine_threadsafe(self._set(mode), self._loop).result()

    async def _set(self, mode: Mode) -> None:
        self._proxy.mode = mode


def _arm_reset(client: socket.socket) -> None:
    """Make closing this socket send RST instead of FIN."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _commands(chunk: bytes) -> int:
    """Commands of the Redis protocol that begin in a chunk."""
    return chunk.startswith(b"*") + chunk.count(b"\r\n*")
