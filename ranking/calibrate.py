"""From scores that order one user's pool to probabilities that mean the same for every user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from core.types import Scores
    from ranking.networks import Ensemble
    from ranking.ranking_data import RankingData

_BINS = 10
_ROUNDS = 25
_RIDGE = 1e-3


@dataclass(frozen=True)
class Calibration:
    """Reliability of the probabilities on the cases they were fitted on.

    Attributes:
        error: mean absolute difference of predicted and observed shares over rows (expected calibration error).

        bins: (mean predicted, observed share, rows), tenths of the rows by prediction, lowest first.
    """

    error: float
    bins: tuple[tuple[float, float, int], ...]


def calibrate(
    ensemble: Ensemble, order: Scores, data: RankingData, inputs: Scores, context: tuple[int, ...]
) -> Calibration:
    """Fit slope, offset and context weights of the ensemble by logistic regression (Platt 1999) on all rows of pools.

    Args:
        ensemble: gets the calibration; its order stays, so a slope that is not positive is not taken over.
        order: [n] what it orders the rows of ``data`` by.
        data: cases that were not trained on.
        inputs: ``data.inputs()``.
        context: inputs that are the same for all rows of a case.
    """
    columns = np.column_stack([order, inputs[:, list(context)]]).astype(np.float64)
    mean, deviation = columns.mean(axis=0), columns.std(axis=0)
    scale = np.where(deviation > 1e-9, 1 / np.maximum(deviation, 1e-9), 0)
    design = np.column_stack([(columns - mean) * scale, np.ones(len(columns))])
    happened = data.labels > 0
    weights = _logistic(design, happened)
    slope = weights[0] * scale[0]
    if slope <= 0:  # what is reported is what is served: the scores as they are
        return _reliability(1 / (1 + np.exp(-order.astype(np.float64))), happened)
    ensemble.slope.fill_(slope)
    for at, weight in zip(context, weights[1:-1] * scale[1:], strict=True):
        ensemble.context[at] = weight
    ensemble.offset.fill_(weights[-1] - float((weights[:-1] * scale) @ mean))
    return _reliability(1 / (1 + np.exp(-design @ weights)), happened)


def _logistic(design: np.ndarray, happened: np.ndarray) -> np.ndarray:
    """Newton's method with a small ridge."""
    weights = np.zeros(design.shape[1])
    weights[-1] = np.log(max(happened.mean(), 1e-9) / max(1 - happened.mean(), 1e-9))
    for _ in range(_ROUNDS):
        predicted = 1 / (1 + np.exp(-design @ weights))
        slope = design.T @ (predicted - happened) + _RIDGE * weights
        curve = (design * (predicted * (1 - predicted))[:, None]).T @ design + _RIDGE * np.eye(len(weights))
        step = np.linalg.solve(curve, slope)
        weights -= step
        if np.abs(step).max() < 1e-8:
            break
    return weights


def _reliability(predicted: np.ndarray, happened: np.ndarray) -> Calibration:
    parts = np.array_split(np.argsort(predicted, kind="stable"), _BINS)
    bins = tuple((float(predicted[p].mean()), float(happened[p].mean()), len(p)) for p in parts if len(p))
    error = sum(abs(guess - share) * rows for guess, share, rows in bins) / max(len(predicted), 1)
    return Calibration(error, bins)
