"""Bounded connections to the servers of a user store, and one exchange over one of them.

A read talks to a connection of redis-py directly: one pipeline object costs six times as much.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, get_args

import redis

from core.events import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from redis.asyncio.connection import AbstractConnection

    from server.store.topology import Topology
    from server.store.url import Address, StoreUrl

Miss: TypeAlias = Literal["late", "busy", "refused", "failed", "moved", "foreign", "version", "corrupt"]
"""Why there is no answer; see ``MissError``."""
MISSES: tuple[Miss, ...] = get_args(Miss)
DRAIN_S = 0.25
"""How long the replies that nobody waits for any more are read off, so that the connection can be kept: a caller who
goes away must not cost a new one."""
_TICK_S = 0.001
"""What timers of uvloop are good to."""
_PASSES = 3
_Answer = TypeVar("_Answer")


class MissError(Exception):
    """An exchange that gave nothing.

    Attributes:
        kind: ``late``: no answer in time. ``busy``: every connection is in use. ``refused``: no connection could be
            opened. ``failed``: the server broke off or answered with an error or nonsense. ``moved``: the server with
            the keys is not known, or no longer the one that was. ``foreign``, ``version``, ``corrupt``: see
            ``UnreadableError``.
    """

    def __init__(self, kind: Miss, message: str) -> None:
        super().__init__(message)
        self.kind: Miss = kind


class Links:
    """At most so many connections, to all servers together, counting those that are being opened.

    Nobody waits for a connection that another has: none free is a miss at once. A connection that may be out of step
    is closed, never kept.
    """

    def __init__(self, url: StoreUrl, topology: Topology, max_connections: int, connect_timeout_s: float) -> None:
        """Prepare; connects on first use.

        Args:
            url: how to connect.
            topology: knows where to.
            max_connections: open connections at most.
            connect_timeout_s: longest wait for a connection to open. It may outlast the read that wanted it.
        """
        self._url = url
        self._topology = topology
        self._max_connections = max_connections
        self._connect_timeout_s = connect_timeout_s
        self._open = 0
        self._idle: dict[Address, list[AbstractConnection]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def in_use(self) -> int:
        """Connections that are not free: read from, being opened, or with replies under way that nobody waits for."""
        return self._open - sum(map(len, self._idle.values()))

    async def exchange(
        self, user_id: str, commands: bytes, replies: int, read: Callable[[list[Any]], _Answer], timeout_s: float
    ) -> _Answer:
        """Send commands to the server that holds a user, and read the replies.

        Args:
            user_id: whose keys the commands are about.
            commands: packed, in one piece.
            replies: how many there will be.
            read: makes the answer of them; may raise ``UnreadableError``.
            timeout_s: for everything.

        Raises:
            MissError: there is no answer.
        """
        loop, due_s = asyncio.get_running_loop(), time.monotonic() + timeout_s
        try:
            async with asyncio.timeout(timeout_s) as limit:
                look = loop.call_later(timeout_s - _TICK_S, _be_fair, limit, due_s)
                try:
                    return await self._exchange(user_id, commands, replies, read)
                finally:
                    look.cancel()
        except (TimeoutError, redis.TimeoutError):
            self._topology.look()
            raise MissError("late", f"no answer in {timeout_s * 1000:.0f} ms") from None
        except UnreadableError as error:
            raise MissError(error.flaw, str(error)) from None
        except redis.exceptions.AskError as error:  # also MOVED
            self._topology.look()
            raise MissError("moved", _said(error)) from None
        except MissError:
            raise
        except Exception as error:  # noqa: BLE001 - replies may be anything, and so may what redis-py makes of them
            self._topology.look()
            raise MissError("failed", _said(error)) from None

    async def close(self) -> None:
        """Close every connection; those in use are closed once they are given back."""
        self._max_connections = 0
        while self._tasks:  # each has a bound of its own; cancelled before it began, one would leak its connection
            await asyncio.wait(self._tasks)
        for connections in self._idle.values():
            while connections:
                await self._drop(connections.pop())

    async def _exchange(
        self, user_id: str, commands: bytes, replies: int, read: Callable[[list[Any]], _Answer]
    ) -> _Answer:
        self._topology.look_if_old()
        address = self._topology.address(user_id)
        if address is None:
            raise MissError("moved", f"the server is not known: {self._topology.trouble}")
        connection = await self._taken(address)
        got: list[Any] = []
        try:
            await connection.send_packed_command(commands, check_health=False)
            while len(got) < replies:
                # `inf` is redis-py's word for "no timeout here"
                got.append(await connection.read_response(timeout=math.inf, disconnect_on_error=False))
            answer = read(got)
        except asyncio.CancelledError:  # by the caller or by the timeout: replies are under way
            self._start(self._drain(address, connection, replies - len(got)))
            raise
        except BaseException:
            await self._drop(connection)
            raise
        await self._give_back(address, connection)
        return answer

    async def _taken(self, address: Address) -> AbstractConnection:
        idle = self._idle.setdefault(address, [])
        while idle:
            connection = idle.pop()
            if not await _is_broken(connection):
                return connection
            await self._drop(connection)
            self._topology.look()  # a master that is made a replica closes its connections
        if self._open >= self._max_connections:
            others = max(self._idle.values(), key=len)
            if not others:
                raise MissError("busy", f"all {self._max_connections} connections are in use")
            await self._drop(others.pop(0))
        self._open += 1
        opening = self._start(self._opened(address))
        try:
            outcome = await asyncio.shield(opening)
        except asyncio.CancelledError:  # the connection is welcome all the same, to the next
            opening.add_done_callback(partial(self._welcome, address))
            raise
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def _opened(self, address: Address) -> AbstractConnection | Exception:
        """A connection, or why there is none: nobody may be left to raise to. Its place is taken already."""
        connection = self._url.connection(address, self._connect_timeout_s)
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await connection.connect()  # type: ignore[no-untyped-call]  # redis-py
        except (TimeoutError, redis.TimeoutError) as error:
            await self._drop(connection)
            return error
        except Exception as error:  # noqa: BLE001 - see MissError
            await self._drop(connection)
            self._topology.look()
            return MissError("refused", _said(error))
        return connection

    def _welcome(self, address: Address, opening: asyncio.Task[AbstractConnection | Exception]) -> None:
        if not opening.cancelled() and not isinstance(outcome := opening.result(), Exception):
            self._start(self._give_back(address, outcome))

    async def _drain(self, address: Address, connection: AbstractConnection, replies: int) -> None:
        """Read off the replies to a read that was given up; the connection is in step after them."""
        try:
            async with asyncio.timeout(DRAIN_S):
                for _ in range(replies):
                    await connection.read_response(timeout=math.inf, disconnect_on_error=False)
        except Exception:  # noqa: BLE001 - whatever it is, the connection is not kept
            await self._drop(connection)
        else:
            await self._give_back(address, connection)

    async def _give_back(self, address: Address, connection: AbstractConnection) -> None:
        if self._max_connections:
            self._idle[address].append(connection)
        else:
            await self._drop(connection)

    async def _drop(self, connection: AbstractConnection) -> None:
        self._open -= 1
        if connection._writer is not None:  # noqa: SLF001 - redis-py closes politely: TLS waits for an answer
            connection._writer.transport.abort()  # noqa: SLF001
        await connection.disconnect(nowait=True)

    def _start(self, work: Coroutine[Any, Any, _Answer]) -> asyncio.Task[_Answer]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"  # redis-py's own repr leaves out what happened


def _be_fair(limit: asyncio.Timeout, due_s: float) -> None:
    """Just before the time is up: if the event loop is late, the reply may have come and not have been looked at."""
    if time.monotonic() > due_s:
        with contextlib.suppress(RuntimeError):  # the time was up first: a read that had hardly any
            limit.reschedule(None)
            asyncio.get_running_loop().call_soon(_after, _PASSES, limit)


def _after(passes: int, limit: asyncio.Timeout) -> None:
    """Let the loop look at its sockets, and wake those who wait for them, before the time is up after all."""
    loop = asyncio.get_running_loop()
    if passes:
        loop.call_soon(_after, passes - 1, limit)
        return
    with contextlib.suppress(RuntimeError):  # over: there was a reply
        limit.reschedule(loop.time())


async def _is_broken(connection: AbstractConnection) -> bool:
    """Whether an idle connection was closed by the other side, or has bytes that nobody asked for."""
    writer = connection._writer  # noqa: SLF001 - redis-py sees an end of stream, and not a reset
    return writer is None or writer.is_closing() or await connection.can_read()
