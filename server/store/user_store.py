"""What is known of users, behind one Protocol: in Redis (or Valkey) or in memory.

A read never raises and never waits longer than its caller allows: a store that is late or broken makes the
answer poorer, not late. Formats of the values: ``core.events``, ``core.precomputed``.
"""

from __future__ import annotations

import logging
import math
import random
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from core.events import SEEN_BYTES, encode_seen, item_hashes, user_hash
from core.precomputed import decode_list
from core.query import MAX_HISTORY
from core.types import Reason, UserEvent, UserState
from server.overload.breaker import Outcome
from server.store.connections import MISSES, ConnectionPool, Miss, MissError
from server.store.topology import topology_of
from server.store.url import StoreUrl, close_client
from server.store.user_keys import UserKeys
from server.store.user_values import APPEND, decode_user, encoded_events, encoded_list, packed
from server.telemetry.rate_limited_log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from redis.asyncio import Redis, RedisCluster

    from core.precomputed import PrecomputedList, RowSpace

MAX_STORED_EVENTS = MAX_HISTORY
"""Events kept of one user: as many as a query looks at."""
MAX_SEEN = 4_000
"""Seen items remembered of one user."""
TTL_S = 180 * 24 * 3600
"""How long a user who does nothing is remembered."""
LIST_TTL_S = 26 * 3600.0
"""How long a precomputed list is kept: until the next night's is there, and two hours for one that is late."""
LIST_TTL_JITTER = 0.15
"""Lists that were written together expire up to this share earlier or later, not in one moment."""
SLOW_S = 0.03
"""Replies later than this are a failure of the store, see ``Settings.store_timeout_ms``."""
WRITE_TIMEOUT_S = 5.0
"""Longest wait for one answer to a write. Nobody's page waits for it."""
_USERS_PER_BATCH = 200
_LATE: frozenset[Miss] = frozenset({"late", "busy"})
_log = logging.getLogger(__name__)


def _ignore(outcome: Outcome) -> None:
    """Nobody asks how the store did."""


def list_ttl_s(ttl_s: float) -> float:
    """How long one list is kept, seconds: ``ttl_s``, give or take ``LIST_TTL_JITTER`` of it."""
    return ttl_s * random.uniform(1 - LIST_TTL_JITTER, 1 + LIST_TTL_JITTER)


class UserStore(Protocol):
    """Recent events of users, what they have seen, and lists that were made for them beforehand.

    Attributes:
        lists: the catalogue whose lists are read and written; None = no lists.
    """

    lists: RowSpace | None

    async def read(
        self, user_id: str, timeout_s: float = 1.0, report: Callable[[Outcome], object] = _ignore
    ) -> UserState:
        """The user's newest events (at most ``MAX_STORED_EVENTS``), seen items and precomputed list; never raises.

        An unknown user is an empty state. A store that fails or takes longer is an empty state too, and one of whose
        values some are not readable is a state of the others; ``missing`` and ``no_list`` say why.

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

    async def write_lists(self, lists: Mapping[str, PrecomputedList], ttl_s: float = LIST_TTL_S) -> None:
        """Keep precomputed lists of the store's bundle, by user, in place of those that are stored.

        Args:
            lists: user id -> list.
            ttl_s: how long they are kept, seconds; see ``list_ttl_s``.

        Raises:
            ValueError: this store has no lists, or a list is none; see ``core.precomputed.encode_list``.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


def _newest_first(events: Iterable[UserEvent]) -> list[UserEvent]:
    return sorted(events, key=lambda event: event.timestamp_s, reverse=True)


