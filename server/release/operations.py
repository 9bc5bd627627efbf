"""What operators and programs ask for: the one place with the rules of a release.

Rules that look at the document alone are in ``core.release``; here are those that need replicas, bundles and lists.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from core.manifest import BundleError
from core.release import Release, ReleaseArgumentError, ReleaseError
from core.release_values import checked_reason, checked_share, checked_version, percent
from server.release.release_store import LostRaceError
from server.release.replica_report import not_ready

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

    from server.release.release_store import ReleaseStore
    from server.release.replica_report import ReplicaReport

PromotionCheck: TypeAlias = "Callable[[str], Awaitable[str | None]]"
"""From a version to why it must not be promoted yet; None where it may be."""
WAIT_S = 120.0
"""How long ``stage`` with a share waits for replicas to load the version, seconds, unless told otherwise."""
_POLL_S = 0.5
_NAMED = 3
"""Replicas, or versions, that one message names."""
_MAX_BY = 128


class UnknownVersionError(ReleaseError):
    """There is no bundle of this version."""


@dataclass(frozen=True, slots=True)
class Status:
    """The release and who serves it."""

    release: Release | None
    replicas: tuple[ReplicaReport, ...]

    @property
    def not_ready(self) -> dict[str, str]:
        """Replicas that could not give users every version of the document -> why."""
        return not_ready(self.release.versions if self.release else (), self.replicas)


class Operations:
    """Changes of one namespace's release, made by one operator.

    Each looks at the document and at the replicas, and writes only where the document is still the one it looked at.
    All raise ``ReleaseError`` where a rule or the store refuses; its kinds are ``ReleaseArgumentError``,
    ``UnknownVersionError``, ``LostRaceError``, ``ReleaseStoreError`` and ``ReleaseDocumentError``. Nothing was changed
    then, unless the message says otherwise.

    Attributes:
        by: who makes the changes.
    """

    def __init__(
        self,
        store: ReleaseStore,
        by: str,
        *,
        known_versions: Callable[[], Iterable[str]] | None = None,
        promotion_check: PromotionCheck | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Keep the parts.

        Args:
            store: of the namespace.
            by: who makes the changes, for others to read.
            known_versions: the versions that there are bundles of; None where nobody knows. Called in a thread.
            promotion_check: must agree before a version is promoted, unless forced.
            sleep: waits for so many seconds.

        Raises:
            ReleaseArgumentError: ``by`` is nobody.
        """
        if not by.strip() or len(by) > _MAX_BY or not by.isprintable():
            raise ReleaseArgumentError(f"who makes a change has 1 to {_MAX_BY} printable characters")
        self.by = by
        self._store = store
        self._known_versions = known_versions
        self._promotion_check = promotion_check
        self._sleep = sleep

    async def status(self) -> Status:
        """The document and every replica that reports."""
        return Status(await self._store.read(), tuple(await self._store.replicas()))

    async def stage(
        self,
        version: str,
        share: float | None = None,
        *,
        force: bool = False,
        expected_revision: int | None = None,
        wait_s: float | None = None,
    ) -> Release:
        """Have every replica load a version, and give it a share of the users once all have.

        Where there is no document yet, the version that the replicas answer from becomes the live one; where no replica
        reports, the staged version itself does.

        Args:
            version: of a bundle.
            share: part of the users, 0 to 1, given once every replica has loaded the version; None for what it has.
            force: stage a frozen version, or in place of a candidate that has users; give the share at once.
            expected_revision: of the document on which this was decided, 0 for none; None where any will do.
            wait_s: how long to wait for the replicas where the share is to grow; None for ``WAIT_S``.
        """
        checked_version(version)
        if share is not None:
            checked_share(share)
        await self._check_known(version)
        old = await self._read(expected_revision)
        has = old.candidate_share if old and version == old.candidate else 0.0
        wanted = has if share is None else share
        if old is None:
            new = _first(version, await self._store.replicas(), force=force)
            if wanted and new.live_version == version:
                raise ReleaseArgumentError(
                    f"{version} is the first version and becomes live, which is all users; leave out the share"
                )
            new = new.with_share(wanted, force=True) if wanted and force else new
        else:
            new = old.stage(version, wanted if force else min(has, wanted), force=force)
        staged = await self._change(old, new)
        if staged.candidate_share == wanted:
            return staged
        return await self._share_once_ready(staged, wanted, force=force, wait_s=WAIT_S if wait_s is None else wait_s)

    async def share(self, share: float, *, force: bool = False, expected_revision: int | None = None) -> Release:
        """Give the candidate a share of the users, 0 to 1; 0 takes it from all of them."""
        checked_share(share)
        old = await self._existing(expected_revision)
        new = old.with_share(share, force=force)
        if share > old.candidate_share and not force:
            await self._check_ready(new)
        return await self._change(old, new)

    async def promote(self, *, force: bool = False, expected_revision: int | None = None) -> Release:
        """Make the candidate live."""
        old = await self._existing(expected_revision)
        new = old.promote(force=force)
        if not force:
            await self._check_ready(old)
            why_not = await self._promotion_check(new.live_version) if self._promotion_check else None
            if why_not is not None:
                raise ReleaseError(f"{new.live_version} cannot be promoted yet: {why_not}. Or use --force")
        return await self._change(old, new)

    async def rollback(self, reason: str = "", *, force: bool = False, expected_revision: int | None = None) -> Release:
        """Take the candidate from its users, or go back to what was live before the last promotion.

        It waits for no replica: one that has not loaded the version goes on with what it has.
        """
        old = await self._existing(expected_revision)
        return await self._change(old, old.rollback(reason, force=force))

    async def shadow(self, share: float, *, expected_revision: int | None = None) -> Release:
        """Let the candidate answer a share of the calls too, 0 to 1, unseen; it waits for no replica, as nobody sees it."""
        checked_share(share)
        old = await self._existing(expected_revision)
        return await self._change(old, old.with_shadow(share))

    async def withdraw(self, version: str, reason: str, *, expected_revision: int | None = None) -> Release:
        """Take a version from its users and freeze it, in one change; it waits for no replica."""
        checked_version(version)
        checked_reason(reason)
        old = await self._existing(expected_revision)
        return await self._change(old, old.withdraw(version, reason))

    async def freeze(self, version: str, reason: str, *, expected_revision: int | None = None) -> Release:
        """Never give a version to users again, unless forced."""
        checked_version(version)
        checked_reason(reason)
        old = await self._existing(expected_revision)
        return await self._change(old, old.freeze(version, reason))

    async def unfreeze(self, version: str, *, expected_revision: int | None = None) -> Release:
        """Let a version be given to users again."""
        old = await self._existing(expected_revision)
        return await self._change(old, old.unfreeze(version))

    async def _read(self, expected_revision: int | None) -> Release | None:
        found = await self._store.read()
        if expected_revision not in {None, found.revision if found else 0}:
            raise LostRaceError.over(found)
        return found

    async def _existing(self, expected_revision: int | None) -> Release:
        found = await self._read(expected_revision)
        if found is None:
            raise ReleaseError(
                f"there is no release in namespace {self._store.namespace}; begin one with "
                "`terrace release stage VERSION`"
            )
        return found

    async def _change(self, old: Release | None, new: Release) -> Release:
        """Write a document that was made of ``old``, where that still stands."""

        def unless_changed(found: Release | None) -> Release:
            if found != old:
                raise LostRaceError.over(found)
            return new

        return await self._store.change(unless_changed, self.by)

    async def _check_known(self, version: str) -> None:
        if self._known_versions is None:
            return
        try:
            known = await asyncio.to_thread(lambda look: sorted(look(), reverse=True), self._known_versions)
        except BundleError as error:
            raise UnknownVersionError(str(error)) from None
        if version not in known:
            raise UnknownVersionError(
                f"there is no bundle of version {version}; the newest there are: {', '.join(known[:_NAMED]) or 'none'}"
            )

    async def _check_ready(self, release: Release) -> None:
        why = why_not_ready(release.staged, await self._store.replicas())
        if why is not None:
            raise ReleaseError(f"{release.staged} is not loaded everywhere: {why}. Wait for it, or use --force")

    async def _share_once_ready(self, staged: Release, share: float, *, force: bool, wait_s: float) -> Release:
        """Give a share that waits for the replicas, unless one refuses the version or somebody changes the document."""
        version = staged.staged
        why: str | None = "nobody was asked yet"
        try:
            async with asyncio.timeout(wait_s):
                while True:
                    status = await self.status()
                    if status.release != staged:
                        raise LostRaceError.over(status.release)
                    why = why_not_ready(version, status.replicas)
                    if why is None or any(version in replica.rejected for replica in status.replicas):
                        break
                    await self._sleep(_POLL_S)
        except TimeoutError:
            why = f"after {wait_s:g} s {why}"
        if why is not None:
            raise ReleaseError(
                f"{version} is staged, but not given to {percent(share)} of the users: {why}. Look at "
                f"`terrace release status`, and use `terrace release share {share:g}` once all are ready"
            )
        return await self._change(staged, staged.with_share(share, force=force))


