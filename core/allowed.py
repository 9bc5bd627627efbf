"""Which items one query allows: asked of a few rows, or worked out for the whole catalogue in steps.

A condition is a part of the filters. The one that the fewest items meet is tested first, and each further one only of
what is left. A whole catalogue is looked at in blocks of rows that lie side by side, where a comparison costs a
thirtieth of a nanosecond a row; whoever has an event loop to share can do something else between two blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from core.types import Mask, Rows

    Where: TypeAlias = slice | NDArray[np.integer]

BLOCK = 32_768
"""Rows, or members of categories, that are looked at between two pauses."""
_FEW = 8  # one row in so many is left: from here on testing single rows is quicker than testing all of a block


class Condition(Protocol):
    """One part of the filters."""

    share: float
    """About how much of the catalogue meets it; 0 = no item does."""

    def test(self, where: Where) -> Mask:
        """[n] which of the rows meet it; a slice stands for rows that lie side by side."""
        ...

    def before_blocks(self) -> Iterator[None]:
        """Get ready to be tested of whole blocks, with a pause after every ``BLOCK`` entries looked at."""
        ...


@dataclass
class Ranked:
    """The first rows of some order that the query allows.

    Attributes:
        order: kept, so that no other array gets its ``id``.

        limit: how many were looked for.
    """

    order: Rows
    limit: int
    rows: Rows


class Allowed:
    """What one query allows: the rows that meet all conditions and are not blocked.

    ``test`` may be called from several threads; everything else belongs to one.

    Attributes:
        found: allowed rows that ``scan`` has met so far.

        hurry: set when time is short: whoever looks for the first rows of an order then takes what there is.

        cut_short: whether somebody did, so that a list may lack items that the query allows.

        ranked: what was found already, by ``id`` of the order.

        spent_s: seconds spent in ``test``: a filter that takes long is no fault of the generator that asked.

    Args:
        n_items: rows of the catalogue.
        conditions: what a row must meet; none = everything is allowed.
        blocked: [b] rows, ascending, that are not allowed whatever the conditions say.
    """

    def __init__(self, n_items: int, conditions: Sequence[Condition], blocked: Rows) -> None:
        self._n_items, self._blocked = n_items, blocked
        self._conditions = sorted(conditions, key=lambda each: each.share)
        self._nothing = bool(self._conditions) and self._conditions[0].share == 0
        self._mask: Mask | None = None
        self._ready = self._scanned = 0
        self.found = 0
        self.hurry = self.cut_short = False
        self.ranked: dict[int, Ranked] = {}
        self.spent_s = 0.0

    @property
    def scanned(self) -> bool:
        """Whether ``scan`` has been through the whole catalogue."""
        return self._nothing or self._scanned >= self._n_items

    def test(self, rows: Rows) -> Mask:
        """[n] which of ``rows`` are allowed."""
        begun_s = perf_counter()
        if self._nothing:
            mask = np.zeros(len(rows), np.bool_)
        elif self._mask is not None and self.scanned:
            mask = self._mask.take(rows)
        else:
            mask = self._of(rows)
            if len(self._blocked):
                mask &= self._blocked.take(self._blocked.searchsorted(rows), mode="clip") != rows
        self.spent_s += perf_counter() - begun_s
        return mask

    def scan(self) -> Iterator[None]:
        """Work it out for every row, with a pause after each block; goes on where an earlier call was left."""
        if self._nothing:
            return
        if self._mask is None:
            self._mask = np.zeros(self._n_items, np.bool_)
        while self._ready < len(self._conditions):
            yield from self._conditions[self._ready].before_blocks()
            self._ready += 1
        while self._scanned < self._n_items:
            self._look_at(slice(self._scanned, min(self._scanned + BLOCK, self._n_items)))
            yield

    def met(self, rows: Rows) -> Rows:
        """Those of ``rows`` that ``scan`` has found to be allowed; of rows that it has not met nothing is known."""
        return rows[:0] if self._mask is None else rows[self._mask.take(rows)]

    def _of(self, rows: Rows) -> Mask:
        if not self._conditions:
            return np.ones(len(rows), np.bool_)
        mask = self._conditions[0].test(rows)
        if len(self._conditions) == 1:
            return mask
        left = np.flatnonzero(mask)
        for condition in self._conditions[1:]:
            if not len(left):
                break
            left = left[condition.test(rows.take(left))]
        mask = np.zeros(len(rows), np.bool_)
        mask[left] = True
        return mask

    def _look_at(self, block: slice) -> None:
        assert self._mask is not None  # noqa: S101 - scan has made it
        mask = self._mask[block]
        mask[:] = self._conditions[0].test(block) if self._conditions else True
        for tested, condition in enumerate(self._conditions[1:], 1):
            left = np.count_nonzero(mask)
            if left * _FEW < len(mask):
                self._test_one_by_one(mask, block.start, self._conditions[tested:])
                break
            mask &= condition.test(block)
        between = self._blocked.searchsorted((block.start, block.stop))
        self._mask[self._blocked[slice(*between)]] = False
        self.found += int(np.count_nonzero(mask))
        self._scanned = block.stop

    @staticmethod
    def _test_one_by_one(mask: Mask, start: int, conditions: Sequence[Condition]) -> None:
        rows = np.flatnonzero(mask) + start
        for condition in conditions:
            if not len(rows):
                break
            rows = rows[condition.test(rows)]
        mask[:] = False
        mask[rows - start] = True
