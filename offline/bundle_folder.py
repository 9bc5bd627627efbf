"""How a bundle comes to be on disk: drafted under a hidden name, finished by its manifest, then renamed."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from core.manifest import MANIFEST_NAME, SIGNATURE_NAME, BundleError, digest, write_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from core.manifest import Manifest

DRAFT_PREFIX = ".draft-"


def version_at(time_s: float) -> str:
    """The version of a bundle built at that moment; sorts by time."""
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y%m%dT%H%M%SZ")


@contextmanager
def drafting(bundles: Path, version: str) -> Iterator[Path]:
    """``open_draft``, removed when anything is raised before it is published."""
    draft = open_draft(bundles, version)
    try:
        yield draft
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def open_draft(bundles: Path, version: str) -> Path:
    """An empty folder to build ``version`` in; what an interrupted build of it left behind is removed.

    Raises:
        BundleError: the version is there already.
    """
    if (bundles / version).exists():
        raise BundleError(
            f"{bundles / version}: this version exists already and bundles never change. Build again for a new one"
        )
    draft = bundles / f"{DRAFT_PREFIX}{version}"
    if draft.exists():
        shutil.rmtree(draft)
    draft.mkdir(parents=True)
    return draft


def seal(draft: Path, manifest: Manifest) -> Manifest:
    """Write the manifest with the checksum of every file; returns it.

    May be done again with better figures; a signature, which would not fit any more, is removed.
    """
    (draft / SIGNATURE_NAME).unlink(missing_ok=True)
    names = sorted(path.relative_to(draft).as_posix() for path in draft.rglob("*") if path.is_file())
    files = {name: digest(draft / name) for name in names if name != MANIFEST_NAME}
    sealed = replace(manifest, files=files)
    write_manifest(draft, sealed)
    return sealed


def publish(draft: Path, bundles: Path, version: str) -> Path:
    """Make a sealed draft visible under its version, all or nothing, also across a power cut."""
    for path in draft.rglob("*"):
        _sync(path)
    _sync(draft)
    final = bundles / version
    draft.rename(final)
    _sync(bundles)
    return final


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
