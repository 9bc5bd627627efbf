"""Pools with labels: what a ranker learns from and is measured on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from ranking.ndcg import ndcg
from ranking.networks import INTERACTIONS, interactions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from core.types import Rows, Scores, Vector


@dataclass(frozen=True)
class RankingData:
    """Pools with labels. Rows of one pool are adjacent.

    Attributes:
        ptr: [q + 1] the rows of case i are ``ptr[i]:ptr[i + 1]``.

        features: [n, F] float32, finite.

        labels: [n] gain of each row, 0 = not relevant.

        relevant: [q] relevant items there are, in the pool or not: what NDCG is measured against.

        user_vectors: [q, d] zeros for users without a history.

        items: [n] catalogue rows.

        item_vectors: [items, d] of the same training as ``user_vectors``. Several ``RankingData`` are
            joined after each has looked up its own.
    """

    ptr: NDArray[np.int64]
    features: Scores
    labels: Scores
    relevant: NDArray[np.int64]
    user_vectors: Vector
    items: Rows
    item_vectors: Vector

    def __len__(self) -> int:
        """Number of cases."""
        return len(self.ptr) - 1

    def inputs(self) -> Scores:
        """[n, F + 4] features with the interactions of both vectors beside them."""
        owner = np.repeat(np.arange(len(self)), np.diff(self.ptr))
        parts = []
        for i in range(0, len(owner), 1 << 16):
            rows = slice(i, i + (1 << 16))
            user = torch.from_numpy(self.user_vectors[owner[rows]])
            item = torch.from_numpy(self.item_vectors[self.items[rows]])
            parts.append(interactions(user, item[:, None])[:, 0].numpy())
        together = np.concatenate(parts) if parts else np.empty((0, INTERACTIONS), np.float32)
        return np.concatenate([self.features, together], axis=1)

    def spread(self, cases: int) -> RankingData:
        """So many cases, evenly spread over all: those that allow repeats come after those that do not."""
        if cases >= len(self):
            return self
        chosen = np.arange(cases) * len(self) // cases
        rows = np.concatenate([np.arange(self.ptr[case], self.ptr[case + 1]) for case in chosen])
        return RankingData(
            np.concatenate([[0], np.cumsum(np.diff(self.ptr)[chosen])]),
            self.features[rows],
            self.labels[rows],
            self.relevant[chosen],
            self.user_vectors[chosen],
            self.items[rows],
            self.item_vectors,
        )

    @cached_property
    def _place(self) -> NDArray[np.int64]:
        """[q, longest pool] index of each row, -1 where a pool is shorter."""
        lengths = np.diff(self.ptr)
        at = np.arange(int(lengths.max(initial=0)))
        return np.where(at < lengths[:, None], self.ptr[:-1, None] + at, -1)

    def ndcg_each(self, scores: Scores, k: int = 20) -> NDArray[np.float64]:
        """[q] NDCG@k of every pool ordered by ``scores`` [n]; relevant items outside the pool count as missed."""
        if not len(scores):
            return np.zeros(len(self))
        place = self._place
        value = np.where(place >= 0, scores[place], -np.inf)
        top = np.argsort(-value, axis=1, kind="stable")[:, :k]
        found = np.take_along_axis(place, top, axis=1)
        hit = (found >= 0) & (self.labels[found] > 0)
        return ndcg(hit, np.maximum(self.relevant, 1), k)

    def ndcg(self, scores: Scores, k: int = 20) -> float:
        """Mean NDCG@k."""
        return float(self.ndcg_each(scores, k).mean()) if len(self) else 0.0
