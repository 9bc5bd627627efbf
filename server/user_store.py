"""What is known of users, behind one Protocol: in Redis (or Valkey) or in memory.

A read never raises and never waits longer than it is told: a store that is late or broken makes the
answer poorer, not late. Formats of the values: ``core.events``.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import TYPE_CHECKING, Protocol

import numpy as np
import redis.asyncio as redis
from hiredis import pack_command
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from core.events import decode_events, encode_event, item_hashes
from core.query import MAX_HISTORY
from core.types import NO_HASHES, Reason, UserEvent, UserState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MAX_EVENTS = MAX_HISTORY
"""Events kept of one user: as many as a query looks at."""
MAX_SEEN = 4_000
"""Seen items remembered of one user."""
TTL_S = 180 * 24 * 3600
"""How long a user who does nothing is remembered."""
TELL_EVERY_S = 10.0
"""Failed reads are counted and said in the log this often at most."""
_USERS_PER_BATCH = 200
_HASH_BYTES = 4
_APPEND = """
redis.call('APPEND', KEYS[1], ARGV[1])
if redis.call('STRLEN', KEYS[1]) > tonumber(ARGV[2]) then
  redis.call('SET', KEYS[1], redis.call('GETRANGE', KEYS[1], -tonumber(ARGV[2]), -1))
end
redis.call('EXPIRE', KEYS[1], ARGV[3])
"""
"""Appends bytes and drops the oldest beyond a length, in one step: two writers lose nothing."""
_log = logging.getLogger(__name__)


class UserStore(Protocol):
    """Recent events of users and what they have seen."""

    async def read(self, user_id: str, timeout_s: float = 1.0) -> UserState:
        """The user's newest events (at most ``MAX_EVENTS``) and seen items; never raises.

        An unknown user is an empty state. A store that fails or takes longer is an empty state too,
        with ``missing`` saying why.
        """
        ...

    async def append(self, user_id: str, events: Sequence[UserEvent]) -> None:
        """Add events, in any order among themselves, that are newer than those that are stored."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


def _newest_first(events: Iterable[UserEvent]) -> list[UserEvent]:
    return sorted(events, key=lambda event: event.timestamp_s, reverse=True)


class MemoryUserStore:
    """Users in this process's memory: for evaluation, tests and deployments without a store."""

    def __init__(self, seen_types: Iterable[str]) -> None:
        """Start empty.

        Args:
            seen_types: event types after which an item counts as seen.
        """
        self._seen_types = frozenset(seen_types)
        self._users: dict[str, UserState] = {}

    async def read(self, user_id: str, timeout_s: float = 1.0) -> UserState:  # noqa: ARG002 - memory is never late
        """See ``UserStore.read``."""
        return self._users.get(user_id, UserState())

    async def append(self, user_id: str, events: Sequence[UserEvent]) -> None:
        """See ``UserStore.append``."""
        old = self._users.get(user_id, UserState())
        seen = item_hashes(e.item_id for e in reversed(_newest_first(events)) if e.event_type in self._seen_types)
        self._users[user_id] = UserState(
            (*_newest_first(events), *old.events)[:MAX_EVENTS], np.concatenate([old.seen, seen])[-MAX_SEEN:]
        )

    async def close(self) -> None:
        """Nothing to let go of."""


def _packed(*command: str | int) -> bytes:
    packed: bytes = pack_command(command)  # type: ignore[arg-type]  # hiredis types its argument as a tuple of one
    return packed


