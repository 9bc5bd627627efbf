"""JSON lines over a Unix socket between a supervisor, its loader processes and their workers."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

LONGEST_LINE = 64 << 20
"""Metrics of a worker are the longest."""
_READ_BYTES = 1 << 16
PROCESS = "process"
"""Cause of a fault that says nothing of any bundle: a worker cannot run here, whatever it holds."""
Message = dict[str, Any]


class Channel:
    """One end, on an event loop."""

    def __init__(self, sock: socket.socket) -> None:
        """Take over a connected socket."""
        self._sock = sock
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    @classmethod
    def pair(cls) -> tuple[Channel, socket.socket]:
        """An end for this process, and the socket of the other one."""
        ours, theirs = socket.socketpair()
        return cls(ours), theirs

    async def open(self) -> None:
        """Begin to read and write; once."""
        self._sock.setblocking(False)
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self._sock, limit=LONGEST_LINE)

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send, or queue; lost where the other end is closed, which ``messages`` tells.

        Args:
            message: what can be written as JSON.
            descriptors: file descriptors to hand over with it; only where nothing else is queued.
        """
        assert self._writer is not None  # noqa: S101 - opened
        if self._writer.is_closing():
            return
        line = json.dumps(message).encode() + b"\n"
        if descriptors:
            socket.send_fds(self._sock, [line], descriptors)
        else:
            self._writer.write(line)

    async def messages(self) -> AsyncIterator[Message]:
        """What the other end sends, until it is closed."""
        assert self._reader is not None  # noqa: S101 - opened
        while True:
            try:
                line = await self._reader.readline()
            except ConnectionError:
                return
            if not line.endswith(b"\n"):
                return
            yield json.loads(line)

    async def flush(self) -> None:
        """Wait until what was sent has left."""
        if self._writer is not None and not self._writer.is_closing():
            await self._writer.drain()

    def close(self) -> None:
        """Let go."""
        if self._writer is not None:
            self._writer.close()
        else:
            self._sock.close()


class BlockingChannel:
    """One end in a process without an event loop, which may be handed file descriptors."""

    def __init__(self, sock: socket.socket) -> None:
        """Take over a connected socket."""
        self._sock = sock
        self._buffer = b""
        self._descriptors: list[int] = []

    def fileno(self) -> int:
        """Its descriptor, for ``select``."""
        return self._sock.fileno()

    def send(self, message: Message) -> None:
        """Send; ``BrokenPipeError`` where the other end is closed."""
        self._sock.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[Message] | None:
        """The messages that one read brings, maybe none; None where the other end is closed."""
        data, descriptors, _, _ = socket.recv_fds(self._sock, _READ_BYTES, 16)
        self._descriptors += descriptors
        if not data:
            return None
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def take_socket(self) -> socket.socket:
        """The oldest socket that was handed over and not taken yet."""
        return socket.socket(fileno=self._descriptors.pop(0))

    def close(self) -> None:
        """Let go."""
        self._sock.close()
