"""For every item its nearest other items, and the sum of those lists over a user's history.

How near is the business of whoever builds the table (``cooccurrence``, ``random_walk``, ``content``); here is only how
it lies on disk and how it is read in a request.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

import numpy as np

from candidate_gen.arrays import check, load_array, params_of, save_params
from core.types import NO_ROWS, Candidates

if TYPE_CHECKING:
    from pathlib import Path

    from _typeshed import DataclassInstance
    from numpy.typing import NDArray

    from core.catalogue import Catalogue
    from core.types import Query, Rows, Scores

P = TypeVar("P", bound="DataclassInstance")

_PTR, _ROWS, _SCORES = "neighbour_ptr.npy", "neighbour_rows.npy", "neighbour_scores.npy"
_FIRST_LOOK = 2


class NeighbourTable:
    """Neighbours of item i: ``rows[ptr[i]:ptr[i + 1]]``, best first, with ``scores`` > 0.

    Args:
        ptr: [items + 1] int64.
        rows: [m] int32, unique within one item, never the item itself.
        scores: [m] float32, not increasing within one item.
    """

    def __init__(self, ptr: NDArray[np.int64], rows: Rows, scores: Scores) -> None:
        self.ptr, self.rows, self.scores = ptr, rows, scores
        self._thread = threading.local()

    @classmethod
    def of_pairs(cls, n_items: int, left: Rows, right: Rows, scores: Scores) -> Self:
        """From neighbours in any order: ``right[k]`` is a neighbour of ``left[k]``, unique pairs."""
        order = np.lexsort((right, -scores, left))
        ptr = np.zeros(n_items + 1, np.int64)
        np.cumsum(np.bincount(left, minlength=n_items), out=ptr[1:])
        return cls(ptr, right[order].astype(np.int32), scores[order].astype(np.float32))

    def cut(self, count: int) -> NeighbourTable:
        """The same table with at most ``count`` neighbours of each item."""
        place = np.arange(len(self.rows)) - np.repeat(self.ptr[:-1], np.diff(self.ptr))
        ptr = np.zeros_like(self.ptr)
        np.cumsum(np.minimum(np.diff(self.ptr), count), out=ptr[1:])
        return NeighbourTable(ptr, self.rows[place < count], self.scores[place < count])

    def of(self, row: int) -> tuple[Rows, Scores]:
        """Neighbours of one item, best first."""
        part = slice(self.ptr[row], self.ptr[row + 1])
        return self.rows[part], self.scores[part]

    def sum(self, history: Rows, weights: Scores) -> tuple[Rows, NDArray[np.float64]]:
        """Neighbours of all of ``history`` [h], each once and in no order, with the weighted sums of their scores.

        No array here is longer than the lists of the history together, whatever the size of the catalogue: one number
        an item and thread, never cleared, tells which mention of a row stands for all of them.
        """
        start = self.ptr[history]
        count = self.ptr[history + 1] - start
        ends = count.cumsum()
        total = int(ends[-1]) if len(ends) else 0
        if not total:
            return NO_ROWS, np.empty(0)
        mention = np.arange(total)
        at = np.repeat(start - (ends - count), count)
        at += mention
        rows = self.rows[at]
        value = self.scores[at]
        value *= np.repeat(weights, count)
        position = self._positions()
        wide = rows.astype(np.intp)  # indexing by int32 is slower
        position[wide] = mention
        owner = position[wide]
        sums = np.bincount(owner, value.astype(np.float64), total).astype(np.float64, copy=False)
        first = np.flatnonzero(owner == mention)
        return rows[first], sums[first]

    def _positions(self) -> NDArray[np.int32]:
        positions: NDArray[np.int32] | None = getattr(self._thread, "positions", None)
        if positions is None:
            positions = self._thread.positions = np.empty(len(self.ptr) - 1, np.int32)
        return positions

    def save(self, folder: Path) -> None:
        """Write three ``.npy`` files."""
        np.save(folder / _PTR, self.ptr)
        np.save(folder / _ROWS, self.rows)
        np.save(folder / _SCORES, self.scores)

    @classmethod
    def load(cls, folder: Path, n_items: int) -> Self:
        """Map what ``save`` wrote into memory.

        Raises:
            BundleError: a file is missing, damaged or of another catalogue.
        """
        ptr = load_array(folder / _PTR, np.int64, (n_items + 1,))
        ends_fit = ptr[0] == 0 and bool((np.diff(ptr) >= 0).all())
        check(ends_fit, folder / _PTR, "it does not ascend from 0")
        rows = load_array(folder / _ROWS, np.int32, (int(ptr[-1]),))
        in_range = not len(rows) or (int(rows.min()) >= 0 and int(rows.max()) < n_items)
        check(in_range, folder / _ROWS, f"it names rows outside the {n_items} of the catalogue")
        scores = load_array(folder / _SCORES, np.float32, (int(ptr[-1]),))
        check(bool(np.isfinite(scores).all()), folder / _SCORES, "it has scores that are not finite")
        return cls(ptr, rows, scores)


class NeighbourSum(ABC, Generic[P]):
    """A generator that sums the neighbours of the newest items of a history.

    A class of this kind says how its table is built and what each item of a history counts. Scores are shares of the
    best score of the same answer.

    Attributes:
        kind: class of the parameters.

    Args:
        table: neighbours of each item.
        params: what the table was built with, and how a history is read.
    """

    name: str
    inline = True
    kind: ClassVar[type[Any]]

    def __init__(self, table: NeighbourTable, params: P) -> None:
        self.table, self.params = table, params

    @abstractmethod
    def newest(self, query: Query) -> tuple[Rows, Scores]:
        """The distinct items of the history that are summed over [h], and what each counts."""

    def generate(self, query: Query, limit: int) -> Candidates:
        """The items nearest to the history, of those that the query allows."""
        rows, scores = self.table.sum(*self.newest(query))
        if len(rows):
            scores /= scores.max()
        return best_allowed(self.name, query, rows, scores, limit)

    def neighbours(self, row: int) -> tuple[Rows, Scores]:
        """Items nearest to one item, best first, and how near they are."""
        return self.table.of(row)

    def save(self, folder: Path) -> None:
        """Write the table and the parameters."""
        self.table.save(folder)
        save_params(folder, asdict(self.params))

    @classmethod
    def load(cls, folder: Path, catalogue: Catalogue) -> Self:
        """Map what ``save`` wrote into memory.

        Raises:
            BundleError: a file is missing, damaged or of another catalogue.
        """
        return cls(NeighbourTable.load(folder, len(catalogue)), params_of(cls.kind, folder))


def newest_distinct(history: Rows, count: int) -> NDArray[np.intp]:
    """Positions [<= count] in ``history`` of its newest distinct rows, newest first."""
    first: dict[int, int] = {}
    for position, row in enumerate(history.tolist()):
        first.setdefault(row, position)
    return np.fromiter(islice(first.values(), count), np.intp)


def best_allowed(source: str, query: Query, rows: Rows, scores: NDArray[np.floating[Any]], limit: int) -> Candidates:
    """The ``limit`` best of unique ``rows`` [n] that the query allows, best first, ties by row.

    Asking the query here, not in ``merge`` alone, keeps a history full of items that may not come back, or a narrow
    filter, from using up the ``limit``; only as many rows as needed are asked about. With a limit of 0 the source only
    says what it thinks of the rows of others.
    """
    scores = scores.astype(np.float32, copy=False)
    top = np.empty(0, np.intp)
    look = _FIRST_LOOK * limit
    if 0 < look < len(rows):
        top = np.argpartition(scores, len(rows) - look)[-look:]
        top = top[query.allows(rows[top])]
    if len(top) < limit:
        top = np.flatnonzero(query.allows(rows))
    found, best = rows[top], scores[top]
    order = np.lexsort((found, -best))[:limit]
    return Candidates(source, found[order], best[order], (rows, scores))
