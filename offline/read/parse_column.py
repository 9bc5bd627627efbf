"""How the text of a CSV column becomes times, numbers, flags or lists of names."""

from __future__ import annotations

import datetime as dt
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from offline.read.columns import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

FIRST_YEAR, END_YEAR = 1990, 2100
EARLIEST_US, LATEST_US = (
    int(dt.datetime(y, 1, 1, tzinfo=dt.UTC).timestamp()) * 1_000_000 for y in (FIRST_YEAR, END_YEAR)
)
"""Times outside are no times of events but mistakes; microseconds since the epoch."""
TRUE, FALSE = frozenset({"true", "t", "yes", "y", "1"}), frozenset({"false", "f", "no", "n", "0"})


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
