"""How a bundle comes to be on disk: drafted under a hidden name, finished by its manifest, then renamed."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from candidate_gen.ann import INDEX_PATH, describe_index
from core.array_files import describe_arrays
from core.contents import ARRAY_SUFFIXES, MODEL_SUFFIX, Contents
from core.manifest import MANIFEST_NAME, SIGNATURE_NAME, BundleError, digest, write_manifest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
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
    """Write the manifest with the checksum and the contents of every file; returns it.

    May be done again with better figures; a signature, which would not fit any more, is removed.

    Raises:
        BundleError: an array, an index or a model is not one; the message names the file.
    """
    (draft / SIGNATURE_NAME).unlink(missing_ok=True)
    names = sorted(path.relative_to(draft).as_posix() for path in draft.rglob("*") if path.is_file())
    files = {name: digest(draft / name) for name in names if name != MANIFEST_NAME}
    sealed = replace(manifest, files=files, contents=_contents(draft, files))
    write_manifest(draft, sealed)
    return sealed


def _contents(draft: Path, names: Collection[str]) -> Contents:
    """What the files hold."""
    by_suffix: dict[str, list[str]] = {}
    for name in names:
        by_suffix.setdefault(PurePosixPath(name).suffix, []).append(name)
    arrays = [name for suffix in sorted(ARRAY_SUFFIXES) for name in by_suffix.get(suffix, ())]
    models = {}
    if MODEL_SUFFIX in by_suffix:
        from ranking.model_file import describe_model

        models = {name: describe_model(draft / name) for name in by_suffix[MODEL_SUFFIX]}
    return Contents(
        arrays={name: describe_arrays(draft / name) for name in arrays},
        indexes={name: describe_index(draft / name) for name in (INDEX_PATH,) if name in names},
        models=models,
    )


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
