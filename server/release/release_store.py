"""The release document and the reports of replicas, in Redis or Valkey.

Keys: ``terrace:<namespace>:release``, the document, and ``terrace:<namespace>:replicas``, a hash of reports. Each
operation is one script on one key, so that it works in a Cluster and two operators cannot overwrite each other.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import redis
from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, RedisClusterException

from core.release import Release, ReleaseDocumentError, ReleaseError
from server.release.replica_report import ReplicaReport
from server.store.url import StoreUrl, close_client

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis, RedisCluster

STALE_S = 10
"""A replica that has reported nothing for so long is gone, seconds: ten reports at one a second."""
TIMEOUT_S = 0.5
"""Longest wait for one operation of a replica: with a look every half second, one a second whatever the store does."""
_READ = "return redis.call('GET', KEYS[1])"
_WRITE = """
local found = redis.call('GET', KEYS[1]) or ''
if found ~= ARGV[1] then return found end
redis.call('SET', KEYS[1], ARGV[2])
return false
"""
_REPORT = """
local now, stale = redis.call('TIME')[1], tonumber(ARGV[3])
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local at = tonumber(string.match(all[i + 1], '^%d+'))
  if not at or math.abs(now - at) > stale then redis.call('HDEL', KEYS[1], all[i]) end
end
redis.call('HSET', KEYS[1], ARGV[1], now .. ' ' .. ARGV[2])
redis.call('EXPIRE', KEYS[1], 2 * stale)
"""
"""Who reports removes who does no longer; the last one's entry goes with the key. A report from the future is one from
before the store's clock jumped back: its replica, if it is there, reports again."""
_REPLICAS = "return {redis.call('TIME')[1], redis.call('HGETALL', KEYS[1])}"


class ReleaseStoreError(ReleaseError):
    """The store cannot be reached or refuses; the message says what to do."""


class LostRaceError(ReleaseError):
    """Somebody else changed the document first; the message says who, when and what."""

    @classmethod
    def over(cls, release: Release | None) -> LostRaceError:
        """The error of who finds this document in place of the one that the change was decided on."""
        if release is None:
            return cls(
                "there is no release document (any more). Look at `terrace release status`, then repeat the command"
            )
        return cls(
            f"revision {release.revision} is there already, by {release.changed_by} at {release.changed_at}: "
            f"{release.note}. Look at `terrace release status`, then repeat the command if it is still right"
        )


