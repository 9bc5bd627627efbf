"""Which bundles of a store may go: all but the newest few and those that the release document names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection

    from core.release import Release
    from server.release.bundle_store import BundleStore

_BUILT = re.compile(r"\d{8}T\d{6}Z")
"""A version as `terrace build` names it; other folders without a manifest are not known to be ours."""


class Surplus(NamedTuple):
    """What a store has beyond what is kept.

    Attributes:
        versions: finished bundles, oldest first.

        unfinished: older than the newest ones that are kept, so that nobody is pushing them any more; oldest first.

        protected: older than the newest ones, and kept for the release document alone.
    """

    versions: tuple[str, ...]
    unfinished: tuple[str, ...]
    protected: tuple[str, ...]

    @property
    def to_remove(self) -> tuple[str, ...]:
        """What goes, oldest first."""
        return tuple(sorted(self.versions + self.unfinished))


def release_marks(release: Release | None) -> dict[str, str]:
    """Versions that a release document names -> what they are in it, such as ``live``; nothing of these is pruned."""
    if release is None:
        return {}
    marks = {release.live_version: "live"}
    if release.previous is not None:
        marks.setdefault(release.previous, "previous")
    if release.candidate is not None:
        marks.setdefault(
            release.candidate, "candidate" if release.candidate_share or release.shadow_share else "staged"
        )
    return marks


def surplus(store: BundleStore, keep: int, protected: Collection[str]) -> Surplus:
    """What goes when the newest bundles and the protected ones stay.

    Args:
        store: to look at.
        keep: how many of the newest finished bundles stay, at least 1.
        protected: versions that stay whatever their age.

    Raises:
        BundleStoreError: the store cannot be read.
    """
    if keep < 1:
        raise ValueError(f"keep is {keep}, at least the newest bundle stays")
    versions = store.versions()
    unfinished = [version for version in store.unfinished() if version not in versions]  # finished since, or removed
    oldest_kept = min(versions[:keep], default="")
    finished = [version for version in reversed(versions) if version < oldest_kept]
    broken = [version for version in reversed(unfinished) if version < oldest_kept and _BUILT.fullmatch(version)]
    return Surplus(
        versions=tuple(version for version in finished if version not in protected),
        unfinished=tuple(version for version in broken if version not in protected),
        protected=tuple(version for version in finished if version in protected),
    )
