"""What a guarded rollout keeps in the store: what replicas have answered, and who is rolling out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from core.release import ReleaseError
from server.telemetry.version_counts import read_counts, write_counts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from server.release.release_store import ReleaseStore
    from server.telemetry.version_counts import VersionCounts

COUNTS_FORMAT = 1
LEASE_S = 30
"""A rollout that has not said for so long that it goes on has ended."""
_HOLD = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return holder end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return false
"""
_LET_GO = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class RolloutRunningError(ReleaseError):
    """Somebody else is rolling out."""


class RolloutStore:
    """Beside the release document of one namespace."""

    def __init__(self, store: ReleaseStore) -> None:
        """Keep where the document is."""
        self._store = store
        self._counts_key, self._lease_key = f"{store.key}:counts", f"{store.key}:rollout"

    async def publish(self, replica_id: str, counts: Mapping[str, VersionCounts]) -> None:
        """Say what a replica has answered, in place of what it said before.

        Raises:
            ReleaseStoreError: the store cannot be reached or refuses.
        """
        text = json.dumps({"format_version": COUNTS_FORMAT, "versions": write_counts(counts)})
        await self._store.tell(self._counts_key, replica_id, text)

    async def published(self) -> dict[str, dict[str, VersionCounts]]:
        """What each replica that still says so has answered, by version; nothing of one that cannot be read.

        Raises:
            ReleaseStoreError: the store cannot be reached or refuses.
        """
        found = {}
        for replica_id, (_, text) in (await self._store.told(self._counts_key)).items():
            try:
                raw = json.loads(text)
                if raw["format_version"] == COUNTS_FORMAT:
                    found[replica_id] = read_counts(raw["versions"])
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
        return found

    async def hold(self, who: str) -> None:
        """Be the one who is rolling out, for the next ``LEASE_S`` seconds.

        Args:
            who: unique, and for others to read.

        Raises:
            RolloutRunningError: somebody else is.
            ReleaseStoreError: the store cannot be reached or refuses.
        """
        holder = await self._store.run(_HOLD, self._lease_key, who, LEASE_S)
        if holder is not None:
            raise RolloutRunningError(
                f"a rollout is running already: {holder.decode(errors='replace')}. Wait for it or stop it; one that was "
                f"killed is forgotten after {LEASE_S} s"
            )

    async def let_go(self, who: str) -> None:
        """Let others roll out; does nothing where they do already.

        Raises:
            ReleaseStoreError: the store cannot be reached or refuses.
        """
        await self._store.run(_LET_GO, self._lease_key, who)
