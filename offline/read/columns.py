"""The columns that events and items may have, and how text becomes what a column holds."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from offline.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray


class Kind(StrEnum):
    """What a column holds; the value is how a message says it."""

    TEXT = "text or whole numbers"
    TIME = "a time"
    NUMBER = "a number"
    FLAG = "true or false"
    NAMES = "a list of texts"


@dataclass(frozen=True, slots=True)
class Column:
    """One column we know.

    Attributes:
        without: what else can be done where a required column is missing, an end of a sentence.
    """

    name: str
    kind: Kind
    required: bool = False
    without: str = ""


EVENT_COLUMNS = (
    Column("user_id", Kind.TEXT, required=True),
    Column("item_id", Kind.TEXT, required=True),
    Column(
        "timestamp", Kind.TIME, required=True, without=", or, where there is no time, choose --split share or given"
    ),
    Column("event_type", Kind.TEXT),
    Column("value", Kind.NUMBER),
    Column("session_id", Kind.TEXT),
)
TIMELESS_COLUMNS = tuple(replace(c, required=False) if c.kind is Kind.TIME else c for c in EVENT_COLUMNS)
"""Of events that need no time: what each user had, in no order."""
ITEM_COLUMNS = (
    Column("item_id", Kind.TEXT, required=True),
    Column("title", Kind.TEXT),
    Column("description", Kind.TEXT),
    Column("categories", Kind.NAMES),
    Column("price", Kind.NUMBER),
    Column("available", Kind.FLAG),
    Column("created_at", Kind.TIME),
)
FIRST_YEAR, END_YEAR = 1990, 2100
EARLIEST_US, LATEST_US = (
    int(dt.datetime(y, 1, 1, tzinfo=dt.UTC).timestamp()) * 1_000_000 for y in (FIRST_YEAR, END_YEAR)
)
"""Times outside are no times of events but mistakes; microseconds since the epoch."""
TRUE, FALSE = frozenset({"true", "t", "yes", "y", "1"}), frozenset({"false", "f", "no", "n", "0"})


def check_mapping(mapping: Mapping[str, str]) -> None:
    """Refuse a name that is not one of ours.

    Raises:
        InputError: naming it and those there are.
    """
    ours = list(dict.fromkeys(column.name for column in (*EVENT_COLUMNS, *ITEM_COLUMNS)))
    for name in mapping:
        if name not in ours:
            raise InputError(
                f"--map {name}={mapping[name]}: {name!r} is no column of ours; there are {', '.join(ours)}"
            )


def resolve(columns: Sequence[Column], schema: pa.Schema, mapping: Mapping[str, str], file: str) -> dict[str, str]:
    """Our names -> the file's, for the columns the file has; a column without any value counts as absent.

    Raises:
        InputError: a required column is missing, a name occurs twice, or a type cannot be what the column holds.
    """
    names = {}
    for column in columns:
        theirs = mapping.get(column.name, column.name)
        if theirs not in schema.names:
            theirs = column.name  # the mapping may speak of the other file
        if schema.names.count(theirs) > 1:
            raise InputError(f"{file}: two columns are called {theirs!r}; rename one")
        if theirs in schema.names and not pa.types.is_null(schema.field(theirs).type):
            if not fits(column.kind, schema.field(theirs).type):
                raise InputError(
                    f"{file}: column {theirs!r} holds {schema.field(theirs).type}, {column.name} must be "
                    f"{column.kind}. Convert it, or name another column with --map {column.name}=<column>"
                )
            names[column.name] = theirs
        elif column.required:
            raise InputError(
                f"{file}: no column {theirs!r} for {column.name}; there are {', '.join(schema.names)}. "
                f"Say which one it is with --map {column.name}=<column>{column.without}"
            )
    return names


def fits(kind: Kind, arrow: pa.DataType) -> bool:
    """Whether a Parquet column of that type can be read as ``kind``."""
    types = pa.types
    if is_text(arrow):
        return True
    match kind:
        case Kind.TEXT:
            return bool(types.is_integer(arrow))
        case Kind.TIME:
            return bool(types.is_timestamp(arrow) or types.is_date(arrow) or types.is_integer(arrow))
        case Kind.NUMBER:
            return bool(types.is_integer(arrow) or types.is_floating(arrow) or types.is_decimal(arrow))
        case Kind.FLAG:
            return bool(types.is_boolean(arrow))
        case Kind.NAMES:
            return is_list(arrow) and is_text(arrow.value_type)


def is_text(arrow: pa.DataType) -> bool:
    """Text, dictionary-encoded or not."""
    if pa.types.is_dictionary(arrow):
        arrow = arrow.value_type
    return bool(pa.types.is_string(arrow) or pa.types.is_large_string(arrow) or pa.types.is_string_view(arrow))


def is_list(arrow: pa.DataType) -> bool:
    """A list of any length and offset width."""
    return bool(pa.types.is_list(arrow) or pa.types.is_large_list(arrow) or pa.types.is_fixed_size_list(arrow))


def parse(kind: Kind, text: pa.Array, as_integers: bool) -> tuple[pa.Array, NDArray[np.intp]]:
    """Text as what the column holds: null stays null, what cannot be read becomes null.

    Args:
        kind: of the column; times are read as ISO 8601, without a zone as UTC; names are split at ``|``.

        text: [n] strings.

        as_integers: whether times are whole numbers, see ``holds_integers``.

    Returns:
        [n] values, and the indices of what could not be read.
    """
    if kind is Kind.NAMES:
        return _split(text), np.empty(0, np.intp)
    target, ways, slow = _READERS[(kind, as_integers and kind is Kind.TIME)]
    for way in ways:
        try:
            return pc.cast(pc.utf8_trim_whitespace(text), way).cast(target), np.empty(0, np.intp)
        except pa.ArrowInvalid:
            continue
    values, unreadable = [], []
    for index, value in enumerate(text.to_pylist()):
        try:
            values.append(None if value is None else slow(value.strip()))
        except (ValueError, OverflowError):
            values.append(None)
            unreadable.append(index)
    return pa.array(values, target), np.array(unreadable, np.intp)


def holds_integers(text: pa.Array) -> bool:
    """Whether the first value of a text column of times is a whole number."""
    known = text.drop_null()
    return len(known) > 0 and known[0].as_py().strip().lstrip("-").isdecimal()


def microseconds_per(low: int, high: int) -> Fraction | None:
    """Microseconds in the unit of whole numbers that are times between ``low`` and ``high``; None = no single unit fits.

    The units s, ms, us and ns put the years ``FIRST_YEAR`` to ``END_YEAR`` into ranges that do not meet.
    """
    for unit in (Fraction(1_000_000), Fraction(1000), Fraction(1), Fraction(1, 1000)):
        if low * unit >= EARLIEST_US and high * unit < LATEST_US:
            return unit
    return None


def _split(text: pa.Array) -> pa.Array:
    names = [
        None if value is None else [name for part in value.split("|") if (name := part.strip())]
        for value in text.to_pylist()
    ]
    return pa.array(names, pa.list_(pa.string()))


def _iso_time(value: str) -> dt.datetime:
    time = dt.datetime.fromisoformat(value)
    return time if time.tzinfo else time.replace(tzinfo=dt.UTC)


def _flag(value: str) -> bool:
    if value.lower() in TRUE:
        return True
    if value.lower() in FALSE:
        return False
    raise ValueError(value)


_INSTANT = pa.timestamp("us", "UTC")
_READERS: dict[tuple[Kind, bool], tuple[pa.DataType, tuple[pa.DataType, ...], Callable[[str], Any]]] = {
    (Kind.TIME, False): (_INSTANT, (pa.timestamp("us"), _INSTANT), _iso_time),
    (Kind.TIME, True): (pa.int64(), (pa.int64(),), int),
    (Kind.NUMBER, False): (pa.float64(), (pa.float64(),), float),
    (Kind.FLAG, False): (pa.bool_(), (), _flag),
}
