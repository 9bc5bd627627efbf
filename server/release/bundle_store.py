"""Where bundles are kept: a folder of this machine, or object storage behind a URL.

A bundle is ``<store>/<version>/``: its manifest and the files that the manifest lists. It is there when its manifest is.
The manifest is written last and removed first, so that of a push or a removal that was interrupted nothing is ever used.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from core.manifest import MANIFEST_NAME, SIGNATURE_NAME, BundleError, read_manifest
from core.release_values import is_version
from server.release.bundle_copy import (
    BundleStoreError,
    check_version,
    copy_new,
    file_blocks,
    local_errors,
    locked,
    no_progress,
    read_whole,
)
from server.release.object_store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Collection

    from core.manifest import Manifest
    from server.release.bundle_copy import Progress

CACHE = Path("build/cache")
"""Where copies of what object storage holds lie, unless it is chosen."""
MAX_CACHE_BYTES = 20 << 30
"""Their bound, unless it is chosen."""


class BundleStore(Protocol):
    """Bundles by version. Every method blocks; versions are immutable.

    Every method raises ``BundleStoreError`` where the store cannot be reached or refuses, and ``BundleError`` for a
    version that is not there.

    Attributes:
        url: of the store, for messages.
    """

    url: str

    def versions(self) -> list[str]:
        """The finished bundles, newest first."""
        ...

    def unfinished(self) -> list[str]:
        """What looks like a bundle and has no manifest: is being pushed, or was interrupted, or half removed."""
        ...

    def manifest(self, version: str) -> Manifest:
        """What a bundle is. Raises ``BundleError`` where that cannot be read."""
        ...

    def signed(self, version: str) -> bool:
        """Whether a bundle has a signature, valid or not."""
        ...

    def fetch(self, version: str, keep: Collection[str] = ()) -> Path:
        """The folder of a bundle on this machine, downloaded where it is not there yet; see ``bundle_cache.hold``.

        Args:
            version: of the bundle.
            keep: other versions that must not leave the cache for it.

        Raises:
            DamagedBundleError: a file that was downloaded is not as the manifest says.
        """
        ...

    def download(self, version: str, to: Path, progress: Progress = no_progress) -> Path:
        """Copy a bundle into a folder of bundles outside the cache; returns the copy's folder.

        Raises:
            DamagedBundleError: a file is not as the manifest says.
        """
        ...

    def push(self, folder: Path, progress: Progress = no_progress) -> str:
        """Copy a bundle into the store; returns its version.

        Raises:
            BundleError: the folder holds no whole bundle, or the version is there already.
        """
        ...

    def remove(self, version: str) -> None:
        """Remove a bundle, finished or not."""
        ...


def open_store(url: str, cache: Path = CACHE, max_cache_bytes: int = MAX_CACHE_BYTES) -> BundleStore:
    """The store that a URL names; nothing is read before it is asked for.

    Args:
        url: a folder, also as ``file:///...``, is used in place; anything else is for fsspec: ``s3://bucket/prefix``,
            and ``gs://`` or ``az://`` where the package is installed that fsspec names. Credentials are none of the
            URL's: those packages find them in the environment.
        cache: folder of what was downloaded; see ``BundleCache``.
        max_cache_bytes: bound of that folder.

    Raises:
        BundleError: the URL cannot be used; the message does not repeat a password.
    """
    if "://" not in url:
        return FolderStore(Path(url))
    try:
        parts = urlsplit(url)
        secret = parts.password is not None
    except ValueError:
        raise BundleError("the URL of the bundle store is no URL") from None
    if secret:
        raise BundleError(
            "the URL of the bundle store has a password. Give credentials in the environment, as the storage's own "
            "tools take them"
        )
    if parts.query or parts.fragment or "::" in url:
        raise BundleError("the URL of the bundle store has more than a place: it must be such as s3://bucket/prefix")
    if parts.scheme == "file":
        if parts.netloc or not parts.path:
            raise BundleError(f"{url}: the URL of a folder must be file:///path")
        return FolderStore(Path(unquote(parts.path)))
    if not parts.netloc and not parts.path.strip("/"):
        raise BundleError(f"{url}: names no place; it must be such as s3://bucket/prefix")
    return ObjectStore(url.rstrip("/"), cache, max_cache_bytes)


class FolderStore:
    """A folder of this machine; its bundles are used in place, without a copy."""

    def __init__(self, folder: Path) -> None:
        """Keep the folder, which must be there: one that is not may be a disk that is not mounted."""
        self.url = str(folder)
        self._folder = folder

    def versions(self) -> list[str]:
        """See ``BundleStore``."""
        return sorted((name for name, finished in self._entries().items() if finished), reverse=True)

    def unfinished(self) -> list[str]:
        """See ``BundleStore``."""
        return sorted((name for name, finished in self._entries().items() if not finished), reverse=True)

    def manifest(self, version: str) -> Manifest:
        """See ``BundleStore``."""
        return read_manifest(self._place(version))

    def signed(self, version: str) -> bool:
        """See ``BundleStore``."""
        return (self._place(version) / SIGNATURE_NAME).is_file()

    def fetch(self, version: str, keep: Collection[str] = ()) -> Path:  # noqa: ARG002 - there is no cache
        """See ``BundleStore``: the bundle's own folder, whose files are not looked at."""
        folder = self._place(version)
        if not (folder / MANIFEST_NAME).is_file():
            raise self._unknown(version)
        return folder

    def download(self, version: str, to: Path, progress: Progress = no_progress) -> Path:
        """See ``BundleStore``."""
        folder = self._place(version)
        return copy_new(version, file_blocks(folder), to, str(folder), progress)

    def push(self, folder: Path, progress: Progress = no_progress) -> str:
        """See ``BundleStore``."""
        version = read_whole(folder).version
        self._entries()
        copy_new(version, file_blocks(folder), self._folder, str(folder), progress)
        return version

    def remove(self, version: str) -> None:
        """See ``BundleStore``."""
        folder = self._place(version)
        with local_errors(self._folder):
            if not folder.is_dir():
                raise self._unknown(version)
            with locked(self._folder):
                (folder / MANIFEST_NAME).unlink(missing_ok=True)
                shutil.rmtree(folder)

    def _entries(self) -> dict[str, bool]:
        """The bundles' names, and whether they are finished; drafts are hidden."""
        with local_errors(self._folder):
            if not self._folder.is_dir():
                raise BundleStoreError(f"{self._folder}: no such folder of bundles. Make it, or mend the path")
            folders = [path for path in self._folder.iterdir() if path.is_dir() and is_version(path.name)]
            return {path.name: (path / MANIFEST_NAME).is_file() for path in folders}

    def _place(self, version: str) -> Path:
        return self._folder / check_version(version)

    def _unknown(self, version: str) -> BundleError:
        return BundleError(
            f"{self._folder}: there is no finished bundle {version}. `terrace bundle list` names those there are"
        )
