"""Figures of merit of ranked lists, per user, and how sure one can be of their means.

Definitions for a user with relevant items R and list L cut at k, binary gains; h(p) = 1 where place p of L is a hit:
recall = hits / |R|; precision = hits / k; hit rate = 1 if there is a hit; MRR = 1 / place of the first hit;
MAP = sum over hits at place p of (hits up to p) / p, over min(k, |R|);
NDCG: see ``ranking.ndcg``. A user without a list counts 0, and a list shorter than k has no hits after its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ranking.ndcg import ndcg

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from core.types import Rows

KS = (10, 20)
LONGEST = max(KS)
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


def hit_matrix(lists: Sequence[Rows] | NDArray[np.int32], relevant: Sequence[Rows], k: int) -> NDArray[np.bool_]:
    """[users, k] whether place j of user i's list is relevant; a repeated item counts at its first place."""
    hits = np.zeros((len(lists), k), np.bool_)
    for i, (rows, wanted) in enumerate(zip(lists, relevant, strict=True)):
        top = rows[:k]
        found = np.isin(top, wanted)
        if len(np.unique(top[found])) < found.sum():
            first = np.zeros(len(top), np.bool_)
            first[np.unique(top, return_index=True)[1]] = True
            found &= first
        hits[i, : len(top)] = found
    return hits


def per_user(hits: NDArray[np.bool_], n_relevant: NDArray[np.int64], k: int) -> dict[str, NDArray[np.float64]]:
    """Each metric of the module's head at ``k``, named ``recall@k`` and so on, of each user, [users] each.

    Args:
        hits: [users, at least k].
        n_relevant: [users] relevant items of each user, at least 1.
        k: length of the list.
    """
    hits = hits[:, :k]
    width = hits.shape[1]
    place = np.arange(1, k + 1)
    reachable = np.minimum(n_relevant, k)
    so_far = hits.cumsum(axis=1)
    found = hits.sum(axis=1)
    return {
        f"recall@{k}": found / n_relevant,
        f"precision@{k}": found / k,
        f"ndcg@{k}": ndcg(hits, n_relevant, k),
        f"map@{k}": (hits * so_far / place[:width]).sum(axis=1) / reachable,
        f"mrr@{k}": (hits / place[:width] * (so_far == 1)).sum(axis=1),
        f"hit_rate@{k}": (found > 0).astype(np.float64),
    }


def every_metric(hits: NDArray[np.bool_], n_relevant: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """``per_user`` at every length of ``KS``."""
    return {name: values for k in KS for name, values in per_user(hits, n_relevant, k).items()}


def intervals(figures: Mapping[str, NDArray[np.float64]], seed: int = 0) -> dict[str, dict[str, float]]:
    """``Interval.as_dict`` of each figure [users]; all of them over the same resampled users."""
    names = list(figures)
    if not names or not len(figures[names[0]]):
        return {name: Interval(0.0, 0.0, 0.0).as_dict() for name in names}
    values = np.column_stack([figures[name] for name in names])
    low, high = np.percentile(_resampled_means(values, seed), [2.5, 97.5], axis=0)
    means = values.mean(axis=0)
    return {name: Interval(float(means[i]), float(low[i]), float(high[i])).as_dict() for i, name in enumerate(names)}


def bootstrap(values: NDArray[np.float64], seed: int = 0) -> Interval:
    """Mean of ``values`` [users] and its interval over resampled users."""
    return Interval(**intervals({"": values}, seed)[""])


def _resampled_means(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """[resamples, figures] means over users drawn with replacement: how often each was drawn, times the values."""
    n = len(values)
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(RESAMPLES // _BLOCK):
        drawn = np.stack([np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(_BLOCK)])
        means.append(drawn.astype(np.float64) @ values / n)
    return np.concatenate(means)


def mean(values: NDArray[np.float64]) -> float | None:
    """The mean; None of nothing, for JSON."""
    return float(values.mean()) if len(values) else None


def coverage(exposure: NDArray[np.int64]) -> float:
    """Share of the catalogue that was recommended at least once; ``exposure`` [items] counts how often each was."""
    return float((exposure > 0).sum() / max(len(exposure), 1))


def gini(exposure: NDArray[np.int64]) -> float:
    """How unevenly recommendations fall on the catalogue: 0 = every item as often, towards 1 = always the same few."""
    n, total = len(exposure), int(exposure.sum())
    if not total:
        return 0.0
    rank = np.arange(1, n + 1)
    return float(((2 * rank - n - 1) * np.sort(exposure)).sum() / (n * total))
