"""What a replica knows of the release: polls the store, and keeps what it has when there is nothing better."""

from __future__ import annotations

import asyncio
import logging
from enum import StrEnum
from typing import TYPE_CHECKING

from core.release import ReleaseDocumentError
from server.release.release_store import ReleaseStoreError
from server.telemetry.rate_limited_log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from core.release import Release
    from server.release.local_copy import LocalCopy
    from server.release.release_store import ReleaseStore

PERIOD_S = 0.5
_log = logging.getLogger(__name__)


class FollowState(StrEnum):
    """What a look at the store showed. All but the first mean: keep what you have."""

    CURRENT = "current"
    """The document that is in hand, or a newer one, which now is."""
    ABSENT = "absent"
    """No document: none was made yet, or it was deleted."""
    AWAY = "away"
    """The store cannot be reached or refuses."""
    UNREADABLE = "unreadable"
    """No document, or one of another format."""
    BEHIND = "behind"
    """An older revision than the one in hand: the store has lost changes, as in a failover."""
    FAILED = "failed"
    """A defect of ours, or of ``on_change``."""


class ReleaseFollower:
    """Follows the release document of one namespace; belongs to one event loop.

    Attributes:
        release: the document in hand; None before the first one.

        state: what the last look showed; None before the first one.

        counts: state -> looks so far.

        copy_failures: copies that could not be written so far.
    """

    def __init__(
        self,
        store: ReleaseStore,
        copy: LocalCopy,
        on_change: Callable[[Release], None],
        *,
        period_s: float = PERIOD_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Nothing is known yet.

        Args:
            store: where the document is.
            copy: where the last good one is kept; read where the first look shows none.
            on_change: called with every document that takes the place of the one in hand. Where it raises, the old one
                stays in hand, and the next look tries again.
            period_s: time between two looks, seconds.
            sleep: waits for so many seconds.
        """
        self.release: Release | None = None
        self.state: FollowState | None = None
        self.counts: dict[FollowState, int] = dict.fromkeys(FollowState, 0)
        self.copy_failures = 0
        self._copied: Release | None = None
        self._store, self._copy, self._on_change = store, copy, on_change
        self._period_s, self._sleep = period_s, sleep
        self._limited_log = RateLimitedLog(_log)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            await self._sleep(self._period_s)

    async def look(self) -> None:
        """Look once; raises nothing. After the first look a process can start: from ``release``, if there is one."""
        first = self.state is None
        try:
            state, detail = await self._look()
        except Exception as error:  # noqa: BLE001 - whoever follows must go on following
            self._limited_log.exception("a look at the release document failed")
            state, detail = FollowState.FAILED, type(error).__name__
        if state is not self.state:
            level = logging.INFO if state is FollowState.CURRENT else logging.WARNING
            _log.log(level, "release document: %s; %s", state, detail)
        self.state = state
        self.counts[state] += 1
        if first and self.release is None and state is not FollowState.FAILED:
            self._begin_with_the_copy()

    async def _look(self) -> tuple[FollowState, str]:
        """What the store shows, and a word on it."""
        kept = f"keeping revision {self.release.revision}" if self.release else "none is in hand"
        try:
            found = await self._store.read()
        except ReleaseDocumentError as error:
            return FollowState.UNREADABLE, f"{error}; {kept}"
        except ReleaseStoreError as error:
            return FollowState.AWAY, f"{error}; {kept}"
        if found is None:
            return FollowState.ABSENT, f"there is none in namespace {self._store.namespace}; {kept}"
        if self._goes_back(found):
            return FollowState.BEHIND, (
                f"the store has revision {found.revision}, it has lost changes; {kept}. Look at `terrace release status` "
                "and repeat what is missing"
            )
        if found != self.release:
            self._take(found)
        if found != self._copied:
            self._write_copy(found)
        return FollowState.CURRENT, f"revision {found.revision}, live {found.live_version}"

    def _goes_back(self, found: Release) -> bool:
        """Whether a document is older than the one in hand; one that was deleted and made anew is another one."""
        held = self.release
        return held is not None and held.document_id == found.document_id and found.revision < held.revision

    def _take(self, release: Release) -> None:
        self._on_change(release)
        self.release = release

    def _write_copy(self, release: Release) -> None:
        """Write the copy, on the event loop: it is small, and written once for each revision."""
        try:
            self._copy.write(release)
            self._copied = release
        except OSError as error:
            self.copy_failures += 1
            self._limited_log.warning(f"the release document cannot be copied to {self._copy.path}", str(error))

    def _begin_with_the_copy(self) -> None:
        copied = self._copy.read()
        if copied is None:
            return
        _log.warning("starting from the copy of the release document, revision %d", copied.revision)
        try:
            self._take(copied)
        except Exception:  # noqa: BLE001 - as for one from the store
            self._limited_log.exception("the copy of the release document was not taken")
