"""The items' files, or where there are none the items of the events, as a catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.catalogue import Catalogue
from offline.errors import InputError
from offline.read.columns import ITEM_COLUMNS
from offline.read.data_report import Finding
from offline.read.engine import ORDER_BITS
from offline.read.parse_column import microseconds_per

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from core.types import Mask, Scores
    from offline.read.input_files import Source

MAX_ATTRIBUTE_VALUES = 1000
"""A column with more distinct values than this is no attribute to filter by."""


@dataclass(frozen=True)
class Items:
    """What is known of the items; row i of each is row i of the catalogue, which is sorted by id.

    Attributes:
        titles: empty where there is none.

        texts: title, description and categories; may be empty.

        findings: what was not taken as it is.
    """

    catalogue: Catalogue
    titles: list[str]
    texts: list[str]
    findings: tuple[Finding, ...] = ()


def bare_items(ids: Sequence[str]) -> Items:
    """Items of which nothing but the id is known; ``ids`` are unique and sorted."""
    n = len(ids)
    catalogue = Catalogue(
        ids=list(ids),
        available=np.ones(n, np.bool_),
        price=np.full(n, np.nan, np.float32),
        created_at=np.zeros(n, np.int64),
        category_ptr=np.zeros(n + 1, np.int32),
        category_idx=np.zeros(0, np.int32),
        category_names=(),
        attributes={},
    )
    return Items(catalogue, [""] * n, [""] * n)


def read_items(source: Source) -> Items:
    """The catalogue of items' files.

    Raises:
        InputError: an id occurs twice, times are whole numbers of unknown unit, or no row has an id.
    """
    reader = _Reader(source)
    ids = reader.ids()
    titles, descriptions = reader.texts("title"), reader.texts("description")
    categories = [tuple(dict.fromkeys(name for name in names or () if name)) for names in reader.values("categories")]
    names = tuple(sorted({name for row in categories for name in row}))
    code = {name: index for index, name in enumerate(names)}
    catalogue = Catalogue(
        ids=ids,
        available=reader.available(),
        price=reader.prices(),
        created_at=reader.created_at(),
        category_ptr=np.cumsum([0, *map(len, categories)]).astype(np.int32),
        category_idx=np.array([code[name] for row in categories for name in row], np.int32),
        category_names=names,
        attributes=reader.attributes(),
    )
    texts = [
        "\n".join(part for part in (title, description, ", ".join(row)) if part)
        for title, description, row in zip(titles, descriptions, categories, strict=True)
    ]
    return Items(catalogue, titles, texts, tuple(reader.findings))


class _Reader:
    """One table of all items, sorted by id, and what was found in it."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.findings = [
            Finding("item value not readable", entry.count, "taken as absent", f"column {entry.column}", entry.example)
            if entry.column
            else Finding("torn item row", entry.count, "dropped", "too many or too few columns", entry.example)
            for entry in source.unreadable
        ]
        tables = [_whole(file) for file in source.parquet]
        orders = [(index << ORDER_BITS) + np.arange(len(table), dtype=np.int64) for index, table in enumerate(tables)]
        self.table = pa.concat_tables(tables, promote_options="permissive")
        self.order: NDArray[np.int64] = np.concatenate(orders)
        self._sort()

    def _sort(self) -> None:
        ids = np.array([i or "" for i in self._column("item_id").cast(pa.string()).to_pylist()], object)
        keep = np.flatnonzero([bool(i.strip()) for i in ids])
        empty = np.setdiff1d(np.arange(len(ids)), keep)
        if len(empty):
            where = self.source.where(int(self.order[empty[0]]))
            self.findings.append(Finding("item without id", len(empty), "dropped", "item_id is empty", where))
        if not len(keep):
            raise InputError(f"{self.source.named}: no row has an item_id")
        keep = keep[np.argsort(ids[keep], kind="stable")]
        self._ids = ids[keep]
        same = np.flatnonzero(self._ids[1:] == self._ids[:-1])
        if len(same):
            first, second = (self.source.where(int(self.order[keep[same[0] + i]])) for i in (0, 1))
            raise InputError(f"item_id {self._ids[same[0]]!r} occurs twice: {first} and {second}. Remove one of them")
        self.table, self.order = self.table.take(pa.array(keep)), self.order[keep]

    def ids(self) -> list[str]:
        return [str(i) for i in self._ids]

    def _column(self, ours: str) -> pa.ChunkedArray:
        column = self.table[self.source.names[ours]]
        return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column

    def values(self, ours: str) -> list[Any]:
        if ours not in self.source.names:
            return [None] * len(self.order)
        return list(self._column(ours).to_pylist())

    def texts(self, ours: str) -> list[str]:
        return ["" if value is None else str(value).strip() for value in self.values(ours)]

    def available(self) -> Mask:
        return np.array([value is not False for value in self.values("available")], np.bool_)

    def prices(self) -> Scores:
        if "price" not in self.source.names:
            return np.full(len(self.order), np.nan, np.float32)
        column = self._column("price").cast(pa.float64(), safe=False)
        price = np.array(column.fill_null(np.nan).to_numpy(), np.float64)
        wrong = np.flatnonzero(~column.is_null().to_numpy() & ~(np.isfinite(price) & (price >= 0)))
        if len(wrong):
            at = int(wrong[np.argmin(self.order[wrong])])
            self.findings.append(
                Finding(
                    "price not a price",
                    len(wrong),
                    "taken as unknown",
                    "negative, NaN or infinite",
                    f"{self.source.where(int(self.order[at]))}: item {self._ids[at]!r} costs {price[at]}",
                )
            )
            price[wrong] = np.nan
        return price.astype(np.float32)

    def created_at(self) -> NDArray[np.int64]:
        if "created_at" not in self.source.names:
            return np.zeros(len(self.order), np.int64)
        column = self._column("created_at")
        if pa.types.is_integer(column.type):
            known = pc.min_max(column).as_py()
            if known["min"] is None:
                return np.zeros(len(self.order), np.int64)
            unit = microseconds_per(known["min"], known["max"])
            if unit is None:
                raise InputError(unknown_unit(self.source, "created_at", known["min"], known["max"]))
            seconds = [int(value * unit) // 1_000_000 for value in column.fill_null(0).to_pylist()]
            return np.array(seconds, np.int64)
        zone = getattr(column.type, "tz", None)
        seconds = column.cast(pa.timestamp("s", zone), safe=False).cast(pa.int64()).fill_null(0)
        return np.asarray(seconds.to_numpy(), np.int64)

    def attributes(self) -> Mapping[str, tuple[NDArray[np.int32], tuple[str, ...]]]:
        ours = set(self.source.names.values())
        known = {column.name for column in ITEM_COLUMNS}
        found = {}
        for name in self.table.column_names:
            if name in ours:
                continue
            values = None if name in known else _scalars(self.table[name])
            distinct = [] if values is None else sorted(values.unique().drop_null().to_pylist())
            if values is None or len(distinct) > MAX_ATTRIBUTE_VALUES:
                why = "nested or binary" if values is None else f"more than {MAX_ATTRIBUTE_VALUES} distinct values"
                self.findings.append(Finding("item column not used", 1, "passed over", why, f"column {name!r}"))
                continue
            if distinct:
                codes = pc.index_in(values, pa.array(distinct, pa.string())).fill_null(-1)
                found[name] = (np.asarray(codes.to_numpy(), np.int32), tuple(distinct))
        return found


def _whole(file: Path) -> pa.Table:
    try:
        table = pq.read_table(file)
        table.validate(full=True)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{file}: the file is damaged ({error}); write it again") from error
    return table


def unknown_unit(source: Source, ours: str, low: int, high: int) -> str:
    """Why whole numbers from ``low`` to ``high`` cannot be read as times."""
    return (
        f"{source.named}: column {source.names[ours]!r} has times as integers of unknown unit ({low} to {high}): as "
        "seconds, milliseconds, microseconds or nanoseconds since 1970 they do not all lie between 1990 and 2100. "
        "Write real timestamps"
    )


def _scalars(column: pa.ChunkedArray) -> pa.Array | None:
    """[n] the column as text, empty text as null; None = its values have no plain text."""
    types = pa.types
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if types.is_nested(column.type) or types.is_binary(column.type) or types.is_large_binary(column.type):
        return None
    column = column.combine_chunks()
    if types.is_floating(column.type):
        column = pc.if_else(pc.is_finite(column), column, None)
        if pc.all(pc.equal(column, pc.trunc(column))).as_py():
            column = column.cast(pa.int64(), safe=False)
    text = column.cast(pa.string())
    return pc.if_else(pc.equal(text, ""), None, text)
