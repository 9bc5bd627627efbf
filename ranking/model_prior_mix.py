"""The mix of model and prior: the weights of the model's score, the prior and the tower's own score in the final score.

    final score = model_weight * score of the rankers + sum over extra scores of weight * score

Rankers that learned from a few windows err in other places than prior and tower do, so the weighted sum orders better
than any of them. The weights are those with the best NDCG on the validation window, out of a small grid.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from ranking.networks import predict

if TYPE_CHECKING:
    from core.types import Scores
    from ranking.networks import Ensemble
    from ranking.ranking_data import RankingData

EXTRA_WEIGHTS = (0.0, 0.25, 0.5, 1.0)
"""Tried for each extra score; powers of two, so that the sum is the same to the last bit wherever it is computed."""
MODEL_WEIGHTS = (1.0, 0.5, 0.25, 0.0)
UNWATCHED_WEIGHT = 1.0
"""Of the first extra score where there are too few validation cases to choose on; the model's is 1."""


def choose_mix(
    ensemble: Ensemble, valid: RankingData, inputs: Scores, extra_scores: tuple[int, ...]
) -> tuple[float, Scores]:
    """Give the ensemble the weights that are best on ``valid``.

    Args:
        ensemble: gets the weights.
        valid: held-out cases.
        inputs: ``valid.inputs()``.
        extra_scores: columns of ``inputs`` to mix with the model's score.

    Returns:
        NDCG@20 on ``valid``, and the final scores [n].
    """
    learned = predict(ensemble, inputs)

    def mixed(mix: tuple[float, ...]) -> Scores:
        model_weight, *weights = mix
        extra = (weight * inputs[:, at] for weight, at in zip(weights, extra_scores, strict=True))
        return np.asarray(model_weight * learned + sum(extra))

    model_weights = MODEL_WEIGHTS if extra_scores else MODEL_WEIGHTS[:1]
    mixes = [mix for mix in product(model_weights, *[EXTRA_WEIGHTS] * len(extra_scores)) if any(mix)]
    figures = {mix: valid.ndcg(mixed(mix)) for mix in mixes}
    model_weight, *weights = best = max(figures, key=lambda mix: figures[mix])
    ensemble.model_weight.fill_(model_weight)
    for weight, at in zip(weights, extra_scores, strict=True):
        ensemble.input_weights[at] = weight
    return figures[best], mixed(best)


def mix_unwatched(ensemble: Ensemble, extra_scores: tuple[int, ...]) -> None:
    """The weights where nothing can be measured: the model's and the first extra score's are 1."""
    if extra_scores:
        ensemble.input_weights[extra_scores[0]] = UNWATCHED_WEIGHT
