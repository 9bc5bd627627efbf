"""The kinds of condition that filters are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from core.allowed import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from core.allowed import Where
    from core.types import Mask, Rows, Scores

_COMPARED = 4
"""So many wanted values are compared one after the other; more are looked up in a table."""


def _at(values: NDArray[Any], where: Where) -> NDArray[Any]:
    return values[where] if isinstance(where, slice) else values.take(where)


class Flag:
    """Items that are marked, as the available ones are.

    Args:
        marked: [items].
        share: of the items that are.
    """

    def __init__(self, marked: Mask, share: float) -> None:
        self._marked, self.share = marked, share

    def test(self, where: Where) -> Mask:
        """See ``core.allowed.Condition``."""
        found: Mask = _at(self._marked, where)
        return found

    def before_blocks(self) -> Iterator[None]:
        """Nothing to do."""
        yield from ()


class PriceRange:
    """Items whose price is known and within bounds, both inclusive.

    Args:
        price: [items] float32, NaN = unknown.
        low: None = no bound.
        high: None = no bound.
        sample: some of the prices in ascending order, NaN among them last: what the share is estimated from.
    """

    def __init__(self, price: Scores, low: float | None, high: float | None, sample: Scores) -> None:
        self._price, self._low, self._high = price, low, high
        first = 0 if low is None else int(np.searchsorted(sample, np.float32(low)))
        # A price that no sample has may yet be somewhere: only 0 says for sure that there is none.
        last = int(np.searchsorted(sample, np.float32(np.inf if high is None else high), side="right"))
        self.share = max(last - first, 1) / (len(sample) + 1)

    def test(self, where: Where) -> Mask:
        """See ``core.allowed.Condition``."""
        price = _at(self._price, where)
        if self._low is None:
            return price <= self._high
        passed: Mask = price >= self._low
        if self._high is not None:
            passed &= price <= self._high
        return passed

    def before_blocks(self) -> Iterator[None]:
        """Nothing to do."""
        yield from ()


class ValueIn:
    """Items whose value of one attribute is one of those wanted.

    Args:
        codes: [items] signed integers, -1 = no value.
        wanted: codes of the wanted values.
        counts: [values] items of each code.
    """

    def __init__(self, codes: NDArray[Any], wanted: Sequence[int], counts: NDArray[np.int64]) -> None:
        self._codes, self._wanted = codes, wanted
        self.share = float(counts[wanted].sum()) / max(len(codes), 1) if wanted else 0.0
        self._table = np.zeros(len(counts) + 1, np.bool_)  # the last is that of -1
        self._table[wanted] = True

    def test(self, where: Where) -> Mask:
        """See ``core.allowed.Condition``."""
        codes = _at(self._codes, where)
        if len(self._wanted) > _COMPARED:
            return self._table.take(codes)
        passed: Mask = codes == self._wanted[0] if self._wanted else np.zeros(len(codes), np.bool_)
        for code in self._wanted[1:]:
            passed |= codes == code
        return passed

    def before_blocks(self) -> Iterator[None]:
        """Nothing to do."""
        yield from ()


class CategoryIndex:
    """The categories of each item, and the items of each category.

    Args:
        ptr: [items + 1]; the categories of row i are ``codes[ptr[i]:ptr[i + 1]]``.
        codes: indices of categories.
        n_categories: how many there are.
    """

    def __init__(self, ptr: NDArray[np.int32], codes: NDArray[np.int32], n_categories: int) -> None:
        self.ptr, self.codes, self.n_categories = ptr, codes, n_categories
        small = codes.astype(np.uint16) if n_categories <= np.iinfo(np.uint16).max else codes
        owner = np.repeat(np.arange(len(ptr) - 1, dtype=np.int32), np.diff(ptr))
        self._rows = owner[np.argsort(small, kind="stable")]  # of 16 bits that is a radix sort
        self._start = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=n_categories))])

    def __len__(self) -> int:
        """Number of items."""
        return len(self.ptr) - 1

    def rows_of(self, code: int) -> Rows:
        """Items of one category, ascending."""
        return self._rows[self._start[code] : self._start[code + 1]]

    def any_of(self, rows: NDArray[np.integer], wanted: Mask) -> Mask:
        """[n] which of ``rows`` are in a category marked in ``wanted`` [categories]."""
        found = np.zeros(len(rows), np.bool_)
        at, end = self.ptr.take(rows), self.ptr.take(rows + 1)
        left = np.flatnonzero(at < end)
        at, end = at.take(left), end.take(left)
        while len(left):  # the next category of each row that has one and is in none of the wanted so far
            hit = wanted.take(self.codes.take(at))
            found[left] = hit
            at += 1
            on = ~hit & (at < end)
            left, at, end = left[on], at[on], end[on]
        return found


class InCategory:
    """Items that are in at least one of some categories, or in none of them.

    Args:
        index: of the catalogue.
        wanted: codes of categories, each once.
        none: whether the items in none of them are meant.
    """

    def __init__(self, index: CategoryIndex, wanted: Sequence[int], *, none: bool = False) -> None:
        self._index, self._wanted, self._none = index, wanted, none
        self._table = np.zeros(index.n_categories, np.bool_)
        self._table[list(wanted)] = True
        members = sum(len(index.rows_of(code)) for code in wanted)
        share = min(members / max(len(index), 1), 1.0)
        self.share = max(1.0 - share, 1e-9) if none else share
        self._members: Mask | None = None

    def test(self, where: Where) -> Mask:
        """See ``core.allowed.Condition``; a slice needs ``before_blocks``."""
        if self._members is not None:
            return _at(self._members, where)
        if isinstance(where, slice):
            raise TypeError("blocks of rows are tested after before_blocks")
        found = self._index.any_of(where, self._table)
        return ~found if self._none else found

    def before_blocks(self) -> Iterator[None]:
        """Mark the members of each category."""
        members = np.full(len(self._index), self._none)
        looked = 0
        for code in self._wanted:
            rows = self._index.rows_of(code)
            for start in range(0, len(rows), BLOCK):
                part = rows[start : start + BLOCK]
                members[part] = not self._none
                looked += len(part)
                if looked >= BLOCK:
                    looked = 0
                    yield
        self._members = members