class ReleaseStore:
    """The release of one namespace; belongs to one event loop."""

    def __init__(
        self,
        url: str,
        namespace: str,
        *,
        timeout_s: float = TIMEOUT_S,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """Prepare; connects on first use.

        Args:
            url: one server, Sentinels or a Cluster; see ``server.store.url``.
            namespace: separates deployments that share one store.
            timeout_s: longest wait for one operation, connecting included.
            now_s: wall clock, seconds since the epoch, for people to read.

        Raises:
            ValueError: the URL is not one of a store, or the namespace has a brace.
        """
        if "{" in namespace or "}" in namespace:
            raise ValueError("the namespace must not have braces: they say which keys lie together")
        self.namespace = namespace
        self.key = f"terrace:{namespace}:release"
        self._replicas_key = f"terrace:{namespace}:replicas"
        self._url = StoreUrl.parse(url)
        self._timeout_s = timeout_s
        self._now_s = now_s
        self._client: Redis | RedisCluster | None = None

    async def read(self) -> Release | None:
        """The document; None where there is none.

        Raises:
            ReleaseStoreError: the store cannot be reached or refuses.
            ReleaseDocumentError: what is stored is no document, or one of another format.
        """
        return self._decoded(await self._stored())

    async def change(self, function: Callable[[Release | None], Release], by: str) -> Release:
        """Write what a function makes of the document, unless somebody else wrote meanwhile.

        Args:
            function: from the document (None where there is none) to the next; what it raises is passed on.
            by: who changes it.

        Returns:
            The document as it was written: its revision is one more than before.

        Raises:
            LostRaceError: somebody else changed it between reading and writing.
            ReleaseStoreError: the store cannot be reached or refuses.
            ReleaseDocumentError: what is stored is no document, or one of another format; it stays as it is.
        """
        stored = await self._stored()
        old = self._decoded(stored)
        new = replace(
            function(old),
            revision=old.revision + 1 if old else 1,
            document_id=old.document_id if old else uuid.uuid4().hex,
            changed_at=datetime.fromtimestamp(self._now_s(), UTC).isoformat(timespec="seconds"),
            changed_by=by,
        )
        instead = await self.run(_WRITE, self.key, stored or b"", new.to_json(), changes=True)
        if instead is not None:
            raise LostRaceError.over(self._decoded(instead or None))
        return new

    async def report(self, report: ReplicaReport) -> None:
        """Say how a replica is, in place of what it said before.

        Raises:
            ReleaseStoreError: the store cannot be reached or refuses.
        """
        await self.tell(self._replicas_key, report.replica_id, report.to_json())

    async def replicas(self) -> list[ReplicaReport]:
        """Reports of the last ``STALE_S`` seconds by the store's clock, ordered by replica id.

        Raises:
            ReleaseStoreError: the store cannot be reached or refuses.
        """
        told = await self.told(self._replicas_key)
        return [ReplicaReport.from_json(replica_id, text, at_s) for replica_id, (at_s, text) in told.items()]

    async def tell(self, key: str, replica_id: str, text: str) -> None:
        """Write what a replica says in a hash, in place of what it said before; forgets those who say nothing any more.

        Raises:
            ReleaseStoreError: the store cannot be reached or refuses.
        """
        await self.run(_REPORT, key, replica_id, text, STALE_S)

    async def told(self, key: str) -> dict[str, tuple[float, bytes]]:
        """What replicas said in the last ``STALE_S`` seconds by the store's clock: replica id -> (when, what), ordered.

        Raises:
            ReleaseStoreError: the store cannot be reached or refuses.
        """
        now, flat = await self.run(_REPLICAS, key)
        found = {}
        for replica_id, value in zip(flat[::2], flat[1::2], strict=True):
            at, _, text = value.partition(b" ")
            if at.isdigit() and abs(int(now) - int(at)) <= STALE_S:
                found[replica_id.decode(errors="replace")] = float(at), text
        return dict(sorted(found.items()))

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await close_client(self._client)

    async def _stored(self) -> bytes | None:
        stored: bytes | None = await self.run(_READ, self.key)
        return stored

    def _decoded(self, stored: bytes | None) -> Release | None:
        try:
            return None if stored is None else Release.from_json(stored)
        except ReleaseDocumentError as error:
            raise ReleaseDocumentError(f"{self.key}: {error}") from error

    async def run(self, script: str, key: str, *arguments: str | bytes | int, changes: bool = False) -> Any:
        """The value of a script on one key.

        Raises:
            ReleaseStoreError: the store cannot be reached or refuses.
        """
        if self._client is None:
            self._client = self._url.client(self._timeout_s)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._client.eval(script, 1, key, *arguments)
        except (redis.RedisError, RedisClusterException, OSError, TimeoutError) as error:
            raise ReleaseStoreError(self._explained(error, changes=changes)) from error

    def _explained(self, error: Exception, *, changes: bool) -> str:
        """What went wrong and what to do; never the URL, which may hold a password."""
        words = str(error) or type(error).__name__
        if _lacks_rights(error):
            return (
                f"the store refuses this user: {words}. The user in the URL needs EVAL, TIME, GET, SET, DEL, HGETALL, "
                f"HSET, HDEL and EXPIRE on {self.key}, {self._replicas_key} and what begins with {self.key}:"
            )
        if isinstance(error, redis.ReadOnlyError):
            return f"the store is a read-only copy: {words}. Name the master, or its Sentinels with redis+sentinel://"
        if isinstance(error, redis.ResponseError):
            return f"the store answered with an error: {words}"
        unknown = "It is not known whether the change was made: look at `terrace release status` before you repeat it"
        hint = unknown if changes else "Is it up, and is the URL right?"
        return f"the store cannot be reached within {self._timeout_s:g} s: {words}. {hint}"


def _lacks_rights(error: BaseException | None) -> bool:
    """Whether the store refuses the user; redis-py wraps the one, and a script's error has no class of its own."""
    refusals = AuthenticationError | AuthorizationError | NoPermissionError
    return error is not None and (
        isinstance(error, refusals) or "ACL failure" in str(error) or _lacks_rights(error.__cause__)
    )
