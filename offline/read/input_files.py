"""From what the user names on the command line to typed Parquet files, and from a row back to its file and line."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from offline.errors import InputError
from offline.read.columns import EVENT_COLUMNS, ITEM_COLUMNS, TIMELESS_COLUMNS, Kind, is_text, resolve
from offline.read.csv_files import convert, csv_schema, line_of
from offline.read.engine import ORDER_BITS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from offline.read.columns import Column
    from offline.read.csv_files import Unreadable

CSV_SUFFIXES = (".csv", ".csv.gz")
SUFFIXES = (".parquet", *CSV_SUFFIXES)
_GLOB = frozenset("*?[")


@dataclass(frozen=True)
class Source:
    """One input, ready for an engine.

    Attributes:
        named: as the user wrote it.

        files: as found, sorted, those of the test after the others; what messages name.

        known: how many of ``files`` are not of the test.

        parquet: the same rows as Parquet with a type that fits each column; one for each of ``files``.

        names: our column -> the files' column, for the columns there are.

        columns: all that the first file has.

        schema: of the first of ``parquet``.

        unreadable: rows or values of text that could not be read.

        passed_over: files of the folder that are neither Parquet nor CSV.
    """

    named: str
    files: tuple[Path, ...]
    known: int
    parquet: tuple[Path, ...]
    names: Mapping[str, str]
    columns: tuple[str, ...]
    schema: pa.Schema
    unreadable: tuple[Unreadable, ...]
    passed_over: tuple[Path, ...]

    def where(self, order: int) -> str:
        """File and line (CSV) or row (Parquet, from 1) of the row that an engine numbers ``order``."""
        file, row = self.files[order >> ORDER_BITS], order & ((1 << ORDER_BITS) - 1)
        if file in self.parquet:
            return f"{file} row {row + 1}"
        if is_csv(file):
            return f"{file} line {line_of(file, row)}"
        return f"{file} row {row + 1}"

    @property
    def test_begins(self) -> int:
        """An engine numbers the rows of the test's files from here on."""
        return self.known << ORDER_BITS

    def kind(self, column: str) -> pa.DataType:
        """Type of one of our columns."""
        return self.schema.field(self.names[column]).type


def open_events(
    named: str | Path,
    mapping: Mapping[str, str],
    folder: Path,
    *,
    test: str | Path | None = None,
    needs_time: bool = True,
) -> Source:
    """Find and check the files of events.

    Args:
        named: what to read.
        mapping: our name of a column -> the files'.
        folder: takes what must be converted.
        test: more events, with the same columns, which are the test.
        needs_time: refuse files without a column of times.

    Raises:
        InputError: see ``find_files``, ``offline.read.columns.resolve`` and ``offline.read.csv_files.convert``.
    """
    columns = EVENT_COLUMNS if needs_time else TIMELESS_COLUMNS
    return _open(named, columns, mapping, folder, keep_others=False, test=test)


def open_items(named: str | Path, mapping: Mapping[str, str], folder: Path) -> Source:
    """Find and check the files of items; all their columns are kept.

    Raises:
        InputError: as ``open_events``.
    """
    return _open(named, ITEM_COLUMNS, mapping, folder, keep_others=True)


def is_csv(path: Path) -> bool:
    """By its name."""
    return path.name.lower().endswith(CSV_SUFFIXES)


