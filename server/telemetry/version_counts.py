"""What is counted of the answers of one bundle version, in numbers that can be added up over workers and replicas.

Everything only grows while a worker lives, so that what happened between two moments is a difference. Knows neither
numpy nor the types of a request: supervisors and operators' commands read the same numbers.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMES_PER_OCTAVE = 32
"""Bins of a histogram of durations between a time and its double: an edge is off by 3 % at most."""
SCORES_PER_OCTAVE = 8
"""The same for scores."""
BUCKETS = 1024
"""Groups of items by which it is counted what is shown; an item's is its row in the catalogue modulo this."""
SHOWN = 10
"""First items of a list that are counted as shown."""
_EXPONENTS = 1100
"""More than any float's exponent is below 0, so that a bin of a number above 0 is above 0."""


def bin_of(value: float, per_octave: int) -> int:
    """The bin of a finite number, in bins as wide as a share of it; the greater the number, the greater its bin."""
    if value <= 0:
        return -bin_of(-value, per_octave) if value else 0
    mantissa, exponent = math.frexp(value)
    return (exponent + _EXPONENTS) * per_octave + int((mantissa - 0.5) * 2 * per_octave)


def edge_of(number: int, per_octave: int) -> float:
    """The edge next to 0 of a bin; that of the next bin is the other one."""
    if number <= 0:
        return -edge_of(-number, per_octave) if number else 0.0
    exponent, part = divmod(number, per_octave)
    return math.ldexp(0.5 + part / (2 * per_octave), exponent - _EXPONENTS)


class _Sums:
    """Fields that are numbers, counters, or sums themselves."""

    __slots__ = ()

    def __add__(self, other: Self) -> Self:
        """Both together."""
        return self._each(lambda name: getattr(self, name) + getattr(other, name))

    def __sub__(self, earlier: Self) -> Self:
        """What was added since ``earlier``."""
        return self._each(lambda name: getattr(self, name) - getattr(earlier, name))

    def to_dict(self) -> dict[str, Any]:
        """The numbers, for JSON."""
        return {name: value.to_dict() if isinstance(value, _Sums) else value for name, value in self._items()}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """The numbers from JSON.

        Raises:
            ValueError: they are none; names the field.
        """
        empty = cls()
        return empty._each(lambda name: _read(name, getattr(empty, name), raw.get(name)))

    def _each(self, value_of: Any) -> Self:
        return type(self)(**{name: value_of(name) for name, _ in self._items()})

    def _items(self) -> list[tuple[str, Any]]:
        return [(each.name, getattr(self, each.name)) for each in fields(self)]  # type: ignore[arg-type]


def _read(name: str, empty: Any, raw: Any) -> Any:
    """A field of the type of ``empty`` from JSON."""
    try:
        if isinstance(empty, _Sums):
            return empty.from_dict(raw)
        if isinstance(empty, Counter):
            return Counter({int(number): _count(n) for number, n in raw.items()})
        return _count(raw)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{name}: {error}") from None


def _count(raw: Any) -> int:
    if type(raw) is not int or raw < 0:
        raise ValueError(f"{raw!r} is no count")
    return raw


@dataclass(slots=True)
class Counts(_Sums):
    """What came of calls.

    Attributes:
        calls: that have ended and of which it was known which version was to answer.

        failed: ended with INTERNAL, or without an answer when their time was over.

        may_be_deep: answers that nobody kept from ``DEEP``: neither overload, nor exercise, nor their caller.

        deep: ``DEEP`` answers.

        invalid: answers without a rung whose scores were not finite.

        empty: answers without an item.

        durations: bins of ``TIMES_PER_OCTAVE`` -> calls; seconds from arrival to end.

        scores: bins of ``SCORES_PER_OCTAVE`` -> ``DEEP`` answers, by the score of their first item.

        shown: bucket of items -> times that one was among the first ``SHOWN`` of a list.
    """

    calls: int = 0
    failed: int = 0
    may_be_deep: int = 0
    deep: int = 0
    invalid: int = 0
    empty: int = 0
    durations: Counter[int] = field(default_factory=Counter)
    scores: Counter[int] = field(default_factory=Counter)
    shown: Counter[int] = field(default_factory=Counter)


@dataclass(slots=True)
class ShadowCounts(_Sums):
    """What came of calls that a candidate answered too, unseen.

    Attributes:
        shown: the answers that users got to these calls.

        unseen: the candidate's to the same calls.

        overlaps: per cent of the items of both first lists that are in both -> calls.

        dropped: calls that were chosen and not answered by the candidate: there was no room.
    """

    shown: Counts = field(default_factory=Counts)
    unseen: Counts = field(default_factory=Counts)
    overlaps: Counter[int] = field(default_factory=Counter)
    dropped: int = 0


@dataclass(slots=True)
class VersionCounts(_Sums):
    """All that is counted of one version: its calls, and the calls that it shadowed."""

    answered: Counts = field(default_factory=Counts)
    shadowed: ShadowCounts = field(default_factory=ShadowCounts)


def add_up(parts: list[Mapping[str, VersionCounts]]) -> dict[str, VersionCounts]:
    """The sums of several workers' or replicas' counts, by version."""
    found: dict[str, VersionCounts] = {}
    for part in parts:
        for version, counts in part.items():
            found[version] = found[version] + counts if version in found else counts
    return found


def read_counts(raw: Any) -> dict[str, VersionCounts]:
    """Counts by version from JSON.

    Raises:
        ValueError: they are none.
    """
    if not isinstance(raw, dict):
        raise ValueError("no counts by version")  # noqa: TRY004 - what is read is a value, whatever its type
    return {version: _read(version, VersionCounts(), counts) for version, counts in raw.items()}


def write_counts(counts: Mapping[str, VersionCounts]) -> dict[str, Any]:
    """Counts by version, for JSON."""
    return {version: each.to_dict() for version, each in counts.items()}
