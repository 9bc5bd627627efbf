"""What is chosen for the lower rungs of a build, good for any cut."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from candidate_gen.registry import generator_names
from ranking.cf_scorer import CfParams

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_POOL_SIZES: Mapping[str, int] = {
    "co_occurrence": 100,
    "random_walk": 150,
    "ann": 75,
    "content": 25,
    "buy_again": 100,
    "popularity": 300,
}
"""Pool size of each built-in generator until a build has chosen, in pool order; about 500 distinct rows together."""
DEFAULT_POOL_SIZE = 100
"""Pool size of a generator that another package brings."""
SOURCES: Mapping[str, Mapping[str, float]] = {
    "co_occurrence": {"weight": 1.0, "epsilon": 0.02},
    "random_walk": {"weight": 0.5, "epsilon": 0.1},
    "content": {"weight": 0.25, "epsilon": 0.1},
    "buy_again": {"weight": 4.0, "epsilon": 0.001},
}
"""Parameters of each source in the CF scorer until a build has chosen."""


@dataclass(frozen=True)
class Recipe:
    """What was chosen on the validation window, good for any cut.

    Attributes:
        generators: name -> parameters of ``build``, in pool order.

        trend: ``half_life_days`` and ``first_only``.

        trend_weight: of the CF scorer.

        sources: name -> ``weight`` and ``epsilon`` in the CF scorer.

        limits: name -> pool size of the generator.

        search: what was tried, in order: ``tried``, its ``ndcg@20`` on the validation window, whether it was ``kept``.

        untried: what the search had no time for.

        left_out: generators that found nothing relevant which others do not find with fewer candidates.
    """

    generators: Mapping[str, Mapping[str, Any]]
    trend: Mapping[str, Any]
    trend_weight: float
    sources: Mapping[str, Mapping[str, float]] = field(default_factory=lambda: SOURCES)
    limits: Mapping[str, int] = field(default_factory=lambda: DEFAULT_POOL_SIZES)
    search: tuple[Mapping[str, Any], ...] = ()
    untried: int = 0
    left_out: tuple[str, ...] = ()

    @classmethod
    def of(cls, generators: Mapping[str, Mapping[str, Any]], trend: Mapping[str, Any], trend_weight: float) -> Recipe:
        """The built-in generators with these parameters or their own, and every other that is installed."""
        others = sorted(generator_names() - set(DEFAULT_POOL_SIZES))
        chosen = {name: dict(generators.get(name, {})) for name in (*DEFAULT_POOL_SIZES, *others)}
        chosen["popularity"] = {**trend, **chosen["popularity"]}
        return cls(chosen, trend, trend_weight)

    def limit(self, name: str) -> int:
        """Pool size of a generator."""
        return self.limits.get(name, DEFAULT_POOL_SIZE)

    @property
    def cf(self) -> CfParams:
        """Parameters of the CF scorer."""
        return cf_params(self.trend, self.trend_weight, self.sources)


def cf_params(
    trend: Mapping[str, Any], trend_weight: float, sources: Mapping[str, Mapping[str, float]] = SOURCES
) -> CfParams:
    """Parameters of the CF scorer for a trend."""
    return CfParams.of(
        {
            "sources": sources,
            "trend_weight": trend_weight,
            "trend_half_life_days": trend["half_life_days"],
            "trend_first_only": trend["first_only"],
        }
    )


def similar_params(trend: Mapping[str, Any]) -> CfParams:
    """Parameters of the scorer of ``SimilarItems``: items that go with one item or are like it.

    Not chosen on data: events do not say which of two items goes better with a third. The trend only decides between
    items about which nothing else is known.
    """
    sources = {"co_occurrence": {"weight": 1.0}, "random_walk": {"weight": 0.5}, "content": {"weight": 0.5}}
    return cf_params(trend, 0.1, sources)
