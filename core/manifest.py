"""The manifest of a bundle: what is in the folder, how it was made, what it is worth.

Written last, so that a folder without one is a bundle that was never finished.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from core.contents import Contents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
SIGNATURE_NAME = "manifest.sig"
"""Of the manifest, where there is one; the manifest does not list it."""
_CHUNK_BYTES = 1 << 20
_NAMED = 5
"""Damaged files that one message names besides the first."""


class BundleError(Exception):
    """A bundle cannot be used; the message names the file and says what to do.

    Attributes:
        cause: one word of a closed list, for metrics.
    """

    cause: ClassVar[str] = "unusable"


class DamagedBundleError(BundleError):
    """The files of a bundle are not those that its manifest lists."""

    cause = "damaged"


class GoldenError(BundleError):
    """A bundle does not answer as it did when it was built."""

    cause = "golden"


class Fault(NamedTuple):
    """Why a bundle, or one of its rungs, is not used.

    Attributes:
        cause: ``BundleError.cause``: one word of a closed list.

        text: the error's message.
    """

    cause: str
    text: str

    @classmethod
    def of(cls, error: BundleError) -> Fault:
        """What an error says, without the frames that it holds."""
        return cls(error.cause, str(error))


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

        precomputed_above_cf: whether a precomputed list stands above ``CF`` on the ladder, as the evaluation found.

        metrics: what ``terrace evaluate --json`` prints.

        golden: requests with the answers this bundle gave when it was built.

        data: the data report of the events it was built from.

        gate: checks of ``offline.publish.gate``, and ``action``: what was done about that; empty = there was none.

        files: path inside the folder, with ``/`` -> size and checksum; every file of the bundle but the manifest
            and its signature.

        contents: what those files hold; empty in a bundle from before this was written.
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
    precomputed_above_cf: bool = True
    metrics: Mapping[str, Any] = field(default_factory=dict)
    golden: tuple[Mapping[str, Any], ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    gate: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    contents: Contents = field(default_factory=Contents)
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


def read_manifest(folder: Path, accept: Callable[[bytes], None] = lambda _: None) -> Manifest:
    """Read and check ``manifest.json``; the files it lists are not looked at, see ``verify`` and ``find_damage``.

    Args:
        folder: of the bundle.
        accept: called with the bytes of the file before anything else is done with them; raises to refuse them.

    Raises:
        BundleError: there is no bundle, it is not finished, or another format version wrote it.
    """
    path = folder / MANIFEST_NAME
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such bundle folder. Build one with `terrace build`")
    if not path.is_file():
        raise BundleError(f"{path}: missing, so this bundle was never finished. Build it again with `terrace build`")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: not readable ({error.strerror}). Copy the bundle again") from error
    accept(content)
    try:
        raw = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: not readable as JSON ({error}). Build the bundle again") from error
    found = raw.get("format_version") if isinstance(raw, dict) else None
    if found != FORMAT_VERSION:
        raise BundleError(
            f"{path}: format_version is {found}, this program reads {FORMAT_VERSION}. Build the bundle again with this version"
        )
    try:
        raw["files"] = {_inside(path, name): FileEntry(**entry) for name, entry in raw["files"].items()}
        if "contents" in raw:
            raw["contents"] = Contents.read(**raw["contents"])
        for name in {"seen_types", "event_types", "search", "rungs", "golden"} & raw.keys():
            raw[name] = tuple(raw[name])
        return Manifest(**raw)
    except (KeyError, TypeError, AttributeError) as error:
        raise BundleError(
            f"{path}: a field is missing or of the wrong type ({error}). Build the bundle again"
        ) from error


def _inside(manifest: Path, name: str) -> str:
    """The name of a listed file, which lies inside the bundle."""
    path = PurePosixPath(name)
    if (
        path.is_absolute()
        or ".." in path.parts
        or path.as_posix() != name
        or name in {".", MANIFEST_NAME, SIGNATURE_NAME}
    ):
        raise DamagedBundleError(f"{manifest}: lists {name!r}, which is no file of this bundle. Build the bundle again")
    return name


def find_damage(folder: Path, manifest: Manifest) -> dict[str, str]:
    """Hold the files of a bundle against its list of files.

    Returns:
        Path inside the folder -> what is wrong and what to do: a symbolic link, a file that is not listed, a file that
        is missing, of another size or changed. Empty for a bundle that is whole.
    """
    damage = {}
    found = dict(_entries(folder))
    for name, path in found.items():
        if path.is_symlink():
            damage[name] = f"{path}: a symbolic link. Copy or build the bundle again"
        elif name not in manifest.files and name not in {MANIFEST_NAME, SIGNATURE_NAME}:
            damage[name] = f"{path}: not in the manifest's list of files. Remove it, or copy or build the bundle again"
    for name in sorted(manifest.files.keys() - damage.keys()):
        wrong = _difference(found.get(name), manifest.files[name])
        if wrong is not None:
            damage[name] = f"{folder / name}: {wrong}. Copy or build the bundle again"
    return damage


def _entries(folder: Path) -> Iterator[tuple[str, Path]]:
    """Everything below a folder that is not a folder; symbolic links are not followed."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_dir():
            yield path.relative_to(folder).as_posix(), path


def _difference(path: Path | None, expected: FileEntry) -> str | None:
    """What is wrong with a listed file; None when it is as listed."""
    if path is None:
        return "missing, the manifest lists it"
    if not path.is_file():
        return "not a plain file"
    try:
        size = path.stat().st_size
        if size != expected.bytes:
            return f"{size} bytes, the manifest says {expected.bytes}"
        changed = digest(path) != expected
    except OSError as error:
        return f"not readable ({error.strerror})"
    return "its SHA-256 is not the manifest's, the file was changed" if changed else None


def verify(folder: Path, manifest: Manifest) -> None:
    """Hold every file of the bundle against its size and checksum.

    Raises:
        DamagedBundleError: a file is missing, shorter, longer, changed, a symbolic link or not listed.
    """
    raise_damage(find_damage(folder, manifest))


def raise_damage(damage: Mapping[str, str]) -> None:
    """Raise what ``find_damage`` found, if anything.

    Raises:
        DamagedBundleError: has the first in full, and the names of a few more.
    """
    if not damage:
        return
    (_, first), *others = damage.items()
    more = [name for name, _ in others]
    names = ", ".join(more[:_NAMED]) + (", ..." if len(more) > _NAMED else "")
    raise DamagedBundleError(f"{first}. {len(more)} more of its files are wrong: {names}" if more else first)


def finished_bundles(bundles: Path) -> list[Path]:
    """The folders of a folder of bundles that have a manifest, newest version first; hidden ones are drafts.

    Raises:
        BundleError: there is none.
    """
    found = [path.parent for path in bundles.glob(f"*/{MANIFEST_NAME}") if not path.parent.name.startswith(".")]
    if not found:
        raise BundleError(f"{bundles}: holds no finished bundle. Build one with `terrace build`")
    return sorted(found, reverse=True)


def newest_bundle(bundles: Path) -> Path:
    """The finished bundle with the highest version in a folder of bundles.

    Raises:
        BundleError: there is none.
    """
    return finished_bundles(bundles)[0]
