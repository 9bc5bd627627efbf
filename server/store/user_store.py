"""What is known of users, behind one Protocol: in Redis (or Valkey) or in memory.

A read never raises and never waits longer than its caller allows: a store that is late or broken makes the
answer poorer, not late. Formats of the values: ``core.events``.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import redis
from hiredis import pack_command

from core.events import (
    SEEN_BYTES,
    UnreadableError,
    decode_events,
    decode_seen,
    encode_event,
    encode_seen,
    item_hashes,
    user_hash,
)
from core.query import MAX_HISTORY
from core.types import NO_HASHES, Reason, UserEvent, UserState
from server.overload.breaker import Outcome
from server.store.connections import MISSES, ConnectionPool, Miss, MissError
from server.store.topology import topology_of
from server.store.url import StoreUrl, close_client
from server.telemetry.rate_limited_log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from redis.asyncio import Redis, RedisCluster

    from core.events import Flaw

MAX_STORED_EVENTS = MAX_HISTORY
"""Events kept of one user: as many as a query looks at."""
MAX_SEEN = 4_000
"""Seen items remembered of one user."""
TTL_S = 180 * 24 * 3600
"""How long a user who does nothing is remembered."""
SLOW_S = 0.03
"""Replies later than this are a failure of the store, see ``Settings.store_timeout_ms``."""
WRITE_TIMEOUT_S = 5.0
"""Longest wait for one answer to a write. Nobody's page waits for it."""
_USERS_PER_BATCH = 200
_LATE: frozenset[Miss] = frozenset({"late", "busy"})
_APPEND = """
local events, seen, max_events, max_seen, ttl = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]
redis.call('LPUSH', events, unpack(ARGV, 5))
redis.call('LTRIM', events, 0, max_events - 1)
redis.call('EXPIRE', events, ttl)
if #ARGV[4] > 0 then
  if redis.call('APPEND', seen, ARGV[4]) > tonumber(max_seen) then
    redis.call('SET', seen, redis.call('GETRANGE', seen, -max_seen, -1))
  end
  redis.call('EXPIRE', seen, ttl)
end
"""
"""Adds events and seen items and drops the oldest beyond a length, in one step: two writers lose nothing."""
_log = logging.getLogger(__name__)


def _ignore(outcome: Outcome) -> None:
    """Nobody asks how the store did."""