def find_files(named: str | Path) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """The Parquet or CSV files of a file, a folder (searched to any depth) or a glob, sorted by path.

    Names that start with ``.`` or ``_`` are not looked at, as other tools put their marks there.

    Returns:
        The files, and the other files of the folder.

    Raises:
        InputError: there is none, or Parquet and CSV are mixed.
    """
    path = Path(named)
    if path.is_file():
        if not path.name.lower().endswith(SUFFIXES):
            raise InputError(f"{path}: neither Parquet nor CSV by its name; rename it to end in {', '.join(SUFFIXES)}")
        return (path,), ()
    if path.is_dir():
        seen = sorted(p for p in path.rglob("*") if p.is_file() and not _hidden(p.relative_to(path)))
        missing = f"{path}: the folder has no file that ends in {', '.join(SUFFIXES)}"
    elif _GLOB & set(str(named)):
        parts = path.parts
        start = next(i for i, part in enumerate(parts) if _GLOB & set(part))
        seen = sorted(p for p in Path(*parts[:start]).glob(str(Path(*parts[start:]))) if p.is_file())
        missing = (
            f"{path}: no Parquet or CSV file matches; put the pattern in quotes, so that the shell does not expand it"
        )
    else:
        raise InputError(f"{path}: no such file or folder; give a Parquet or CSV file, a folder of them or a pattern")
    files = tuple(p for p in seen if p.name.lower().endswith(SUFFIXES))
    if not files:
        raise InputError(missing)
    text = [p for p in files if is_csv(p)]
    if text and len(text) < len(files):
        other = next(p for p in files if not is_csv(p))
        raise InputError(
            f"{path}: both Parquet ({other.name}) and CSV ({text[0].name}); which is meant? Name one, as in '*.parquet'"
        )
    return files, tuple(p for p in seen if p not in set(files))


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def _open(
    named: str | Path,
    columns: tuple[Column, ...],
    mapping: Mapping[str, str],
    folder: Path,
    *,
    keep_others: bool,
    test: str | Path | None = None,
) -> Source:
    files, passed_over = find_files(named)
    known = len(files)
    if test is not None:
        of_test, others = find_files(test)
        both = {path.resolve() for path in files} & {path.resolve() for path in of_test}
        if both:
            raise InputError(f"{test}: {min(both)} is among {named} too; what is to be predicted must not be known")
        if is_csv(of_test[0]) is not is_csv(files[0]):
            raise InputError(f"{test}: {named} is {'CSV' if is_csv(files[0]) else 'Parquet'}; write both alike")
        files, passed_over = files + of_test, passed_over + others
    schemas = [csv_schema(file) if is_csv(file) else _parquet_schema(file) for file in files]
    resolved = [resolve(columns, schema, mapping, str(file)) for file, schema in zip(files, schemas, strict=True)]
    names, there = resolved[0], tuple(schemas[0].names)
    _demand_same(files, schemas, resolved)
    kinds = {names[column.name]: column.kind for column in columns if column.name in names}
    text = is_csv(files[0]) or any(
        kind is not Kind.TEXT and is_text(schemas[0].field(name).type) for name, kind in kinds.items()
    )
    if not text:
        return Source(str(named), files, known, files, names, there, schemas[0], (), passed_over)
    folder = Path(tempfile.mkdtemp(dir=folder))
    chosen = None if keep_others else tuple(kinds)
    parquet, unreadable = [], []
    for index, file in enumerate(files):
        target = folder / f"{index:06}.parquet"
        unreadable += convert(file, target, kinds, chosen)
        parquet.append(target)
    converted = [pq.read_schema(path) for path in parquet]
    _demand_same(files, converted, resolved)
    return Source(str(named), files, known, tuple(parquet), names, there, converted[0], tuple(unreadable), passed_over)


def _parquet_schema(file: Path) -> pa.Schema:
    if file.stat().st_size == 0:
        raise InputError(f"{file}: the file is empty")
    try:
        return pq.read_schema(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{file}: not readable as Parquet ({error}); write it again") from error


def _demand_same(files: tuple[Path, ...], schemas: list[pa.Schema], resolved: list[dict[str, str]]) -> None:
    first = {ours: schemas[0].field(theirs).type for ours, theirs in resolved[0].items()}
    for file, schema, names in zip(files[1:], schemas[1:], resolved[1:], strict=True):
        for ours in first.keys() | names.keys():
            here = schema.field(names[ours]).type if ours in names else None
            if names.get(ours) != resolved[0].get(ours) or here != first.get(ours):
                raise InputError(
                    f"{file}: column {ours} is {here or 'absent'}, in {files[0]} it is {first.get(ours) or 'absent'}; "
                    "write all files alike"
                )
