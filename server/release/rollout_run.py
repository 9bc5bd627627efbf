"""Carries out a guarded rollout: looks, decides, changes the document, until it is done, held, withdrawn or overtaken."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from typing import TYPE_CHECKING

from core.release import ReleaseError
from server.release.operations import why_not_ready
from server.release.release_store import LostRaceError, ReleaseStoreError
from server.release.rollout import Act, Decision

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from core.release import Release
    from server.release.operations import Operations, Status
    from server.release.rollout import Rollout
    from server.release.rollout_store import RolloutStore

INTERVAL_S = 5.0
"""Between two looks. A breach is rolled back within the time that counts take to come (2 s), a look, and the replicas'
next look at the document (1 s), once there are calls enough to show it."""
LONGEST_INTERVAL_S = 10.0
"""Less than a third of the time after which others take a rollout for dead."""
_REASON = 480
"""Characters of a reason that fit with room to spare."""
ENDS = frozenset({Act.WITHDRAW, Act.HELD, Act.DONE})


class RolloutRun:
    """One rollout of one operator; belongs to one event loop."""

    def __init__(
        self,
        rollout: Rollout,
        operations: Operations,
        store: RolloutStore,
        tell: Callable[[Decision, Release], None],
        *,
        interval_s: float = INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Keep the parts.

        Args:
            rollout: decides.
            operations: make the changes.
            store: has the counts, and says who is rolling out.
            tell: called with each decision and the document after it.
            interval_s: time between two looks, seconds.
            clock: monotonic, seconds.
            sleep: waits for so many seconds.
        """
        self._rollout, self._operations, self._store, self._tell = rollout, operations, store, tell
        self._interval_s, self._clock, self._sleep = interval_s, clock, sleep
        self._who = f"{rollout.plan.version} by {operations.by} ({secrets.token_hex(4)})"
        self._unsure = False

    async def run(self) -> Decision:
        """Roll out; the last decision.

        Raises:
            ReleaseError: it cannot begin, somebody else is rolling out, or somebody else has changed the document.
        """
        await self._store.hold(self._who)
        try:
            return await self._run(await self._begin())
        finally:
            with contextlib.suppress(ReleaseStoreError):
                await self._store.let_go(self._who)

    async def _begin(self) -> Release:
        version = self._rollout.plan.version
        release = (await self._operations.status()).release
        if release is None or version not in {release.staged, release.live_version}:
            release = await self._operations.stage(version)
        if release.live_version == version:
            raise ReleaseError(f"{version} is live already; there is nothing to roll out")
        return release

    async def _run(self, held: Release) -> Decision:
        """From the document that is held, on."""
        while True:
            with contextlib.suppress(ReleaseStoreError):  # what is not known is looked up again
                await self._store.hold(self._who)
                status = await self._operations.status()
                published = await self._store.published()
                held = self._checked(held, status)
                decision = self._rollout.look(
                    held,
                    [replica.replica_id for replica in status.replicas],
                    why_not_ready(self._rollout.plan.version, status.replicas),
                    published,
                    self._clock(),
                )
                self._unsure = True
                held = await self._act(decision, held)
                self._unsure = False
                self._tell(decision, held)
                if decision.act in ENDS:
                    return decision
            await self._sleep(self._interval_s)

    def _checked(self, held: Release, status: Status) -> Release:
        """The document, where nobody else has changed it.

        Raises:
            ReleaseError: somebody has, or a replica refuses the version before anybody was given it.
        """
        found, version = status.release, self._rollout.plan.version
        ours = self._unsure and found is not None and found.changed_by == self._operations.by
        if found is None or (found != held and not (ours and found.revision == held.revision + 1)):
            raise LostRaceError.over(found)
        if version in found.frozen:
            raise ReleaseError(f"{version} is frozen: {found.frozen[version]}. Release another version")
        if not found.candidate_share:
            for replica in status.replicas:
                if version in replica.rejected and found.live_version != version:
                    raise ReleaseError(f"replica {replica.replica_id}: {replica.missing(version)}")
        return found

    async def _act(self, decision: Decision, held: Release) -> Release:
        """Change the document as decided; the new one."""
        operations, revision = self._operations, held.revision
        match decision.act:
            case Act.SHADOW:
                return await operations.shadow(decision.share, expected_revision=revision)
            case Act.SHARE:
                return await operations.share(decision.share, expected_revision=revision)
            case Act.PROMOTE:
                return await operations.promote(expected_revision=revision)
            case Act.WITHDRAW:
                # Whatever somebody else changes meanwhile: a version that is worse does not stay.
                return await self._withdraw(decision.why[:_REASON])
            case _:
                return held

    async def _withdraw(self, reason: str) -> Release:
        while True:
            with contextlib.suppress(LostRaceError):
                return await self._operations.withdraw(self._rollout.plan.version, reason)