class UserStore(Protocol):
    """Recent events of users and what they have seen."""

    async def read(
        self, user_id: str, timeout_s: float = 1.0, report: Callable[[Outcome], object] = _ignore
    ) -> UserState:
        """The user's newest events (at most ``MAX_STORED_EVENTS``) and seen items; never raises.

        An unknown user is an empty state. A store that fails or takes longer is an empty state too, and one of whose
        values some are not readable is a state of the others; ``missing`` says why.

        Args:
            user_id: whose.
            timeout_s: how long the caller waits.
            report: takes how the store did, once, for its breaker: perhaps after the read has returned or was
                cancelled, since that the caller did not wait says nothing of the store.
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

    async def read(
        self,
        user_id: str,
        timeout_s: float = 1.0,  # noqa: ARG002 - memory is never late
        report: Callable[[Outcome], object] = _ignore,
    ) -> UserState:
        """See ``UserStore.read``."""
        report(Outcome.SUCCESS)
        return self._users.get(user_id, UserState())

    async def append(self, user_id: str, events: Sequence[UserEvent]) -> None:
        """See ``UserStore.append``."""
        old = self._users.get(user_id, UserState())
        seen = item_hashes(e.item_id for e in reversed(_newest_first(events)) if e.event_type in self._seen_types)
        self._users[user_id] = UserState(
            (*_newest_first(events), *old.events)[:MAX_STORED_EVENTS], np.concatenate([old.seen, seen])[-MAX_SEEN:]
        )

    async def close(self) -> None:
        """Nothing to let go of."""


class RedisUserStore:
    """Users in Redis or Valkey, one round trip for a read.

    Keys: ``terrace:<namespace>:user:{<id>}:events``, a list, newest first; and ``...:seen``, oldest
    first. The braces are part of the key: what stands between the first of them and the next closing one is the hash
    tag, so that in a Cluster both lie on one server. An id that begins with ``}`` would make an empty tag, which is
    none: its keys are ``...{<id in hexadecimal>}:hex:events`` and ``...:hex:seen``.
    """

    def __init__(
        self,
        url: str,
        namespace: str,
        seen_types: Iterable[str],
        *,
        max_connections: int = 32,
        connect_timeout_s: float = 0.05,
        slow_s: float = SLOW_S,
        ttl_s: int = TTL_S,
    ) -> None:
        """Prepare; connects on first use.

        Args:
            url: one server, Sentinels or a Cluster; see ``server.store.url``.
            namespace: separates deployments that share one store.
            seen_types: event types after which an item counts as seen.
            max_connections: reads that may be under way at a time; one more is late at once.
            connect_timeout_s: longest wait for a connection.
            slow_s: a store that takes longer to reply has failed, however long the caller waits.
            ttl_s: how long a user who does nothing is remembered.

        Raises:
            ValueError: the URL is not one of a store, or the namespace has a brace.
        """
        if "{" in namespace or "}" in namespace:
            raise ValueError("the namespace must not have braces: they say which keys lie together")
        self._url = StoreUrl.parse(url)
        self._topology = topology_of(self._url)
        self._pool = ConnectionPool(self._url, self._topology, max_connections, connect_timeout_s, slow_s)
        self._writer: Redis | RedisCluster | None = None
        self._write_timeout_s = max(WRITE_TIMEOUT_S, connect_timeout_s)
        self._prefix = f"terrace:{namespace}:user:"
        self._seen_types = frozenset(seen_types)
        self._ttl_s = ttl_s
        self._misses: dict[Miss, int] = dict.fromkeys(MISSES, 0)
        self._limited_log = RateLimitedLog(_log)

    @property
    def in_use(self) -> int:
        """Connections that are not free for a read."""
        return self._pool.in_use

    @property
    def misses(self) -> Mapping[Miss, int]:
        """Reads so far that gave nothing, or not all that is stored, by why; see ``MissError``."""
        return self._misses

    async def read(
        self, user_id: str, timeout_s: float = 1.0, report: Callable[[Outcome], object] = _ignore
    ) -> UserState:
        """See ``UserStore.read``."""
        events, seen = self._keys(user_id)
        commands = _packed("LRANGE", events, 0, MAX_STORED_EVENTS - 1) + _packed("GET", seen)
        decode = partial(_decode, user_hash(user_id))
        try:
            state, flaws = await self._pool.round_trip(
                events.encode(), commands, 2, decode, timeout_s=timeout_s, report=report
            )
        except MissError as miss:
            self._note(miss.kind, str(miss))
            return UserState(missing=Reason.STORE_LATE if miss.kind in _LATE else Reason.STORE_FAILED)
        for flaw in dict.fromkeys(flaws):
            self._note(flaw, f"stored values that are not readable and left out: {len(flaws)}")
        return state

    async def append(self, user_id: str, events: Sequence[UserEvent]) -> None:
        """See ``UserStore.append``.

        Raises:
            redis.RedisError: the events are not stored, or it is not known whether they are.
        """
        ordered = _newest_first(events)[::-1]
        if not ordered:
            return
        seen, kept = self._seen(user_id, ordered), _encoded(user_id, ordered[-MAX_STORED_EVENTS:])
        limits = MAX_STORED_EVENTS, MAX_SEEN * SEEN_BYTES, self._ttl_s
        await self._client().eval(_APPEND, 2, *self._keys(user_id), *limits, seen, *kept)

    async def load(self, users: Mapping[str, Sequence[UserEvent]]) -> None:
        """Make the given events all that is stored of the given users, many users in one round trip.

        Raises:
            redis.RedisError: some of the users are not stored; loading again repairs it.
        """
        pipe = self._client().pipeline(transaction=False)
        for count, (user_id, events) in enumerate(users.items(), 1):
            events_key, seen_key = self._keys(user_id)
            ordered = _newest_first(events)
            seen = self._seen(user_id, ordered[::-1])
            pipe.delete(events_key)
            pipe.delete(seen_key)
            if ordered:
                pipe.rpush(events_key, *_encoded(user_id, ordered[:MAX_STORED_EVENTS]))
                pipe.expire(events_key, self._ttl_s)
            if seen:
                pipe.set(seen_key, seen, ex=self._ttl_s)
            if count % _USERS_PER_BATCH == 0:
                await pipe.execute()
        await pipe.execute()

    async def close(self) -> None:
        """Close every connection."""
        await self._topology.close()
        await self._pool.close()
        if self._writer is not None:
            await close_client(self._writer)

    def _client(self) -> Redis | RedisCluster:
        """What writes; a process that only reads never makes it."""
        if self._writer is None:
            self._writer = self._url.client(self._write_timeout_s)
        return self._writer

    def _keys(self, user_id: str) -> tuple[str, str]:
        tagged = f"{{{user_id.encode().hex()}}}:hex" if user_id.startswith("}") else f"{{{user_id}}}"
        return f"{self._prefix}{tagged}:events", f"{self._prefix}{tagged}:seen"

    def _seen(self, user_id: str, oldest_first: Iterable[UserEvent]) -> bytes:
        """The newest ``MAX_SEEN`` items among the events, oldest first, as they are stored."""
        items = item_hashes(e.item_id for e in oldest_first if e.event_type in self._seen_types)
        return encode_seen(items[-MAX_SEEN:], user_hash(user_id))

    def _note(self, kind: Miss, detail: str) -> None:
        self._misses[kind] += 1
        self._limited_log.warning(f"reads of the user store fail ({kind})", detail)


def _packed(*command: str | int) -> bytes:
    packed: bytes = pack_command(command)  # type: ignore[arg-type]  # hiredis types its argument as a tuple of one
    return packed


def _encoded(user_id: str, events: Iterable[UserEvent]) -> list[bytes]:
    user = user_hash(user_id)
    return [encode_event(event, user) for event in events]


def _decode(user: int, replies: Sequence[Any]) -> tuple[UserState, Sequence[Flaw]]:
    """What the replies to a read hold of the user with this hash, and the flaws of what was left out.

    Raises:
        UnreadableError: they hold values, and all are another user's: perhaps the replies are.
        TypeError: they are no replies to these commands.
    """
    lost: list[Flaw] = ["corrupt" for reply in replies if isinstance(reply, redis.ResponseError)]
    events, seen = (None if isinstance(reply, redis.ResponseError) else reply for reply in replies)
    if not isinstance(events, list | None) or not isinstance(seen, bytes | None):
        raise TypeError("a reply is not what was asked for")
    known, lost_events = decode_events(events or (), user)
    items, lost_seen = decode_seen(seen, user) if seen else (NO_HASHES, ())
    flaws = (*lost, *lost_events, *lost_seen)
    if not flaws:
        return UserState(known, items), flaws
    if not known and not len(items) and set(flaws) == {"foreign"}:
        raise UnreadableError("foreign", "all stored values are another user's")
    return UserState(known, items, missing=Reason.STORE_FAILED), flaws
