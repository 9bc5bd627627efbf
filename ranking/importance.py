"""Importance of a ranker's inputs: the drop of NDCG with each one shuffled, and with each group left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ranking.networks import INTERACTION_NAMES, predict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ranking.networks import Ensemble
    from ranking.ranking_data import RankingData

_RESAMPLES = 500


@dataclass(frozen=True)
class Importance:
    """Drop of NDCG@20 without an input or a group of inputs, with a 95 % interval over cases."""

    name: str
    drop: float
    low: float
    high: float


def input_names(features: Sequence[str]) -> tuple[str, ...]:
    """Names of the columns of ``RankingData.inputs``."""
    return (*features, *INTERACTION_NAMES)


def groups(features: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Inputs that belong together: group -> columns of ``RankingData.inputs``."""
    found: dict[str, list[int]] = {}
    for at, name in enumerate(input_names(features)):
        found.setdefault(_group(name), []).append(at)
    return {name: tuple(columns) for name, columns in found.items()}


def _group(name: str) -> str:
    for prefix, group in _GROUPS:
        if name.startswith(prefix):
            return group
    return "item"


_GROUPS = (
    ("score_", "sources"),
    ("known_", "sources"),
    ("prior", "prior"),
    ("trend_", "trend"),
    ("first_trend_", "trend"),
    ("history_", "user"),
    ("repeats_", "user"),
    ("in_history", "own past"),
    ("content_", "content"),
    ("tower_", "tower"),
    ("category_", "taste"),
    ("price_to_", "taste"),
)


def importance(ensemble: Ensemble, data: RankingData, features: Sequence[str], *, seed: int = 0) -> list[Importance]:
    """Permutation importance (Breiman 2001) of every input, most important first.

    An input is shuffled over all rows of ``data``. Inputs that carry nearly the same information share their importance: see ``ablation``.
    """
    inputs = data.inputs()
    base = data.ndcg_each(predict(ensemble, inputs))
    rng = np.random.default_rng(seed)
    found = []
    for at, name in enumerate(input_names(features)):
        column = inputs[:, at].copy()
        inputs[:, at] = rng.permutation(column)
        found.append(_importance_of(name, base - data.ndcg_each(predict(ensemble, inputs)), seed))
        inputs[:, at] = column
    return sorted(found, key=lambda one: -one.drop)


def ablation(
    train: Callable[[tuple[int, ...]], Ensemble], full: Ensemble, data: RankingData, features: Sequence[str]
) -> list[Importance]:
    """Importance of each group of inputs: the ranker is trained again without it and measured on the same cases.

    Args:
        train: a ranker that does not see these columns of ``RankingData.inputs``.
        full: the ranker that sees all.
        data: held-out cases.
        features: names of the features.
    """
    inputs = data.inputs()
    base = data.ndcg_each(predict(full, inputs))
    found = [
        _importance_of(name, base - data.ndcg_each(predict(train(columns), inputs)), 0)
        for name, columns in groups(features).items()
    ]
    return sorted(found, key=lambda one: -one.drop)


def _importance_of(name: str, lost: NDArray[np.float64], seed: int) -> Importance:
    rng = np.random.default_rng(seed)
    means = [lost[rng.integers(0, len(lost), len(lost))].mean() for _ in range(_RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return Importance(name, float(lost.mean()), float(low), float(high))
