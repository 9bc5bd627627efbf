"""Figures of each rung and each generator on one set of cases, measured through the code that serves."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from offline.evaluate.generator_recall import propose
from offline.evaluate.recommended_lists import available_rungs, recommend_all
from offline.metrics import LONGEST, every_metric, intervals
from offline.progress import silent

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from offline.evaluate.beyond_accuracy import Background
    from offline.evaluate.generator_recall import Proposals
    from offline.evaluate.recommended_lists import EvaluationSet, RecommendedLists, ServedBundle
    from offline.progress import Progress

MAIN = f"ndcg@{LONGEST}"
"""What rungs are ordered by."""


@dataclass(frozen=True)
class Measurement:
    """Every rung's lists for the same cases, lowest rung first, and the generators' proposals.

    Attributes:
        values: rung -> metric -> [q].
    """

    test_set: EvaluationSet
    lists: dict[str, RecommendedLists]
    values: dict[str, dict[str, NDArray[np.float64]]]
    proposals: Proposals

    @property
    def top(self) -> str:
        """The highest rung of the bundle."""
        return list(self.lists)[-1]

    def rungs(self, background: Background | None = None) -> dict[str, dict[str, Any]]:
        """Figures of each rung; what ``Background`` measures too if there is one."""
        popular = next(iter(self.lists.values()))
        figures: dict[str, dict[str, Any]] = {}
        for rung, found in self.lists.items():
            figures[rung] = {**intervals(self.values[rung]), "reached": found.reached}
            if background is not None:
                figures[rung] |= background.figures(found.rows, found.hits, popular.rows, self.test_set.cases.users)
        return figures

    def differences(self) -> dict[str, dict[str, dict[str, float]]]:
        """Each rung minus the one below, case by case."""
        return {
            f"{high} - {low}": difference(self.values[high], self.values[low]) for low, high in pairwise(self.lists)
        }

    def generators(self) -> dict[str, dict[str, Any]]:
        """Figures of each generator and of their union.

        ``best_rung_gain`` is what the highest rung has over the generator's own list, in NDCG, case by case.
        """
        figures = self.proposals.figures()
        for name, values in self.proposals.alone.items():
            gain = intervals({MAIN: self.values[self.top][MAIN] - values[MAIN]})
            figures[name]["best_rung_gain"] = gain[MAIN]
        return figures


def measure(
    served: ServedBundle, test_set: EvaluationSet, *, label: str = "evaluate", progress: Progress = silent
) -> Measurement:
    """The lists of every rung and the proposals of every generator for every case."""
    lists = {
        tier.name: recommend_all(served, test_set, tier, what=label, progress=progress)
        for tier in available_rungs(served)
    }
    values = {rung: every_metric(found.hits, test_set.n_relevant) for rung, found in lists.items()}
    proposals = propose(served.bundle, test_set, what=f"{label} generators", progress=progress)
    return Measurement(test_set, lists, values, proposals)


def difference(
    high: Mapping[str, NDArray[np.float64]], low: Mapping[str, NDArray[np.float64]]
) -> dict[str, dict[str, float]]:
    """Means and intervals of the paired difference of each metric [users]."""
    return intervals({metric: values - low[metric] for metric, values in high.items()})


def order(rungs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of the rungs as they were measured, best last."""
    return sorted(rungs, key=lambda name: float(rungs[name][MAIN]["mean"]))
