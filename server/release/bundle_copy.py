"""Copies a bundle to a folder of this machine: whole, as its manifest says, or not at all."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from core.manifest import (
    MANIFEST_NAME,
    SIGNATURE_NAME,
    BundleError,
    DamagedBundleError,
    FileEntry,
    Manifest,
    read_manifest,
    verify,
)
from core.release_values import is_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

Blocks: TypeAlias = "Callable[[str], Iterable[bytes]]"
"""From the name of a file of the bundle to its content; ``FileNotFoundError`` where there is no such file."""
Progress: TypeAlias = "Callable[[str, int, int], None]"
"""Called with what is done, how many files of it are, and how many there are."""
BLOCK_BYTES = 8 << 20
"""What is read at once: one request of object storage."""
_PARTIAL = ".partial-"
_LOCK_NAME = ".lock"
_ADVICE = {
    errno.ENOSPC: "Free space on that disk, or name a folder on another one",
    errno.EDQUOT: "Free space there, or name a folder elsewhere",
    errno.EACCES: "Give this user the right to read and write there, or name another folder",
    errno.EPERM: "Give this user the right to read and write there, or name another folder",
    errno.EROFS: "That file system cannot be written to; name a folder on another one",
}


class BundleStoreError(BundleError):
    """A bundle store, or the folder of its copies, cannot be used now; the message names it and says what to do.

    Nothing is wrong with a bundle, so that the same may be tried again later.
    """

    cause = "store"


def no_progress(_what: str, _done: int, _total: int) -> None:
    """For those who do not watch."""


def check_version(version: str) -> str:
    """The version, which is the name of a folder.

    Raises:
        BundleError: it cannot be one.
    """
    if not is_version(version):
        raise BundleError(f"{version!r} cannot be a version. `terrace bundle list` names those there are")
    return version


@contextmanager
def local_errors(folder: Path) -> Iterator[None]:
    """Failures of the disk as ``BundleStoreError``, with the folder and what to do."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "Look at that disk, then try again")
        where = error.filename if isinstance(error.filename, str) else folder
        raise BundleStoreError(f"{where}: {error.strerror or error}. {advice}") from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Alone among the processes and threads that write bundles to a folder, which is made where it is missing.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK_NAME).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # closing is not enough: a process forked meanwhile has the file open too


def copy_bundle(
    version: str,
    blocks: Blocks,
    to: Path,
    source: str,
    *,
    accept: Callable[[Manifest], None] = lambda _: None,
    progress: Progress = no_progress,
) -> Path:
    """Copy a bundle into a folder of bundles, whose lock the caller holds; what is interrupted is cleaned up later.

    Args:
        version: of the bundle; it must not be there yet.
        blocks: reads its files.
        to: the folder of bundles.
        source: what messages call the bundle.
        accept: called with the manifest before any other file is read; raises to refuse it.
        progress: called after each file.

    Returns:
        The folder of the copy, which is on disk, also after a power cut.

    Raises:
        DamagedBundleError: a file is not as the manifest says.
        BundleError: there is no such bundle, or its manifest cannot be used.
        OSError: the copy cannot be written.
    """
    remove_partial(to)
    partial = to / f"{_PARTIAL}{version}"
    partial.mkdir()
    try:
        manifest = _receive_manifest(version, blocks, partial, source)
        accept(manifest)
        for done, (name, entry) in enumerate(manifest.files.items(), 1):
            _receive(blocks, name, partial, source, entry)
            progress(f"copy {version}", done, len(manifest.files))
        for path in partial.rglob("*"):
            if path.is_dir():
                _sync(path)
        _sync(partial)
        final = to / version
        if final.exists():  # what is left of a bundle whose removal was interrupted
            shutil.rmtree(final)
        partial.rename(final)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _sync(to)
    return final


