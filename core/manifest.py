"""The manifest of a bundle: what is in the folder, how it was made, what it is worth.

Written last, so that a folder without one is a bundle that was never finished.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
_CHUNK_BYTES = 1 << 20


class BundleError(Exception):
    """A bundle cannot be used; the message names the file and says what to do."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Size and checksum of one file of the bundle."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Everything about a bundle that is not in its arrays.

    Attributes:
        version: sortable by build time, names the folder.

        built_at: ISO 8601, UTC.

        as_of_s: the moment the bundle knows the world up to: the last event's time, seconds since the epoch.

        code_version: version of the program that built it.

        items: number of catalogue rows.

        event_weights: event type -> weight; negative types take items out of the list.

        seen_types: event types after which an item is not offered again, unless a surface allows repeats.

        event_types: vocabulary of the user tower; code = index + 1, 0 = unknown.

        generators: in pool order, name -> {"limit": its pool size, ...its parameters}.

        cf: parameters of the CF scorer.

        search: what was tried for the lower rungs on the validation window, in order: ``tried``, its ``ndcg@20`` and
            whether it was ``kept``.

        model: parameters of the user tower and the ranker; empty = the bundle has no deep rung.

        rungs: rung names in measured order, best last; ``metrics`` has the figures.

        metrics: what ``terrace evaluate --json`` prints.

        golden: requests with the answers this bundle gave when it was built.

        data: the data report of the events it was built from.

        gate: checks of ``offline.publish.gate``, and ``action``: what was done about that; empty = there was none.

        files: path inside the folder -> size and checksum.
    """

    version: str
    built_at: str
    as_of_s: float
    code_version: str
    items: int
    event_weights: Mapping[str, float]
    seen_types: tuple[str, ...]
    event_types: tuple[str, ...]
    generators: Mapping[str, Mapping[str, Any]]
    cf: Mapping[str, Any]
    search: tuple[Mapping[str, Any], ...] = ()
    model: Mapping[str, Any] = field(default_factory=dict)
    rungs: tuple[str, ...] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)
    golden: tuple[Mapping[str, Any], ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    gate: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    @cached_property
    def type_code(self) -> dict[str, int]:
        """Event type -> code in the user tower's vocabulary."""
        return {name: code for code, name in enumerate(self.event_types, 1)}


def digest(path: Path) -> FileEntry:
    """Size and SHA-256 of a file."""
    total, sha = 0, hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_CHUNK_BYTES):
            total += len(block)
            sha.update(block)
    return FileEntry(total, sha.hexdigest())


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` into the folder."""
    text = json.dumps(asdict(manifest), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / MANIFEST_NAME).write_text(text, encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Read and check ``manifest.json``; the files it lists are not looked at, see ``verify``.

    Raises:
        BundleError: there is no bundle, it is not finished, or another format version wrote it.
    """
    path = folder / MANIFEST_NAME
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such bundle folder. Build one with `terrace build`")
    if not path.is_file():
        raise BundleError(f"{path}: missing, so this bundle was never finished. Build it again with `terrace build`")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{path}: not readable as JSON ({error}). Build the bundle again") from error
    found = raw.get("format_version") if isinstance(raw, dict) else None
    if found != FORMAT_VERSION:
        raise BundleError(
            f"{path}: format_version is {found}, this program reads {FORMAT_VERSION}. Build the bundle again with this version"
        )
    try:
        raw["files"] = {name: FileEntry(**entry) for name, entry in raw["files"].items()}
        for name in {"seen_types", "event_types", "search", "rungs", "golden"} & raw.keys():
            raw[name] = tuple(raw[name])
        return Manifest(**raw)
    except (KeyError, TypeError, AttributeError) as error:
        raise BundleError(
            f"{path}: a field is missing or of the wrong type ({error}). Build the bundle again"
        ) from error


def verify(folder: Path, manifest: Manifest) -> None:
    """Hold every file of the bundle against its size and checksum.

    Raises:
        BundleError: a file is missing, shorter, longer or changed.
    """
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{path}: missing, the manifest lists it. Copy or build the bundle again")
        size = path.stat().st_size
        if size != expected.bytes:
            raise BundleError(
                f"{path}: {size} bytes, the manifest says {expected.bytes}. Copy or build the bundle again"
            )
        if digest(path) != expected:
            raise BundleError(
                f"{path}: its SHA-256 is not the manifest's, the file was changed. Copy or build the bundle again"
            )


def newest_bundle(bundles: Path) -> Path:
    """The finished bundle with the highest version in a folder of bundles.

    Raises:
        BundleError: there is none.
    """
    found = sorted(path.parent for path in bundles.glob(f"*/{MANIFEST_NAME}") if not path.parent.name.startswith("."))
    if not found:
        raise BundleError(f"{bundles}: holds no finished bundle. Build one with `terrace build`")
    return found[-1]
