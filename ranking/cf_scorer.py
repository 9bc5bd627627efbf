"""The cheap score that orders every pool and makes the lists of the ``CF`` rung.

A weighted sum of logarithms, one per source and one for the trend of the row:

    score(row) = trend_weight * log(trend(row) / max trend + trend_epsilon)
               + sum over sources of weight * log(source score / scale + epsilon) - log(epsilon)

so a row that a source has no opinion of gets nothing from that source, and a row that it gives a small
score next to nothing. A product of evidence (a sum of logarithms) was held against a sum and
won on order data, where the trend multiplies what goes together.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from core.manifest import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from core.types import Pool, Query, Scores
    from ranking.sequences import Sequences

_PARAMS = "cf.json"
_TREND = "trend.npy"


@dataclass(frozen=True)
class SourceTerm:
    """How much one source speaks in the sum.

    Attributes:
        weight: of the logarithm, >= 0.

        scale: source score that counts as 1, > 0.

        epsilon: what is added before the logarithm, > 0; small = the source's own order decides.
    """

    weight: float
    scale: float = 1.0
    epsilon: float = 0.02


@dataclass(frozen=True)
class CfParams:
    """Parameters of the CF scorer; chosen on validation data.

    Attributes:
        sources: by name of the generator; a source that is not named has a weight of 0.

        trend_weight: weight of the trend's logarithm, >= 0.

        trend_epsilon: added to the share of the most popular item before the logarithm, > 0.

        trend_half_life_days: days in which an event loses half of its weight; None = never.

        trend_first_only: count only the first event of each user with each item.
    """

    sources: Mapping[str, SourceTerm]
    trend_weight: float = 0.5
    trend_epsilon: float = 0.005
    trend_half_life_days: float | None = 7.0
    trend_first_only: bool = True

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """From plain values, as they stand in JSON.

        Raises:
            TypeError: a name is unknown or missing.
            ValueError: a number is out of range; the message names it.
        """
        rest = {name: value for name, value in values.items() if name != "sources"}
        sources = {name: SourceTerm(**term) for name, term in values["sources"].items()}
        params = cls(sources=sources, **rest)
        positive = {"trend_epsilon": params.trend_epsilon}
        if params.trend_half_life_days is not None:
            positive["trend_half_life_days"] = params.trend_half_life_days
        for name, term in sources.items():
            positive |= {f"sources.{name}.scale": term.scale, f"sources.{name}.epsilon": term.epsilon}
        for name, number in positive.items():
            if not number > 0:
                raise ValueError(f"cf.{name} is {number}, it must be above 0")
        return params


class CfScorer:
    """A blend of source scores and trend (``core.types.Scorer``); pure and thread-safe."""

    def __init__(self, params: CfParams, trend: Scores) -> None:
        """Keep what a request needs.

        Args:
            params: the weights.
            trend: [items] decayed popularity, >= 0.
        """
        self.params = params
        self.trend = trend
        share = np.asarray(trend, np.float64) / max(float(np.max(trend, initial=0.0)), 1e-12)
        self._trend_term = (params.trend_weight * np.log(share + params.trend_epsilon)).astype(np.float32)

    @classmethod
    def build(cls, sequences: Sequences, n_items: int, as_of_s: float, params: CfParams) -> Self:
        """Compute the trend from the events before ``as_of_s``."""
        half_life = params.trend_half_life_days
        trend = sequences.trend(n_items, as_of_s, half_life, first_only=params.trend_first_only)
        return cls(params, trend.astype(np.float32))

    def score(self, query: Query, pool: Pool) -> Scores:  # noqa: ARG002 - the Protocol's signature
        """[n] scores in the pool's order, finite."""
        return self.score_rows(pool)

    def score_rows(self, pool: Pool) -> Scores:
        """The same without a query: all that counts is in the pool, which may be those of many cases."""
        total = self._trend_term[pool.rows]
        for name, term in self.params.sources.items():
            if term.weight and name in pool.sources:
                scores = pool.source_scores[:, pool.sources.index(name)]
                part = np.log1p(np.fmax(scores, 0) * np.float32(1 / (term.scale * term.epsilon)))
                total += np.float32(term.weight) * part
        return total

    def save(self, folder: Path) -> None:
        """Write ``cf.json`` and ``trend.npy`` into ``folder``, which exists."""
        (folder / _PARAMS).write_text(json.dumps(asdict(self.params), indent=1), encoding="utf-8")
        np.save(folder / _TREND, self.trend)

    @classmethod
    def load(cls, folder: Path, n_items: int) -> Self:
        """Read what ``save`` wrote for a catalogue of ``n_items``.

        Raises:
            BundleError: a file is missing or not what ``save`` writes; the message names it.
        """
        path = folder / _PARAMS
        try:
            params = CfParams.of(json.loads(path.read_text(encoding="utf-8")))
            path = folder / _TREND
            trend = np.load(path, allow_pickle=False)
        except (OSError, EOFError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise BundleError(f"{path}: not readable as CF scorer ({error}). Build the bundle again") from error
        if trend.shape != (n_items,) or trend.dtype != np.float32 or not np.isfinite(trend).all():
            raise BundleError(f"{path}: {trend.dtype} {trend.shape}, finite float32 ({n_items},) expected. Build again")
        return cls(params, trend)
