"""Figures of merit of ranked lists, per user, and how sure one can be of their means.

Definitions for a user with relevant items R and list L cut at k, binary gains:
recall = hits / |R|; hit rate = 1 if there is a hit; NDCG = sum over hits at place p of 1 / log2(p + 1),
over the same sum for places 1 .. min(k, |R|) (Järvelin and Kekäläinen, 2002). A user without a list counts 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from core.types import Rows

RESAMPLES = 1_000
_BLOCK = 100


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over users with its 95 % bootstrap interval (percentile method)."""

    mean: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return {"mean": self.mean, "low": self.low, "high": self.high}


def hit_matrix(lists: Sequence[Rows], relevant: Sequence[Rows], k: int) -> NDArray[np.bool_]:
    """[users, k] whether place j of user i's list is relevant; a repeated item counts at its first place."""
    hits = np.zeros((len(lists), k), np.bool_)
    for i, (rows, wanted) in enumerate(zip(lists, relevant, strict=True)):
        top = rows[:k]
        first = np.zeros(len(top), np.bool_)
        first[np.unique(top, return_index=True)[1]] = True
        hits[i, : len(top)] = first & np.isin(top, wanted)
    return hits


def per_user(hits: NDArray[np.bool_], n_relevant: NDArray[np.int64], k: int) -> dict[str, NDArray[np.float64]]:
    """``recall@k``, ``ndcg@k`` and ``hit_rate@k`` of each user, [users] each."""
    hits = hits[:, :k]
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(n_relevant, k)]
    found = hits.sum(axis=1)
    return {
        f"recall@{k}": found / n_relevant,
        f"ndcg@{k}": (hits * discount[: hits.shape[1]]).sum(axis=1) / ideal,
        f"hit_rate@{k}": (found > 0).astype(np.float64),
    }


def bootstrap(values: NDArray[np.float64], seed: int = 0) -> Interval:
    """Mean of ``values`` [users] and its interval over resampled users."""
    n = len(values)
    if n == 0:
        return Interval(0.0, 0.0, 0.0)
    rng = np.random.default_rng(seed)
    means = np.concatenate([values[rng.integers(0, n, (_BLOCK, n))].mean(axis=1) for _ in range(RESAMPLES // _BLOCK)])
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))


def coverage(lists: Sequence[Rows], n_items: int) -> float:
    """Share of the catalogue that appears in at least one list."""
    return len(np.unique(np.concatenate([*lists, np.empty(0, np.int32)]))) / max(n_items, 1)
