"""Copies of bundles on this machine, as many as fit a bound; the one that was not used for longest goes first.

Layout: ``<folder>/<store>/<version>/``, with a hash of the store's URL, since two stores may have the same version.
Whatever changes the cache does so under the lock of ``<folder>``, one process at a time.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from core.manifest import MANIFEST_NAME
from server.release.bundle_copy import BundleStoreError, local_errors, locked, remove_folder, remove_partial

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from core.manifest import Manifest


def hold(folder: Path) -> int:
    """Keep a bundle's folder from being removed from the cache it lies in; for the process that opens its files.

    Returns:
        A file descriptor. The folder is held until it is closed here and in every process that was forked since, which
        the end of a process does too.

    Raises:
        BundleStoreError: the folder is gone; fetch the bundle again.
    """
    with local_errors(folder):
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        kept = os.path.samestat(os.fstat(handle), folder.stat())
    except OSError:  # renamed while this waited for its remover
        kept = False
    if not kept:
        os.close(handle)
        raise BundleStoreError(f"{folder}: was removed from the cache a moment ago. Fetch the bundle again")
    return handle


class BundleCache:
    """Copies of the bundles of one store, in a folder that other stores and processes may share.

    Attributes:
        folder: of the cache.

        bundles: the copies of this store.
    """

    def __init__(self, folder: Path, max_bytes: int, url: str) -> None:
        """Nothing is made before it is needed.

        Args:
            folder: of the cache, on a disk of this machine.
            max_bytes: bound of all copies in the folder together.
            url: of the store.
        """
        self.folder, self._max_bytes = folder, max_bytes
        self.bundles = folder / hashlib.sha256(url.encode()).hexdigest()[:16]

    def find(self, version: str) -> Path | None:
        """The folder of a version that is there, which counts as used now."""
        folder = self.bundles / version
        if not (folder / MANIFEST_NAME).is_file():
            return None
        try:
            os.utime(folder)
        except FileNotFoundError:  # just removed
            return None
        except OSError:  # a cache that cannot be written to loses nothing, so that its order does not matter
            pass
        return folder

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Alone among those who change the cache; what interrupted ones left behind is gone."""
        with locked(self.folder):
            self.bundles.mkdir(exist_ok=True)
            for bundles in self.folder.iterdir():
                if bundles.is_dir():
                    remove_partial(bundles)
            yield

    def make_room(self, manifest: Manifest, keep: Collection[str]) -> None:
        """Remove what was not used for longest until a bundle fits beside the rest; what is in use stays.

        Args:
            manifest: of the bundle.
            keep: versions that stay although nobody holds them.

        Raises:
            BundleStoreError: it does not fit; nothing was removed.
        """
        size = sum(entry.bytes for entry in manifest.files.values())
        there = [path.parent for path in self.folder.glob(f"*/[!.]*/{MANIFEST_NAME}")]
        sizes = {folder: _size(folder) for folder in sorted(there, key=lambda folder: folder.stat().st_mtime_ns)}
        excess = sum(sizes.values()) + size - self._max_bytes
        with ExitStack() as stack:
            unused, in_use = [], []
            for folder, its_size in sizes.items():
                if excess <= 0:
                    break
                kept = folder.parent == self.bundles and folder.name in keep
                if kept or not _claim(folder, stack):
                    in_use.append(folder.name)
                    continue
                unused.append(folder)
                excess -= its_size
            if excess > 0:
                raise BundleStoreError(
                    f"{self.folder}: {manifest.version} has {size:,} bytes and does not fit: the bound is "
                    f"{self._max_bytes:,} bytes, in use are {', '.join(sorted(in_use)) or 'no others'}. "
                    "Raise the bound of the cache"
                )
            for folder in unused:
                remove_folder(folder)


def _claim(folder: Path, stack: ExitStack) -> bool:
    """Whether nobody holds the folder; nobody can until the stack ends."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
