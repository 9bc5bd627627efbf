"""The user store as a batch job uses it: who there is, many users in one round trip, and the job's records.

For jobs: unlike a read of the serving process, everything here waits for the store and raises when it fails.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

import redis

from core.events import UnreadableError, user_hash
from core.precompute_record import PrecomputeError, ShardRecord
from core.precomputed import RowSpace
from core.types import Reason, UserState
from server.store.user_store import MAX_STORED_EVENTS, RedisUserStore
from server.store.user_values import decode_user

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from core.precompute_record import Shard

RECORD_TTL_S = 7 * 24 * 3600
"""How long records are kept: longer than lists, so that it can be said when there were some."""
CONNECT_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 5.0
"""Longest wait for one user; nobody's page waits for it."""
_MOST_ITEMS = 2**31 - 1
"""Rows of lists are not held against a catalogue here: who checks a list knows its bundle, or the run's record does."""
_KEYS_A_SCAN = 1_000
_FIND_S, _PAUSE_S = 20.0, 0.1
"""How long reads that fail are repeated, since the servers of a Cluster are found in the background."""
_SWAP = """
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if (stored or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
"""
"""Replaces a field where it is still what it was."""
_STORE_FAILED = frozenset({Reason.STORE_LATE, Reason.STORE_FAILED})


class BatchStore(RedisUserStore):
    """``RedisUserStore`` for jobs; ``read`` is that of the serving process.

    Records lie in the hash ``terrace:<namespace>:pre:<version>:shards``, one field for each shard.
    """

    @classmethod
    def open(cls, url: str, namespace: str, version: str) -> Self:
        """A store that waits longer than one for requests does; connects on first use.

        Args:
            url: see ``server.store.url``.
            namespace: separates deployments that share one store.
            version: of the bundle whose lists and records are meant.

        Raises:
            ValueError: the URL is not one of a store, or the namespace or the version has a brace.
        """
        lists = RowSpace(version, _MOST_ITEMS)
        return cls(url, namespace, (), lists, connect_timeout_s=CONNECT_TIMEOUT_S, slow_s=READ_TIMEOUT_S)

    async def user_ids(self) -> AsyncIterator[str]:
        """Every user with stored events; one may come twice while the store is written to.

        Raises:
            redis.RedisError: the store failed.
        """
        async for key in self._client().scan_iter(match=self._keys.every_user, count=_KEYS_A_SCAN):
            user_id = self._keys.user_of(key)
            if user_id is not None:
                yield user_id

    async def read_many(self, user_ids: Sequence[str]) -> list[UserState]:
        """What ``read`` finds of each user, without lists, all in one round trip.

        Raises:
            redis.RedisError: the store failed.
        """
        pipe = self._client().pipeline(transaction=False)
        for user_id in user_ids:
            events, seen = self._keys.events_and_seen(user_id)
            pipe.lrange(events, 0, MAX_STORED_EVENTS - 1)
            pipe.get(seen)
        replies = await pipe.execute(raise_on_error=False)
        for reply in replies:
            if isinstance(reply, Exception) and not str(reply).startswith("WRONGTYPE"):
                raise reply
        pairs = zip(replies[::2], replies[1::2], strict=True)
        return [_state(user_hash(user_id), pair) for user_id, pair in zip(user_ids, pairs, strict=True)]

    async def read_list(self, user_id: str) -> UserState:
        """``read``, once the store answers.

        Raises:
            redis.ConnectionError: it does not.
        """
        clock = asyncio.get_running_loop().time
        end_s = clock() + _FIND_S
        while True:
            state = await self.read(user_id, READ_TIMEOUT_S)
            if state.precomputed is not None or state.no_list not in _STORE_FAILED:
                return state
            if clock() > end_s:
                raise redis.ConnectionError(f"reads fail for {_FIND_S:.0f} s ({state.no_list}): {dict(self.misses)}")
            await asyncio.sleep(_PAUSE_S)

    async def records(self) -> tuple[ShardRecord, ...]:
        """The records of all shards of the store's bundle, in no order.

        Raises:
            redis.RedisError: the store failed.
            PrecomputeError: one of them is not readable.
        """
        stored = await self._client().hgetall(self._keys.precompute_records)
        return tuple(map(ShardRecord.from_json, stored.values()))

    async def has_records(self) -> bool:
        """Whether a run for the store's bundle was ever begun, as far as records are kept.

        Raises:
            redis.RedisError: the store failed.
        """
        return bool(await self._client().exists(self._keys.precompute_records))

    async def stored_record(self, shard: Shard) -> str:
        """The record of one shard as it is stored; empty where there is none.

        Raises:
            redis.RedisError: the store failed.
        """
        stored = await self._client().hget(self._keys.precompute_records, str(shard))
        return stored.decode(errors="replace") if isinstance(stored, bytes) else ""

    async def swap_record(self, before: str, record: ShardRecord) -> str:
        """Store the record of a shard in place of the one that it follows from.

        Args:
            before: what ``stored_record`` or the last ``swap_record`` gave.
            record: the new one.

        Returns:
            It as it is stored.

        Raises:
            redis.RedisError: the store failed; the record is stored or not.
            PrecomputeError: another process has stored one meanwhile.
        """
        task, text = record.task, record.to_json()
        key = self._keys.precompute_records
        if not await self._client().eval(_SWAP, 1, key, str(task.shard), before, text, RECORD_TTL_S):
            raise PrecomputeError(
                f"another process works on shard {task.shard} of {task.version}: this one stops. "
                "`terrace precompute status` says how far it is"
            )
        return text


def _state(user: int, replies: Sequence[Any]) -> UserState:
    try:
        return decode_user(user, None, replies)[0]
    except UnreadableError:
        return UserState(missing=Reason.STORE_FAILED)
