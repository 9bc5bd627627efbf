"""Beyond accuracy: diversity, novelty, serendipity, popularity bias and coverage of lists.

Definitions, each a mean over users (novelty: over all answered places), for a list L of k items:

* diversity by category: mean over pairs of items of 1 - Jaccard similarity of their category sets; items without a
  category make no pair. By content: the same of 1 - cosine of their text vectors.
* novelty: -log2 of the share of users who had the item before the cut; an item nobody had counts as had by one.
* serendipity: share of L's places that are relevant and not in the popularity rung's list of the same length
  (Ge, Delgado-Battenfeld and Jannach, 2010: useful and not what an obvious recommender would recommend).
* popularity bias: mean of ln(1 + users who had it) over L, minus the same mean over what the user had before the cut;
  above 0 = more popular than what users take by themselves. Users who had nothing are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from candidate_gen.content import Content
from offline.metrics import coverage, gini, mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from core.bundle import Bundle
    from core.catalogue import Catalogue
    from core.types import Rows
    from offline.build.fit import World
    from offline.split.cuts import Cut

_BLOCK = 1_000


@dataclass(frozen=True)
class Background:
    """What lists are held against: who had what before the cut, and what is known of items.

    Attributes:
        had_by: [items] users who had an event of a target type with the item before the cut.

        holders: users with any such event.

        usual: [users] mean of ln(1 + had_by) over the items the user had; NaN for users who had none.

        vectors: [items, d] text vectors of length 1, zeros where nothing is written; None without any.
    """

    catalogue: Catalogue
    had_by: NDArray[np.int64]
    holders: int
    usual: NDArray[np.float64]
    vectors: NDArray[np.float16] | None

    @classmethod
    def of(cls, world: World, cut: Cut, bundle: Bundle) -> Background:
        """The background at a cut; ``bundle`` knows the texts."""
        log = world.log
        known = np.arange(len(log.items)) < np.repeat(cut.ends(log), np.diff(log.ptr))
        had = known & np.isin(log.types, list(world.targets))
        users = np.repeat(np.arange(log.n_users), np.diff(log.ptr))[had]
        user, item = np.divmod(np.unique(users * world.n_items + log.items[had]), max(world.n_items, 1))
        had_by = np.bincount(item, minlength=world.n_items)
        items = np.bincount(user, minlength=log.n_users)
        total = np.bincount(user, np.log1p(had_by)[item], log.n_users)
        usual = np.full(log.n_users, np.nan)
        np.divide(total, items, out=usual, where=items > 0)
        vectors = next((g.vectors for g in bundle.generators if isinstance(g, Content)), None)
        if vectors is not None and not vectors.any():
            vectors = None
        return cls(bundle.catalogue, had_by, int((items > 0).sum()), usual, vectors)

    def figures(
        self, lists: NDArray[np.int32], hits: NDArray[np.bool_], popular: NDArray[np.int32], users: NDArray[np.int64]
    ) -> dict[str, Any]:
        """The figures of one rung.

        Args:
            lists: [q, k] rows, -1 after the end of a short list.
            hits: [q, k] which places are relevant.
            popular: [q, k] the popularity rung's lists of the same cases.
            users: [q] user numbers.
        """
        exposure = np.bincount(lists[lists >= 0], minlength=len(self.catalogue))
        unexpected = np.array(
            [(hit & ~np.isin(rows, obvious)).mean() for rows, hit, obvious in zip(lists, hits, popular, strict=True)]
        )
        return {
            "coverage": coverage(exposure),
            "gini": gini(exposure),
            "diversity_category": self._by_category(lists),
            "diversity_vector": self._by_vector(lists),
            "novelty": self._novelty(exposure),
            "serendipity": mean(unexpected),
            "popularity_bias": self._bias(lists, users),
        }

    def _novelty(self, exposure: NDArray[np.int64]) -> float | None:
        if not exposure.sum() or not self.holders:
            return None
        bits = -np.log2(np.maximum(self.had_by, 1) / self.holders)
        return float(np.average(bits, weights=exposure))

    def _bias(self, lists: NDArray[np.int32], users: NDArray[np.int64]) -> float | None:
        there = lists >= 0
        popularity = np.where(there, np.log1p(self.had_by)[lists], 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
        bias = (popularity - self.usual[users])[there.any(axis=1)]
        return mean(bias[~np.isnan(bias)])

    def _by_category(self, lists: NDArray[np.int32]) -> float | None:
        catalogue = self.catalogue
        if not len(catalogue.category_idx):
            return None
        found = [_category_diversity(catalogue, rows[rows >= 0]) for rows in lists]
        return mean(np.array([value for value in found if value is not None]))

    def _by_vector(self, lists: NDArray[np.int32]) -> float | None:
        if self.vectors is None:
            return None
        found = []
        for start in range(0, len(lists), _BLOCK):
            block = lists[start : start + _BLOCK]
            vectors = self.vectors[block].astype(np.float64)
            vectors[block < 0] = 0
            squares = np.square(vectors).sum(axis=2)
            n = (squares > 0).sum(axis=1)
            together = np.square(vectors.sum(axis=1)).sum(axis=1) - squares.sum(axis=1)
            pairs = n * (n - 1)
            found.append(1 - together[pairs > 0] / pairs[pairs > 0])
        return mean(np.concatenate(found))


def _category_diversity(catalogue: Catalogue, rows: Rows) -> float | None:
    """Mean over pairs of 1 - Jaccard similarity; None with fewer than two items that have a category."""
    start, end = catalogue.category_ptr[rows], catalogue.category_ptr[rows + 1]
    start, size = start[end > start], (end - start)[end > start]
    n = len(size)
    if n < 2:
        return None
    owner = np.repeat(np.arange(n), size)
    offset = np.arange(len(owner)) - np.repeat(np.cumsum(size) - size, size)
    names, code = np.unique(catalogue.category_idx[np.repeat(start, size) + offset], return_inverse=True)
    member = np.zeros((n, len(names)))
    member[owner, code] = 1
    shared = member @ member.T
    count = member.sum(axis=1)
    jaccard = shared / (count[:, None] + count[None, :] - shared)
    return float(1 - (jaccard.sum() - n) / (n * (n - 1)))
