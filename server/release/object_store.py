"""Bundles in object storage, through fsspec, which is imported when the storage is first asked for something."""

from __future__ import annotations

import re
import tempfile
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.manifest import MANIFEST_NAME, SIGNATURE_NAME, BundleError
from core.release_values import is_version
from server.release.bundle_cache import BundleCache
from server.release.bundle_copy import (
    BLOCK_BYTES,
    BundleStoreError,
    check_version,
    copy_bundle,
    copy_new,
    local_errors,
    no_progress,
    read_named,
    read_whole,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from core.manifest import Manifest
    from server.release.bundle_copy import Blocks, Progress

CONNECT_S, READ_S = 5, 15
"""S3: longest wait for a connection, and for the next bytes of an answer."""
ATTEMPTS = 3
"""S3: how often a request is made that fails in a way that may pass."""
OUTER_ATTEMPTS = 2
"""S3: how often s3fs makes those attempts, where an answer breaks off while it is read; its own default is 5."""
_NO_CREDENTIALS = frozenset(
    {
        "NoCredentialsError",
        "PartialCredentialsError",
        "CredentialRetrievalError",
        "ProfileNotFound",
        "TokenRetrievalError",
        "DefaultCredentialsError",  # Google's
        "CredentialUnavailableError",  # Azure's
    }
)
"""Names of what the storages' packages raise; they cannot be imported here, since they need not be installed."""
_USER_INFO = re.compile(r"//[^/@\s:]*:[^/@\s]*@")


class ObjectStore:
    """A place in object storage, and a cache of copies on this machine."""

    def __init__(self, url: str, cache: Path, max_cache_bytes: int) -> None:
        """Nothing is imported, made or read before it is needed.

        Args:
            url: for fsspec, without credentials.
            cache: folder of the copies.
            max_cache_bytes: their bound.
        """
        self.url = url
        self._cache = BundleCache(cache, max_cache_bytes, url)

    def versions(self) -> list[str]:
        """See ``BundleStore``."""
        return [name for name in self._names() if self._exists(f"{name}/{MANIFEST_NAME}")]

    def unfinished(self) -> list[str]:
        """See ``BundleStore``."""
        return [name for name in self._names() if not self._exists(f"{name}/{MANIFEST_NAME}")]

    def manifest(self, version: str) -> Manifest:
        """See ``BundleStore``."""
        blocks = self._blocks(version)
        with tempfile.TemporaryDirectory(prefix="terrace-manifest-") as folder:
            try:
                (Path(folder) / MANIFEST_NAME).write_bytes(b"".join(blocks(MANIFEST_NAME)))
            except FileNotFoundError:
                raise self._unknown(version) from None
            return read_named(Path(folder), f"{self.url}/{version}")

    def signed(self, version: str) -> bool:
        """See ``BundleStore``."""
        return self._exists(f"{check_version(version)}/{SIGNATURE_NAME}")

    def fetch(self, version: str, keep: Collection[str] = ()) -> Path:
        """See ``BundleStore``. Of processes that fetch at once, one downloads and the others wait for it."""
        blocks = self._blocks(version)
        with local_errors(self._cache.folder):
            if (folder := self._cache.find(version)) is not None:
                return folder
            with self._cache.changing():
                if (folder := self._cache.find(version)) is not None:
                    return folder
                return copy_bundle(
                    version,
                    blocks,
                    self._cache.bundles,
                    f"{self.url}/{version}",
                    accept=lambda manifest: self._cache.make_room(manifest, keep),
                )

    def download(self, version: str, to: Path, progress: Progress = no_progress) -> Path:
        """See ``BundleStore``."""
        return copy_new(version, self._blocks(version), to, f"{self.url}/{version}", progress)

    def push(self, folder: Path, progress: Progress = no_progress) -> str:
        """See ``BundleStore``. The signature goes last but one, so that a bundle is never there without it."""
        manifest = read_whole(folder)
        version = manifest.version
        if version in self._names() and self._exists(f"{version}/{MANIFEST_NAME}"):
            raise BundleError(
                f"{self.url}/{version}: this version is there already and bundles never change. Build again for a new one"
            )
        names = [*manifest.files, *([SIGNATURE_NAME] if (folder / SIGNATURE_NAME).is_file() else []), MANIFEST_NAME]
        for done, name in enumerate(names, 1):
            with self._asking():
                self._fs.put_file(str(folder / name), self._path(f"{version}/{name}"))
            progress(f"push {version}", done, len(names))
        return version

    def remove(self, version: str) -> None:
        """See ``BundleStore``."""
        if check_version(version) not in self._names():
            raise self._unknown(version)
        with self._asking():
            folder, manifest = self._path(version), self._path(f"{version}/{MANIFEST_NAME}")
            for path in (manifest, *self._fs.find(folder)):
                # One by one: s3fs passes over the errors of a request that deletes many.
                with suppress(FileNotFoundError):  # another removal was quicker
                    self._fs.rm_file(path)
            with suppress(FileNotFoundError):  # there are no folders, but for storage that has some
                self._fs.rm(folder, recursive=True)

    @cached_property
    def _storage(self) -> tuple[Any, str]:
        """The file system of fsspec, which remembers no listing, and the store's path in it."""
        try:
            import fsspec.core  # noqa: PLC0415 - a deployment that keeps bundles in a folder does not have it
        except ImportError as error:
            raise BundleError(f"{self.url}: {error}. {_INSTALL}") from None
        limits: dict[str, Any] = {}
        if self.url.startswith(("s3://", "s3a://")):
            retries = {"mode": "standard", "total_max_attempts": ATTEMPTS}
            limits["config_kwargs"] = {"connect_timeout": CONNECT_S, "read_timeout": READ_S, "retries": retries}
        try:
            storage, root = fsspec.core.url_to_fs(
                self.url, skip_instance_cache=True, use_listings_cache=False, **limits
            )
        except (ImportError, ValueError) as error:
            raise BundleError(f"{self.url}: {error}. {_INSTALL}") from None
        if limits:
            storage.retries = OUTER_ATTEMPTS
        return storage, root.rstrip("/")

    @property
    def _fs(self) -> Any:
        return self._storage[0]

    def _path(self, name: str) -> str:
        return f"{self._storage[1]}/{name}"

    def _names(self) -> list[str]:
        """The bundles' names, finished or not, newest first."""
        with self._asking():
            root = self._storage[1]
            try:
                found = self._fs.ls(root, detail=False)
            except FileNotFoundError:
                self._check_bucket(root)
                return []
        names = {path.rstrip("/").rpartition("/")[2] for path in found}
        return sorted((name for name in names if is_version(name)), reverse=True)

    def _check_bucket(self, root: str) -> None:
        """Tell a bucket that is not there from a place in one where nothing is yet."""
        bucket, _, place = root.partition("/")
        if not bucket:  # no buckets there: a path
            return
        try:
            if place:
                self._fs.ls(bucket, detail=False)
                return
        except PermissionError:  # rights for this place only: what nobody may read is there
            return
        except FileNotFoundError:
            pass
        raise BundleStoreError(f"{self.url}: there is no bucket {bucket}. Make it, or mend the URL or the endpoint")

    def _exists(self, name: str) -> bool:
        with self._asking():
            try:
                self._fs.info(self._path(name))
            except FileNotFoundError:
                return False
        return True

    def _blocks(self, version: str) -> Blocks:
        check_version(version)

        def blocks(name: str) -> Iterator[bytes]:
            with self._asking():
                try:
                    file = self._fs.open(
                        self._path(f"{version}/{name}"), "rb", block_size=BLOCK_BYTES, cache_type="none"
                    )
                except FileNotFoundError:
                    self._names()  # raises where it is the bucket that is missing
                    raise
                with file:
                    while block := file.read(BLOCK_BYTES):
                        yield block

        return blocks

    def _unknown(self, version: str) -> BundleError:
        return BundleError(f"{self.url}/{version}: no such bundle. `terrace bundle list` names those there are")

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Whatever the storage's package raises as ``BundleStoreError``, but for a file that is not there."""
        try:
            yield
        except (BundleError, FileNotFoundError):
            raise
        except Exception as error:  # each storage's package raises errors of its own, which cannot be listed
            raise BundleStoreError(f"{self.url}: {explain(error)}") from error


_INSTALL = (
    "A store is a folder, or a URL that fsspec knows, and the package that it names must be installed: "
    "for s3:// s3fs (in a checkout of Terrace: pip install --group s3 .), for gs:// gcsfs, for az:// adlfs"
)


def explain(error: Exception) -> str:
    """What an error of a storage's package says, without credentials, and what to do."""
    text = _USER_INFO.sub("//", str(error)) or type(error).__name__
    if type(error).__name__ in _NO_CREDENTIALS:
        return f"{text}. Give credentials in the environment, as the storage's own tools take them (AWS_PROFILE, ...)"
    if isinstance(error, PermissionError):
        return (
            f"refused: {text}. The credentials that the environment gives must be valid, and allowed to list and read "
            "there, for push and prune also to write and delete"
        )
    return f"{type(error).__name__}: {text}. Look at the URL, the endpoint (AWS_ENDPOINT_URL) and the network, then try again"
