"""What this user had before: the best source there is where people buy the same things again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from candidate_gen.arrays import check, load_array, params_of, save_params
from candidate_gen.exact import DAY_S, decayed_sums
from core.types import Candidates

if TYPE_CHECKING:
    from pathlib import Path

    from candidate_gen.registry import BuildInputs
    from core.catalogue import Catalogue
    from core.types import Query, Scores

_LEAST_SHARE = 0.005
_SHARE = "share.npy"


@dataclass(frozen=True)
class Params:
    """Parameters of the own past.

    Attributes:
        half_life_days: days in which an event of the user loses half of its weight.

        trend_power: how much it counts what everybody has of late; 0 = only what this user had.

        trend_half_life_days: days in which an event of anybody loses half of its weight.
    """

    half_life_days: float = 180.0
    trend_power: float = 0.5
    trend_half_life_days: float = 14.0

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            ValueError: a parameter is out of range; the message names it.
        """
        for name in ("half_life_days", "trend_half_life_days"):
            if not getattr(self, name) > 0:
                raise ValueError(f"buy_again: {name} is {getattr(self, name)}, it must be above 0")
        if not self.trend_power >= 0:
            raise ValueError(f"buy_again: trend_power is {self.trend_power}, it must be at least 0")


class BuyAgain:
    """The user's own items: what is left of their events' weights, times a power of the item's share of the trend.

        score = (sum of weight * 2 ** (-age / half_life)) * (trend / largest trend + 0.005) ** trend_power

    The trend counts every event, repeats too: what is in season, in stock and being bought again. Speaks only where the
    query allows repeats.

    Args:
        share: [items] float32 the power of the trend's share, > 0.
        params: see ``Params``.
    """

    name = "buy_again"
    inline = True

    def __init__(self, share: Scores, params: Params) -> None:
        self.share, self.params = share, params

    @classmethod
    def build(cls, inputs: BuildInputs, **params: Any) -> Self:
        """Count the trend.

        Args:
            inputs: events, catalogue and the moment to look back from.
            **params: fields of ``Params``.

        Raises:
            TypeError: a parameter is unknown.
            ValueError: a parameter is out of range.
        """
        chosen = Params(**params)
        share = np.ones(len(inputs.catalogue), np.float32)
        if chosen.trend_power:
            events = inputs.events.filter(inputs.events.weight > 0)
            trend = decayed_sums(events, len(inputs.catalogue), inputs.as_of_s, chosen.trend_half_life_days)
            share = ((trend / max(float(trend.max(initial=0.0)), 1e-12)) + _LEAST_SHARE) ** chosen.trend_power
        return cls(share.astype(np.float32), chosen)

    def generate(self, query: Query, limit: int) -> Candidates:
        """Distinct rows of the history, best first; ties by the newest event."""
        if not query.allow_repeats or not len(query.history):
            return Candidates.none(self.name)
        rows, newest, owner = np.unique(query.history, return_index=True, return_inverse=True)
        decay = np.exp2(query.history_age_s.astype(np.float64) / (-DAY_S * self.params.half_life_days))
        scores = (np.bincount(owner, query.history_weight * decay) * self.share[rows]).astype(np.float32)
        order = np.lexsort((newest, -scores))[:limit]
        return Candidates(self.name, rows[order], scores[order], (rows, scores))

    def save(self, folder: Path) -> None:
        """Write the shares and the parameters."""
        np.save(folder / _SHARE, self.share)
        save_params(folder, asdict(self.params))

    @classmethod
    def load(cls, folder: Path, catalogue: Catalogue) -> Self:
        """Map what ``save`` wrote into memory.

        Raises:
            BundleError: a file is missing, damaged or of another catalogue.
        """
        share = load_array(folder / _SHARE, np.float32, (len(catalogue),))
        check(bool((np.isfinite(share) & (share > 0)).all()), folder / _SHARE, "it has shares not above 0")
        return cls(share, params_of(Params, folder))
