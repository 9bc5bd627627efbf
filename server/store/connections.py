"""A bounded pool of connections to the servers of a user store, and one round trip over one of them.

Not redis-py's pool, for three promises that it does not keep (8.1): a read that is given up costs it the connection, since
it closes what has replies under way; a caller who goes away while a connection opens loses that too; and in a Cluster its
bound is one for each node. Its connections and its parser are used. What is relied upon beside their documented interface
is listed, and tested, in tests/contracts/test_redis_py.py. One pipeline object costs six times as much as a round trip here.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, get_args

import redis

from core.events import UnreadableError
from server.overload.breaker import Outcome
from server.store.reply_monitor import FairTimeout, ReplyMonitor

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from redis.asyncio.connection import AbstractConnection

    from server.store.topology import Topology
    from server.store.url import Address, StoreUrl

Miss: TypeAlias = Literal["late", "busy", "refused", "failed", "moved", "foreign", "version", "corrupt"]
"""Why there is no answer, or not a whole one; see ``MissError``."""
MISSES: tuple[Miss, ...] = get_args(Miss)
DRAIN_S = 0.25
"""How long the replies that nobody waits for any more are read off, so that the connection can be kept: a caller who
goes away must not cost a new one."""
_Answer = TypeVar("_Answer")


class MissError(Exception):
    """A round trip that gave nothing.

    Attributes:
        kind: ``late``: no answer in time. ``busy``: every connection is in use. ``refused``: no connection could be
            opened. ``failed``: the server broke off or answered with an error or nonsense. ``moved``: the server with
            the keys is not known, or no longer the one that was. ``foreign``, ``version``, ``corrupt``: see
            ``UnreadableError``.
    """

    def __init__(self, kind: Miss, message: str) -> None:
        super().__init__(message)
        self.kind: Miss = kind


class ConnectionPool:
    """At most so many connections, to all servers together, counting those that are being opened.

    Nobody waits for a connection that another has: none free is a miss at once. A connection that may be out of step
    is closed, never kept.
    """

    def __init__(
        self, url: StoreUrl, topology: Topology, max_connections: int, connect_timeout_s: float, slow_s: float
    ) -> None:
        """Prepare; connects on first use.

        Args:
            url: how to connect.
            topology: knows where to.
            max_connections: open connections at most.
            connect_timeout_s: longest wait for a connection to open. It may outlast the read that wanted it.
            slow_s: a server whose replies take longer has failed, however long the caller waits.
        """
        self._url = url
        self._topology = topology
        self._max_connections = max_connections
        self._connect_timeout_s = connect_timeout_s
        self._slow_s = slow_s
        self._open = 0
        self._idle: dict[Address, list[AbstractConnection]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def in_use(self) -> int:
        """Connections that are not free: read from, being opened, or with replies under way that nobody waits for."""
        return self._open - sum(map(len, self._idle.values()))

    async def round_trip(
        self,
        key: bytes,
        commands: bytes,
        replies: int,
        decode: Callable[[list[Any]], _Answer],
        *,
        timeout_s: float,
        report: Callable[[Outcome], object],
    ) -> _Answer:
        """Send commands to the server that holds a key, and read the replies.

        Args:
            key: what the commands are about, one of several of the same hash tag.
            commands: packed, in one piece.
            replies: how many there will be.
            decode: makes the answer of them. A ``redis.ResponseError`` among them says that a key is of another type.
                It raises ``UnreadableError`` when none of them can be an answer to these commands.
            timeout_s: how long the caller waits, for everything.
            report: takes the outcome, once, now or later: how the server did, whoever still waited. Neutral when
                nothing was sent although the server may be well.

        Raises:
            MissError: there is no answer.
        """
        monitor = ReplyMonitor(report, self._slow_s, self._topology.refresh)
        try:
            async with FairTimeout(timeout_s):
                return await self._round_trip(key, commands, replies, decode, monitor)
        except TimeoutError:  # what is still under way reports to the monitor from the background
            raise MissError("late", f"no answer in {timeout_s * 1000:.0f} ms") from None
        except UnreadableError as error:
            monitor.end(Outcome.SUCCESS)
            raise MissError(error.flaw, str(error)) from None
        except redis.exceptions.AskError as error:  # also MOVED
            monitor.end(Outcome.FAILURE)
            raise MissError("moved", _described(error)) from None
        except MissError as miss:
            monitor.end(Outcome.NEUTRAL if miss.kind == "busy" else Outcome.FAILURE)
            raise
        except Exception as error:  # noqa: BLE001 - replies may be anything, and so may what redis-py makes of them
            monitor.end(Outcome.FAILURE)
            raise MissError("failed", _described(error)) from None

    async def close(self) -> None:
        """Close every connection; those in use are closed once they are given back."""
        self._max_connections = 0
        while self._tasks:  # each has a bound of its own; cancelled before it began, one would leak its connection
            await asyncio.wait(self._tasks)
        for connections in self._idle.values():
            while connections:
                await self._drop(connections.pop())

    async def _round_trip(
        self,
        key: bytes,
        commands: bytes,
        replies: int,
        decode: Callable[[list[Any]], _Answer],
        monitor: ReplyMonitor,
    ) -> _Answer:
        self._topology.refresh_if_stale()
        address = self._topology.address(key)
        if address is None:
            raise MissError("moved", f"the server is not known: {self._topology.last_error}")
        connection = await self._acquire(address, monitor)
        got: list[Any] = []
        try:
            monitor.sent()
            await connection.send_packed_command(commands, check_health=False)
            await _receive(connection, got, replies)
            answer = decode(got)
        except asyncio.CancelledError:  # by the caller or by the timeout: replies are under way
            self._start(self._drain(address, connection, got, replies, monitor))
            raise
        except BaseException:
            await self._drop(connection)
            raise
        monitor.end(Outcome.SUCCESS)
        await self._give_back(address, connection)
        return answer

    async def _acquire(self, address: Address, monitor: ReplyMonitor) -> AbstractConnection:
        idle = self._idle.setdefault(address, [])
        while idle:
            connection = idle.pop()
            if not await _is_broken(connection):
                return connection
            await self._drop(connection)
            self._topology.refresh()  # a master that is made a replica closes its connections
        if self._open >= self._max_connections:
            others = max(self._idle.values(), key=len)
            if not others:
                raise MissError("busy", f"all {self._max_connections} connections are in use")
            await self._drop(others.pop(0))
        self._open += 1
        opening = self._start(self._opened(address))
        try:
            outcome = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(partial(self._keep_opened, address, monitor))
            raise
        if isinstance(outcome, MissError):
            raise outcome
        return outcome

    async def _opened(self, address: Address) -> AbstractConnection | MissError:
        """A connection, or why there is none: nobody may be left to raise to. Its place is taken already."""
        connection = self._url.connection(address, self._connect_timeout_s)
        try:
            async with FairTimeout(self._connect_timeout_s):
                await connection.connect()  # type: ignore[no-untyped-call]  # redis-py
        except (TimeoutError, redis.TimeoutError):
            await self._drop(connection)
            return MissError("late", f"no connection in {self._connect_timeout_s * 1000:.0f} ms")
        except Exception as error:  # noqa: BLE001 - see MissError
            await self._drop(connection)
            return MissError("refused", _described(error))
        return connection

    def _keep_opened(
        self, address: Address, monitor: ReplyMonitor, opening: asyncio.Task[AbstractConnection | MissError]
    ) -> None:
        """A connection is open whose caller has gone: the next one gets it."""
        if opening.cancelled():
            return
        outcome = opening.result()
        if isinstance(outcome, MissError):
            monitor.end(Outcome.FAILURE)
        else:
            monitor.end(Outcome.NEUTRAL)  # it was asked nothing
            self._start(self._give_back(address, outcome))

    async def _drain(
        self, address: Address, connection: AbstractConnection, got: list[Any], replies: int, monitor: ReplyMonitor
    ) -> None:
        """Read off the replies to a read that was given up; the connection is in step after them."""
        try:
            async with FairTimeout(DRAIN_S):
                await _receive(connection, got, replies)
        except Exception:  # noqa: BLE001 - whatever it is, the connection is not kept
            monitor.end(Outcome.FAILURE)
            await self._drop(connection)
        else:
            monitor.end(Outcome.SUCCESS)
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


async def _receive(connection: AbstractConnection, got: list[Any], replies: int) -> None:
    """Add replies to ``got`` until there are so many. One that says that a key is of another type is a reply too."""
    while len(got) < replies:
        try:
            got.append(await connection.read_response(disconnect_on_error=False))
        except redis.ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            got.append(error)


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"  # redis-py's own repr leaves out what happened


async def _is_broken(connection: AbstractConnection) -> bool:
    """Whether an idle connection was closed by the other side, or has bytes that nobody asked for."""
    writer = connection._writer  # noqa: SLF001 - redis-py sees an end of stream, and not a reset
    if writer is None or writer.is_closing():
        return True
    try:
        return await connection.can_read()
    except (redis.RedisError, OSError):  # the parser saw the end first
        return True
