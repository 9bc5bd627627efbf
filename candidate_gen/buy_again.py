"""What this user had before: the best source there is where people buy the same things again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np

from candidate_gen.arrays import params_of, save_params
from core.types import Candidates

if TYPE_CHECKING:
    from pathlib import Path

    from candidate_gen.registry import BuildInputs
    from core.catalogue import Catalogue
    from core.types import Query

_DAY_S = 86_400


class BuyAgain:
    """The user's own items by the sum of their events' weights, each halved every ``half_life_days``.

    Speaks only where the query allows repeats. Learns nothing: the history in the query says it all.

    Raises:
        ValueError: ``half_life_days`` is not above 0.
    """

    name = "buy_again"
    inline = True

    def __init__(self, half_life_days: float = 30.0) -> None:
        if not half_life_days > 0:
            raise ValueError(f"buy_again: half_life_days is {half_life_days}, it must be above 0")
        self.half_life_days = half_life_days

    @classmethod
    def build(cls, inputs: BuildInputs, *, half_life_days: float = 30.0) -> Self:
        """Keep the parameter; see the class for its bounds."""
        del inputs
        return cls(half_life_days)

    def generate(self, query: Query, limit: int) -> Candidates:
        """Distinct rows of the history, best first; ties by the newest event."""
        if not query.allow_repeats or not len(query.history):
            return Candidates.none(self.name)
        rows, newest, owner = np.unique(query.history, return_index=True, return_inverse=True)
        decay = np.exp2(query.history_age_s.astype(np.float64) / (-_DAY_S * self.half_life_days))
        scores = np.bincount(owner, query.history_weight * decay).astype(np.float32)
        order = np.lexsort((newest, -scores))[:limit]
        return Candidates(self.name, rows[order], scores[order])

    def save(self, folder: Path) -> None:
        """Write the parameter."""
        save_params(folder, {"half_life_days": self.half_life_days})

    @classmethod
    def load(cls, folder: Path, catalogue: Catalogue) -> Self:
        """Read what ``save`` wrote.

        Raises:
            BundleError: the file is missing or damaged.
        """
        del catalogue
        return params_of(cls, folder)
