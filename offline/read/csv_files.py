"""CSV files, and Parquet files that keep times or numbers as text, rewritten as Parquet with real types.

Streams: memory is one block of rows, whatever the size of the file.
"""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO, cast

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from offline.errors import InputError
from offline.read.columns import Kind, is_text
from offline.read.parse_column import holds_integers, parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

MAX_UNREADABLE_SHARE = 0.01
"""More rows of a file than this without a readable time, or torn, and the file is refused: it is not what we think."""
_BLOCK_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Rows or values of one file that could not be read.

    Attributes:
        column: the file's name of the column; empty = whole rows with too many or too few columns.

        count: how many.

        example: file, line and value of the first.
    """

    column: str
    count: int
    example: str


def csv_schema(file: Path) -> pa.Schema:
    """The columns of a CSV file, all of them text.

    Raises:
        InputError: the file is empty or no text.
    """
    try:
        with _open_text(file) as stream:
            names = next(csv.reader(stream, delimiter=_delimiter(file)), None)
    except (UnicodeDecodeError, OSError, EOFError) as error:
        raise _not_text(file, error) from error
    if not names:
        raise InputError(f"{file}: the file is empty; it needs a first line with the names of the columns")
    return pa.schema([(name, pa.string()) for name in names])


def convert(file: Path, target: Path, kinds: Mapping[str, Kind], chosen: tuple[str, ...] | None) -> list[Unreadable]:
    """Write the rows of ``file`` to ``target`` with typed columns; torn rows are left out, unreadable values become null.

    Args:
        file: CSV or Parquet.

        target: a Parquet file that does not exist.

        kinds: the file's column -> what it is to hold; other columns stay as they are.

        chosen: columns to keep; None = all.

    Raises:
        InputError: the file is no UTF-8 CSV, has no rows, too many of its rows cannot be read, or a value of a column
            of flags is neither true nor false.
    """
    torn: list[str] = []

    def note_torn(row: pa_csv.InvalidRow) -> str:
        torn.append(row.text or "")
        return "skip"

    rows = 0
    counts: dict[str, int] = {}
    first: dict[str, tuple[int, str]] = {}
    integers: dict[str, bool] = {}
    writer = None
    try:
        for batch in _batches(file, chosen, note_torn):
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            for name, kind in kinds.items():
                if kind is Kind.TEXT or not is_text(columns[name].type):
                    continue
                text = columns[name].cast(pa.string())
                if name not in integers and text.null_count < len(text):
                    integers[name] = holds_integers(text)  # the first value decides for the file
                columns[name], bad = parse(kind, text, integers.get(name, False))
                if len(bad):
                    counts[name] = counts.get(name, 0) + len(bad)
                    first.setdefault(name, (rows + int(bad[0]), str(text[int(bad[0])])))
            typed = pa.record_batch(columns)
            writer = writer or pq.ParquetWriter(target, typed.schema)
            writer.write_batch(typed)
            rows += len(typed)
    except (pa.ArrowInvalid, UnicodeDecodeError, OSError, EOFError) as error:
        raise _not_text(file, error) from error
    finally:
        if writer:
            writer.close()
    return _verdict(file, kinds, rows, torn, {name: (counts[name], *first[name]) for name in counts})


def line_of(file: Path, row: int) -> int:
    """Line where the ``row``-th row (from 0) with the right number of columns begins in a CSV file."""
    return next(line for index, line in enumerate(line for line, fits in _lines(file) if fits) if index == row)


def _verdict(
    file: Path, kinds: Mapping[str, Kind], rows: int, torn: list[str], bad: Mapping[str, tuple[int, int, str]]
) -> list[Unreadable]:
    found = []
    if torn:
        line = next(line for line, fits in _lines(file) if not fits)
        found.append(Unreadable("", len(torn), f"{file} line {line}: {torn[0][:80]!r}"))
    for name, (count, row, value) in bad.items():
        place = f"line {line_of(file, row)}" if file.suffix != ".parquet" else f"row {row + 1}"
        example = f"{file} {place}: {value[:80]!r} in column {name!r}"
        if kinds[name] is Kind.FLAG:
            raise InputError(f"{example} is neither true nor false; write true or false")
        found.append(Unreadable(name, count, example))
    if rows + len(torn) == 0:
        raise InputError(f"{file}: no rows below the header")
    for entry in found:
        lost = not entry.column or kinds[entry.column] is Kind.TIME
        if lost and entry.count > MAX_UNREADABLE_SHARE * (rows + len(torn)):
            what = "no readable time" if entry.column else "too many or too few columns"
            raise InputError(
                f"{entry.example}: {what}, and so in {entry.count} of {rows + len(torn)} rows. Correct the rows; "
                "texts with a comma or a line break belong in double quotes, times are ISO 8601 (2024-05-31T17:00:00Z)"
            )
    return found


def _batches(file: Path, chosen: tuple[str, ...] | None, on_torn: object) -> Iterator[pa.RecordBatch]:
    if file.suffix == ".parquet":
        with pq.ParquetFile(file) as parquet:
            yield from parquet.iter_batches(columns=None if chosen is None else list(chosen))
        return
    schema = csv_schema(file)
    with pa_csv.open_csv(
        file,
        read_options=pa_csv.ReadOptions(block_size=_BLOCK_BYTES),
        parse_options=pa_csv.ParseOptions(
            delimiter=_delimiter(file), newlines_in_values=True, invalid_row_handler=on_torn
        ),
        convert_options=pa_csv.ConvertOptions(
            column_types=schema, strings_can_be_null=True, null_values=[""], include_columns=chosen
        ),
    ) as reader:
        yield from reader


def _open_text(file: Path) -> TextIO:
    if file.suffix == ".gz":
        return cast("TextIO", gzip.open(file, "rt", encoding="utf-8-sig", newline=""))
    return file.open(encoding="utf-8-sig", newline="")


def _delimiter(file: Path) -> str:
    with _open_text(file) as stream:
        head = stream.readline()
    return max(",;\t", key=head.count)


def _lines(file: Path) -> Iterator[tuple[int, bool]]:
    """Line where each row below the header begins, and whether it has as many columns as the header."""
    width, line = len(csv_schema(file).names), 1
    with _open_text(file) as stream:
        reader = csv.reader(stream, delimiter=_delimiter(file))
        for index, row in enumerate(reader):
            if index and row:
                yield line, len(row) == width
            line = reader.line_num + 1


def _not_text(file: Path, error: Exception) -> InputError:
    if file.suffix == ".parquet":
        return InputError(f"{file}: not readable as Parquet ({error}); write it again")
    try:
        with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                try:
                    line.decode()
                except UnicodeDecodeError as broken:
                    return InputError(
                        f"{file} line {number}: byte {broken.start + 1} is not UTF-8; save the file as UTF-8, "
                        f"for example with iconv -f latin1 -t utf-8"
                    )
    except (gzip.BadGzipFile, EOFError):
        return InputError(f"{file}: not a whole gzip file; write it again")
    return InputError(f"{file}: not readable as CSV ({error})")
