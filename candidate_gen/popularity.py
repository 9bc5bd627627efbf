"""What is bought now: time-decayed popularity, overall and by category. The generator that cannot fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np

from candidate_gen.arrays import check, load_array
from core.types import NO_ROWS, Candidates

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from candidate_gen.registry import BuildInputs
    from core.catalogue import Catalogue
    from core.types import Query, Rows, Scores

_SCORE, _ORDER, _CATEGORY_PTR, _CATEGORY_RANKS = "score.npy", "order.npy", "category_ptr.npy", "category_ranks.npy"
_GROWTH = 4
_FIRST_LOOK = 64


class Popularity:
    """Items by the sum of their events' weights, each halved every ``half_life_days``.

    Negative events subtract, down to 0. Items of equal score, so all that have no events, follow by newest
    ``created_at``, then by row: the list is full while the catalogue has an allowed item.

    Args:
        score: [items] float32, >= 0.
        order: [items] rows, most popular first.
        category_ptr: [categories + 1] int64 into ``category_ranks``.
        category_ranks: positions in ``order`` of each category's items, ascending.
    """

    name = "popularity"
    inline = True

    def __init__(
        self, score: Scores, order: Rows, category_ptr: NDArray[np.int64], category_ranks: NDArray[np.int32]
    ) -> None:
        self.score, self.order = score, order
        self.category_ptr, self.category_ranks = category_ptr, category_ranks

    @classmethod
    def build(cls, inputs: BuildInputs, *, half_life_days: float | None = 14.0, first_only: bool = True) -> Self:
        """Count.

        Args:
            inputs: events, catalogue and the moment to look back from.
            half_life_days: > 0; None = all events count the same, whenever they were.
            first_only: of several events of one type of one user with one item count the first alone: what brings in
                new buyers. What one buyer buys again and again is ``buy_again``'s business.

        Raises:
            ValueError: ``half_life_days`` is not above 0.
        """
        if half_life_days is not None and not half_life_days > 0:
            raise ValueError(f"half_life_days is {half_life_days}, it must be above 0 (or None for no decay)")
        import ibis

        from candidate_gen.exact import fixed, floating, half_life_decay

        events = inputs.events
        if first_only:
            by_person = events.group_by("user", "item", "type")
            events = by_person.agg(time=events.time.min(), weight=events.weight.argmin(events.seq))
        decay = half_life_decay(events.time, inputs.as_of_s, half_life_days)
        weighted = events.select("item", value=fixed(events.weight.cast("float64") * decay))
        sums = weighted.group_by("item").agg(score=floating(weighted["value"].sum()))
        found = sums.filter(sums.score > ibis.literal(0.0)).to_pyarrow()
        score = np.zeros(len(inputs.catalogue), np.float32)
        score[found["item"].to_numpy()] = found["score"].to_numpy()
        return cls._of_scores(score, inputs.catalogue)

    @classmethod
    def _of_scores(cls, score: Scores, catalogue: Catalogue) -> Self:
        rows = np.arange(len(score), dtype=np.int32)
        order = np.lexsort((rows, -catalogue.created_at, -score)).astype(np.int32)
        rank = np.empty_like(order)
        rank[order] = rows
        category = catalogue.category_idx
        ranks = rank[np.repeat(rows, np.diff(catalogue.category_ptr))]
        ptr = np.zeros(len(catalogue.category_names) + 1, np.int64)
        np.cumsum(np.bincount(category, minlength=len(catalogue.category_names)), out=ptr[1:])
        return cls(score, order, ptr, ranks[np.lexsort((ranks, category))])

    def generate(self, query: Query, limit: int) -> Candidates:
        """The ``limit`` most popular rows that the query allows, fewer only where there are fewer.

        Looks at the head of the list first, then at stretches that grow: a few microseconds as a rule, and once
        through the catalogue for a query that allows next to nothing.
        """
        found, count = [NO_ROWS], 0
        for ranks in self._stretches(query, max(2 * limit, _FIRST_LOOK)):
            rows = self.order[ranks]
            rows = rows[query.allows(rows)]
            found.append(rows)
            count += len(rows)
            if count >= limit:
                break
        rows = np.concatenate(found)[:limit]
        return Candidates(self.name, rows, self.score[rows])

    def score_rows(self, rows: Rows) -> Scores:
        """[n] popularity of given rows, >= 0."""
        return self.score[rows]

    def _stretches(self, query: Query, first: int) -> Iterator[slice | NDArray[np.int32]]:
        """Ranks in ascending order, in growing stretches; of the wanted categories alone if any are wanted."""
        everything = len(self.order)
        codes = query.catalogue.category_code
        wanted = [codes[name] for name in query.filters.categories if name in codes]
        lists = [self.category_ranks[self.category_ptr[c] : self.category_ptr[c + 1]] for c in wanted]
        low, size = 0, first
        if query.filters.categories:
            members = sum(map(len, lists))
            size = first * everything // members if members else everything
        while low < everything:
            high = low + size
            if not query.filters.categories:
                yield slice(low, high)
            elif lists:
                parts = [ranks[slice(*ranks.searchsorted((low, high)))] for ranks in lists]
                yield np.unique(np.concatenate(parts))
            low, size = high, size * _GROWTH

    def save(self, folder: Path) -> None:
        """Write four ``.npy`` files."""
        np.save(folder / _SCORE, self.score)
        np.save(folder / _ORDER, self.order)
        np.save(folder / _CATEGORY_PTR, self.category_ptr)
        np.save(folder / _CATEGORY_RANKS, self.category_ranks)

    @classmethod
    def load(cls, folder: Path, catalogue: Catalogue) -> Self:
        """Map what ``save`` wrote into memory.

        Raises:
            BundleError: a file is missing, damaged or of another catalogue.
        """
        n = len(catalogue)
        score = load_array(folder / _SCORE, np.float32, (n,))
        check(bool((np.isfinite(score) & (score >= 0)).all()), folder / _SCORE, "it has scores below 0 or not finite")
        order = load_array(folder / _ORDER, np.int32, (n,))
        check(bool((np.sort(order) == np.arange(n)).all()), folder / _ORDER, "it does not name every row once")
        ptr = load_array(folder / _CATEGORY_PTR, np.int64, (len(catalogue.category_names) + 1,))
        ranks = load_array(folder / _CATEGORY_RANKS, np.int32, (len(catalogue.category_idx),))
        ascending = ptr[0] == 0 and ptr[-1] == len(ranks) and bool((np.diff(ptr) >= 0).all())
        check(ascending, folder / _CATEGORY_PTR, "it does not ascend to the length of the lists")
        in_range = not len(ranks) or (int(ranks.min()) >= 0 and int(ranks.max()) < n)
        check(in_range, folder / _CATEGORY_RANKS, f"it names ranks outside the {n} of the catalogue")
        return cls(score, order, ptr, ranks)