def copy_new(version: str, blocks: Blocks, to: Path, source: str, progress: Progress = no_progress) -> Path:
    """Copy a bundle into a folder of bundles where it is not yet; arguments as of ``copy_bundle``.

    Raises:
        BundleStoreError: the folder cannot be written to.
        BundleError: the version is there already; and as ``copy_bundle``.
    """
    with local_errors(to), locked(to):
        if (to / version / MANIFEST_NAME).is_file():
            raise BundleError(
                f"{to / version}: this version is there already and bundles never change. Build again for a new one"
            )
        return copy_bundle(version, blocks, to, source, progress=progress)


def read_whole(folder: Path) -> Manifest:
    """The manifest of a bundle whose files are all as it says.

    Raises:
        BundleError: they are not, or its version cannot name a folder.
    """
    manifest = read_manifest(folder)
    check_version(manifest.version)
    verify(folder, manifest)
    return manifest


def remove_partial(folder: Path) -> None:
    """Remove what interrupted copies left in a folder of bundles, whose lock the caller holds."""
    for path in folder.glob(f"{_PARTIAL}*"):
        shutil.rmtree(path)


def remove_folder(folder: Path) -> None:
    """Remove a bundle from a folder of bundles at one go: it is there, or it is not.

    The caller holds the lock; what is left when this is interrupted goes with ``remove_partial``.
    """
    hidden = folder.with_name(f"{_PARTIAL}{folder.name}")
    folder.rename(hidden)
    shutil.rmtree(hidden)


def file_blocks(folder: Path) -> Blocks:
    """Reads the files of a bundle in a folder."""

    def blocks(name: str) -> Iterator[bytes]:
        with (folder / name).open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                yield block

    return blocks


def read_named(folder: Path, source: str) -> Manifest:
    """The manifest in a folder that nobody knows; messages name the source instead.

    Raises:
        BundleError: it cannot be used.
    """
    try:
        return read_manifest(folder)
    except BundleError as error:
        raise type(error)(str(error).replace(str(folder), source)) from None


def _receive_manifest(version: str, blocks: Blocks, partial: Path, source: str) -> Manifest:
    """Manifest and signature, before anything else, so that the manifest is what the other files are held against."""
    for name in (MANIFEST_NAME, SIGNATURE_NAME):
        try:
            _write(blocks(name), partial / name)
        except FileNotFoundError:
            if name == MANIFEST_NAME:
                raise BundleError(f"{source}: no such bundle. `terrace bundle list` names those there are") from None
            (partial / name).unlink(missing_ok=True)
    manifest = read_named(partial, source)
    if manifest.version != version:
        raise DamagedBundleError(f"{source}: its manifest is that of {manifest.version}. Push the bundle again")
    return manifest


def _receive(blocks: Blocks, name: str, partial: Path, source: str, expected: FileEntry) -> None:
    path = partial / name
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        found = _write(blocks(name), path, expected.bytes)
    except FileNotFoundError:
        raise DamagedBundleError(f"{source}/{name}: missing, the manifest lists it. Push the bundle again") from None
    if found.bytes != expected.bytes:
        longer = "more than" if found.bytes > expected.bytes else f"{found.bytes} bytes instead of"
        raise DamagedBundleError(
            f"{source}/{name}: {longer} the {expected.bytes} bytes that the manifest says. Push the bundle again"
        )
    if found != expected:
        raise DamagedBundleError(f"{source}/{name}: its SHA-256 is not the manifest's. Push the bundle again")


def _write(blocks: Iterable[bytes], path: Path, most: int | None = None) -> FileEntry:
    """Size and SHA-256 of what was written, which ends with the block that goes beyond ``most`` bytes."""
    total, sha = 0, hashlib.sha256()
    with path.open("xb") as file:
        for block in blocks:
            total += len(block)
            sha.update(block)
            file.write(block)
            if most is not None and total > most:
                break
        file.flush()
        os.fsync(file.fileno())
    return FileEntry(total, sha.hexdigest())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