class MemoryUserStore:
    """Users in this process's memory: for evaluation, tests and deployments without a store."""

    def __init__(
        self,
        seen_types: Iterable[str],
        lists: RowSpace | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start empty.

        Args:
            seen_types: event types after which an item counts as seen.
            lists: the catalogue whose precomputed lists are kept; None = none are.
            clock: seconds; when lists expire.
        """
        self.lists = lists
        self._seen_types = frozenset(seen_types)
        self._clock = clock
        self._users: dict[str, UserState] = {}
        self._stored_lists: dict[str, tuple[float, bytes]] = {}  # when it expires, and its stored form

    async def read(
        self,
        user_id: str,
        timeout_s: float = 1.0,  # noqa: ARG002 - memory is never late
        report: Callable[[Outcome], object] = _ignore,
    ) -> UserState:
        """See ``UserStore.read``."""
        report(Outcome.SUCCESS)
        known = self._users.get(user_id, UserState())
        if self.lists is None:
            return known
        end_s, stored = self._stored_lists.get(user_id, (-math.inf, b""))
        found = None
        if self._clock() < end_s:
            found = decode_list(stored, self.lists.version, user_hash(user_id), self.lists.items)
        return replace(known, precomputed=found, no_list=Reason.NO_LIST)

    async def append(self, user_id: str, events: Sequence[UserEvent]) -> None:
        """See ``UserStore.append``."""
        old = self._users.get(user_id, UserState())
        seen = item_hashes(e.item_id for e in reversed(_newest_first(events)) if e.event_type in self._seen_types)
        self._users[user_id] = UserState(
            (*_newest_first(events), *old.events)[:MAX_STORED_EVENTS], np.concatenate([old.seen, seen])[-MAX_SEEN:]
        )

    async def write_lists(self, lists: Mapping[str, PrecomputedList], ttl_s: float = LIST_TTL_S) -> None:
        """See ``UserStore.write_lists``."""
        for user_id, made in lists.items():
            self._stored_lists[user_id] = self._clock() + list_ttl_s(ttl_s), encoded_list(self.lists, user_id, made)

    async def close(self) -> None:
        """Nothing to let go of."""


class RedisUserStore:
    """Users in Redis or Valkey, one round trip for a read.

    Events are a Redis list, newest first; seen items are one value, oldest first; a precomputed list is one value.
    """

    def __init__(
        self,
        url: str,
        namespace: str,
        seen_types: Iterable[str],
        lists: RowSpace | None = None,
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
            lists: the catalogue whose precomputed lists are read and written; None = none are.
            max_connections: reads that may be under way at a time; one more is late at once.
            connect_timeout_s: longest wait for a connection.
            slow_s: a store that takes longer to reply has failed, however long the caller waits.
            ttl_s: how long a user who does nothing is remembered.

        Raises:
            ValueError: the URL is not one of a store, or the namespace or the bundle's version has a brace.
        """
        self.lists = lists
        self._keys = UserKeys(namespace, lists.version if lists else "")
        self._url = StoreUrl.parse(url)
        self._topology = topology_of(self._url)
        self._pool = ConnectionPool(self._url, self._topology, max_connections, connect_timeout_s, slow_s)
        self._writer: Redis | RedisCluster | None = None
        self._write_timeout_s = max(WRITE_TIMEOUT_S, connect_timeout_s)
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
        events, seen = self._keys.events_and_seen(user_id)
        commands, replies = packed("LRANGE", events, 0, MAX_STORED_EVENTS - 1) + packed("GET", seen), 2
        if self.lists is not None:
            commands, replies = commands + packed("GET", self._keys.precomputed(user_id)), 3
        decode = partial(decode_user, user_hash(user_id), self.lists)
        try:
            state, flaws = await self._pool.round_trip(
                events.encode(), commands, replies, decode, timeout_s=timeout_s, report=report
            )
        except MissError as miss:
            self._note(miss.kind, str(miss))
            return nothing_known(self, Reason.STORE_LATE if miss.kind in _LATE else Reason.STORE_FAILED)
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
        seen, kept = self._seen(user_id, ordered), encoded_events(user_id, ordered[-MAX_STORED_EVENTS:])
        limits = MAX_STORED_EVENTS, MAX_SEEN * SEEN_BYTES, self._ttl_s
        await self._client().eval(APPEND, 2, *self._keys.events_and_seen(user_id), *limits, seen, *kept)

    async def load(self, users: Mapping[str, Sequence[UserEvent]]) -> None:
        """Make the given events all that is stored of the given users, many users in one round trip.

        Raises:
            redis.RedisError: some of the users are not stored; loading again repairs it.
        """
        pipe = self._client().pipeline(transaction=False)
        for count, (user_id, events) in enumerate(users.items(), 1):
            events_key, seen_key = self._keys.events_and_seen(user_id)
            ordered = _newest_first(events)
            seen = self._seen(user_id, ordered[::-1])
            pipe.delete(events_key)
            pipe.delete(seen_key)
            if ordered:
                pipe.rpush(events_key, *encoded_events(user_id, ordered[:MAX_STORED_EVENTS]))
                pipe.expire(events_key, self._ttl_s)
            if seen:
                pipe.set(seen_key, seen, ex=self._ttl_s)
            if count % _USERS_PER_BATCH == 0:
                await pipe.execute()
        await pipe.execute()

    async def write_lists(self, lists: Mapping[str, PrecomputedList], ttl_s: float = LIST_TTL_S) -> None:
        """See ``UserStore.write_lists``; many users in one round trip.

        Raises:
            redis.RedisError: some of the lists are not stored; writing them again repairs it.
        """
        pipe = self._client().pipeline(transaction=False)
        for count, (user_id, made) in enumerate(lists.items(), 1):
            stored = encoded_list(self.lists, user_id, made)
            pipe.set(self._keys.precomputed(user_id), stored, px=max(round(list_ttl_s(ttl_s) * 1000), 1))
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

    def _seen(self, user_id: str, oldest_first: Iterable[UserEvent]) -> bytes:
        """The newest ``MAX_SEEN`` items among the events, oldest first, as they are stored."""
        items = item_hashes(e.item_id for e in oldest_first if e.event_type in self._seen_types)
        return encode_seen(items[-MAX_SEEN:], user_hash(user_id))

    def _note(self, kind: Miss, detail: str) -> None:
        self._misses[kind] += 1
        self._limited_log.warning(f"reads of the user store fail ({kind})", detail)


def nothing_known(store: UserStore, why: Reason) -> UserState:
    """The state of a user of whom a store was not asked, or gave nothing."""
    return UserState(missing=why) if store.lists is None else UserState(missing=why, no_list=why)