class RedisUserStore:
    """Users in Redis or Valkey, one round trip for a read.

    Keys: ``terrace:<namespace>:user:<id>:events``, a list, newest first; and ``...:seen``, item
    hashes as little-endian uint32, oldest first.

    A read talks to a connection of redis-py directly: one pipeline object costs six times as much.
    """

    def __init__(
        self,
        url: str,
        namespace: str,
        seen_types: Iterable[str],
        *,
        max_connections: int = 32,
        connect_timeout_s: float = 0.05,
        ttl_s: int = TTL_S,
    ) -> None:
        """Prepare; connects on first use.

        Args:
            url: ``redis://``, ``rediss://`` or ``unix://``.
            namespace: separates deployments that share one store.
            seen_types: event types after which an item counts as seen.
            max_connections: reads that may be under way at a time; one more is late at once.
            connect_timeout_s: longest wait for a connection.
            ttl_s: how long a user who does nothing is remembered.

        Raises:
            ValueError: the URL is not one.
        """
        # No socket timeout: a read has one timeout of its own, redis-py's costs a task for each write.
        self._pool = redis.ConnectionPool.from_url(
            url, socket_timeout=None, socket_connect_timeout=connect_timeout_s, retry=Retry(NoBackoff(), 0)
        )
        self._client = redis.Redis(connection_pool=self._pool)
        self._idle: list[redis.Connection] = []
        self._free = max_connections
        self._prefix = f"terrace:{namespace}:user:"
        self._seen_types = frozenset(seen_types)
        self._ttl_s = ttl_s
        self._failures, self._told_s = 0, -math.inf

    async def read(self, user_id: str, timeout_s: float = 1.0) -> UserState:
        """See ``UserStore.read``."""
        if self._free <= 0:
            return UserState(missing=Reason.STORE_LATE)
        self._free -= 1
        connection = self._idle.pop() if self._idle else self._new_connection()
        usable = False
        try:
            async with asyncio.timeout(timeout_s):
                events, seen = await self._ask(connection, user_id)
            usable = True
            state = UserState(decode_events(events), np.frombuffer(seen, "<u4") if seen else NO_HASHES)
        except (TimeoutError, redis.TimeoutError):
            state = self._failed(Reason.STORE_LATE, f"no answer in {timeout_s * 1000:.0f} ms")
        except (redis.RedisError, OSError, ValueError, TypeError) as error:
            state = self._failed(Reason.STORE_FAILED, repr(error))
        finally:
            self._free += 1
            if usable:
                self._idle.append(connection)
            else:  # a reply may still be under way, and it belongs to this user: never reuse
                await connection.disconnect(nowait=True)
        return state

    async def append(self, user_id: str, events: Sequence[UserEvent]) -> None:
        """See ``UserStore.append``.

        Raises:
            redis.RedisError: the events are not stored.
        """
        key, ordered = self._prefix + user_id, _newest_first(events)[::-1]
        seen = self._seen_bytes(ordered)
        if not ordered:
            return
        pipe = self._client.pipeline(transaction=True)
        pipe.lpush(f"{key}:events", *map(encode_event, ordered))
        pipe.ltrim(f"{key}:events", 0, MAX_EVENTS - 1)
        pipe.expire(f"{key}:events", self._ttl_s)
        if seen:
            pipe.eval(_APPEND, 1, f"{key}:seen", seen, MAX_SEEN * _HASH_BYTES, self._ttl_s)
        await pipe.execute()

    async def load(self, users: Mapping[str, Sequence[UserEvent]]) -> None:
        """Make the given events all that is stored of the given users, many users in one round trip.

        Raises:
            redis.RedisError: some of the users are not stored; loading again repairs it.
        """
        pipe = self._client.pipeline(transaction=False)
        for count, (user_id, events) in enumerate(users.items(), 1):
            key, ordered = self._prefix + user_id, _newest_first(events)
            seen = self._seen_bytes(ordered[::-1])[-MAX_SEEN * _HASH_BYTES :]
            pipe.delete(f"{key}:events", f"{key}:seen")
            if ordered:
                pipe.rpush(f"{key}:events", *map(encode_event, ordered[:MAX_EVENTS]))
                pipe.expire(f"{key}:events", self._ttl_s)
            if seen:
                pipe.set(f"{key}:seen", seen, ex=self._ttl_s)
            if count % _USERS_PER_BATCH == 0:
                await pipe.execute()
        await pipe.execute()

    async def close(self) -> None:
        """Close every connection."""
        while self._idle:
            await self._idle.pop().disconnect()
        await self._client.aclose()
        await self._pool.aclose()

    def _new_connection(self) -> redis.Connection:
        connection: redis.Connection = self._pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py
        return connection

    async def _ask(self, connection: redis.Connection, user_id: str) -> tuple[list[bytes], bytes | None]:
        if connection.is_connected and await connection.can_read():
            await connection.disconnect(nowait=True)  # closed by the other side, or not in step
        key = self._prefix + user_id
        commands = _packed("LRANGE", f"{key}:events", 0, MAX_EVENTS - 1) + _packed("GET", f"{key}:seen")
        await connection.send_packed_command(commands, check_health=False)
        # `inf` is redis-py's word for "no timeout here"
        return await connection.read_response(timeout=math.inf), await connection.read_response(timeout=math.inf)

    def _failed(self, reason: Reason, what: str) -> UserState:
        self._failures += 1
        now_s = time.monotonic()
        if now_s - self._told_s >= TELL_EVERY_S:  # a log line per request would be a second outage
            _log.warning("the user store does not answer: %s; %d reads failed since last told", what, self._failures)
            self._told_s, self._failures = now_s, 0
        return UserState(missing=reason)

    def _seen_bytes(self, oldest_first: Iterable[UserEvent]) -> bytes:
        hashes = item_hashes(e.item_id for e in oldest_first if e.event_type in self._seen_types)
        return hashes.astype("<u4").tobytes()