def _first(version: str, replicas: Iterable[ReplicaReport], *, force: bool) -> Release:
    """The first document: what the replicas answer from is live, and the version staged beside it."""
    answering = {replica.replica_id: replica.answers_from for replica in replicas if replica.answers_from}
    found = set(answering.values())
    if not found or version in found or (force and len(found) > 1):
        return Release.of(version)
    if len(found) > 1:
        raise ReleaseError(
            f"there is no release yet, and the replicas answer from different versions ({_listed(answering)}). Stage "
            f"one of these first, which makes it live, or use --force to make {version} live"
        )
    staged = Release.of(found.pop()).stage(version)
    return replace(staged, note=f"{staged.live_version}, which all replicas answer from, is live; {staged.note}")


def why_not_ready(version: str | None, replicas: Collection[ReplicaReport]) -> str | None:
    """How many replicas are ready and why the others are not; None where all are."""
    if not replicas:
        return "no replica reports. Do servers of this namespace run, with this store?"
    waiting = not_ready((version,) if version else (), replicas)
    if not waiting:
        return None
    return f"{len(replicas) - len(waiting)} of {len(replicas)} ready; {_listed(waiting, 'replica ')}"


def _listed(facts: Mapping[str, str], what: str = "") -> str:
    """The first few of what is known by replica."""
    named = [f"{what}{replica_id}: {fact}" for replica_id, fact in list(facts.items())[:_NAMED]]
    more = [f"and {len(facts) - _NAMED} more"] if len(facts) > _NAMED else []
    return "; ".join(named + more)
