"""The columns that events and items may have, and which column of a file is which."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import pyarrow as pa

from offline.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


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
