"""Training of the ranker: which rows of a pool turned out to be relevant."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from ranking.calibrate import Calibration, calibrate
from ranking.model_prior_mix import choose_mix, mix_unwatched
from ranking.networks import INTERACTIONS, Ensemble, Ranker, predict

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from core.types import Scores
    from ranking.ranking_data import RankingData


@dataclass(frozen=True)
class RankerSettings:
    """How rankers are built and trained.

    Attributes:
        hidden: widths of the hidden layers.

        dropout: share of activations dropped while training.

        seeds: rankers whose mean is the score.

        cases: cases of one step.

        negatives: rows that are not relevant, drawn for each case and epoch.

        rate: learning rate.

        decay: weight decay.
    """

    hidden: tuple[int, ...] = (128, 64)
    dropout: float = 0.3
    seeds: int = 1
    batch: int = 32
    negatives: int = 150
    rate: float = 5e-4
    decay: float = 0.1


@dataclass
class RankerResult:
    """Trained rankers.

    Attributes:
        ensemble: the network, in evaluation mode.

        metric: for each seed the validation NDCG@20 after each epoch.

        best_epochs: for each seed the epochs that its ranker has had.

        mixed: validation NDCG@20 of model and extra scores together; NaN where it was not measured.

        calibration: how probabilities compare with what happened on validation; None where it was not measured.

        note: what was not done and why, in words; empty if all was.
    """

    ensemble: Ensemble
    metric: list[list[float]] = field(default_factory=list)
    best_epochs: list[int] = field(default_factory=list)
    seconds: float = 0.0
    mixed: float = math.nan
    calibration: Calibration | None = None
    note: str = ""


_FEWEST_CASES = 20
"""With fewer validation cases early stopping would follow noise."""
_EPOCHS_UNWATCHED = 4
_NOTHING_TO_LEARN = "no training case has both a relevant row and another one in its pool: nothing to learn from"


def _no_progress(seed: int, epoch: int, loss: float, metric: float) -> None:
    """Ignore it."""


def train_ranker(
    data: list[RankingData],
    valid: RankingData | None,
    *,
    settings: RankerSettings | None = None,
    max_epochs: int = 20,
    patience: int = 3,
    time_limit_s: float = math.inf,
    seed: int = 0,
    extra_scores: tuple[int, ...] = (),
    context: tuple[int, ...] = (),
    without: tuple[int, ...] = (),
    progress: Callable[[int, int, float, float], None] = _no_progress,
) -> RankerResult:
    """Train with a softmax over each case's pool (ListNet with sampled negatives; Cao et al. 2007).

    Two calls with the same arguments give the same weights unless ``time_limit_s`` ends them.

    Args:
        data: training pools, each of one cut and one training of the towers.
        valid: held-out cases for early stopping, mix and calibration. With fewer than 20 the number of
            epochs is fixed, and the result's note says so.
        settings: see ``RankerSettings``.
        max_epochs: most passes over the cases.
        patience: epochs without a better validation NDCG@20 before stopping.
        time_limit_s: no epoch is started after this wall time, seconds.
        seed: of weights, order and draws; the seeds of an ensemble count up from it.
        extra_scores: inputs (columns of ``RankingData.inputs``) that are added to the model's score with weights chosen
            on ``valid``, the best first: see ``ranking.model_prior_mix``.
        context: inputs that are the same for all rows of a case; they enter the calibration.
        without: inputs that the rankers must not see, for ablations.
        progress: called after each epoch with seed, epoch, mean loss and validation NDCG@20.

    Raises:
        ValueError: no training case has both a relevant row and another one in its pool.
    """
    settings = settings or RankerSettings()
    started = time.monotonic()
    if not any(len(part) for part in data):
        raise ValueError(_NOTHING_TO_LEARN)
    inputs = np.concatenate([part.inputs() for part in data])
    labels = np.concatenate([part.labels for part in data])
    start = np.concatenate([[0], np.cumsum(np.concatenate([np.diff(part.ptr) for part in data]))])
    groups = _groups(start, labels)
    if not groups:
        raise ValueError(_NOTHING_TO_LEARN)
    watched = valid is not None and len(valid) >= _FEWEST_CASES
    held_out = valid.inputs() if valid is not None else None
    n_features = inputs.shape[1] - INTERACTIONS
    result = RankerResult(Ensemble([], n_features))
    if not watched:
        max_epochs = min(max_epochs, _EPOCHS_UNWATCHED)
        result.note = f"{0 if valid is None else len(valid)} validation cases: {max_epochs} epochs, not watched"
    rankers = []
    for number in range(seed, seed + settings.seeds):
        torch.manual_seed(number)
        ranker = Ranker(n_features, settings.hidden, settings.dropout)
        _standardise(ranker, inputs, without)
        optimiser = torch.optim.AdamW(ranker.parameters(), lr=settings.rate, weight_decay=settings.decay)
        rng = np.random.default_rng(number)
        metric: list[float] = []
        best, best_epoch = copy.deepcopy(ranker.state_dict()), 0
        for epoch in range(1, max_epochs + 1):
            loss = _epoch(ranker, optimiser, inputs, labels, groups=groups, settings=settings, rng=rng)
            value = math.nan if valid is None or held_out is None else valid.ndcg(predict(ranker, held_out))
            metric.append(value)
            progress(number, epoch, loss, value)
            if not watched or value > max(metric[:-1], default=-math.inf):
                best, best_epoch = copy.deepcopy(ranker.state_dict()), epoch
            if epoch - best_epoch >= patience or time.monotonic() - started > time_limit_s:
                break
        ranker.load_state_dict(best)
        rankers.append(ranker.eval())
        result.metric.append(metric)
        result.best_epochs.append(best_epoch)
        if time.monotonic() - started > time_limit_s:
            result.note = f"{result.note} ended by time at seed {number}, epoch {len(metric)}".strip()
            break
    ensemble = result.ensemble = Ensemble(rankers, n_features).eval()
    if watched and valid is not None and held_out is not None:
        result.mixed, order = choose_mix(ensemble, valid, held_out, extra_scores)
        result.calibration = calibrate(ensemble, order, valid, held_out, context)
    else:
        mix_unwatched(ensemble, extra_scores)
    result.seconds = time.monotonic() - started
    return result


def _standardise(ranker: Ranker, inputs: Scores, without: tuple[int, ...]) -> None:
    """Give the ranker mean and deviation of its inputs; what never varies, or must not be seen, gets a weight of 0."""
    deviation = inputs.std(axis=0)
    ranker.mean.copy_(torch.from_numpy(inputs.mean(axis=0)))
    ranker.scale.copy_(torch.from_numpy(np.where(deviation > 1e-6, 1 / np.maximum(deviation, 1e-6), 0)))
    ranker.scale[list(without)] = 0


def _groups(start: NDArray[np.int64], labels: Scores) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """For every case that has both the indices of its relevant rows and of the others."""
    groups = []
    for a, b in pairwise(start):
        positives = labels[a:b] > 0
        if positives.any() and not positives.all():
            groups.append((a + np.flatnonzero(positives), a + np.flatnonzero(~positives)))
    return groups


def _epoch(
    ranker: Ranker,
    optimiser: torch.optim.Optimizer,
    inputs: Scores,
    labels: Scores,
    *,
    groups: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
    settings: RankerSettings,
    rng: np.random.Generator,
) -> float:
    """One pass over the cases; the mean loss."""
    ranker.train()
    order = rng.permutation(len(groups))
    losses = []
    for i in range(0, len(order), settings.batch):
        chosen = [groups[j] for j in order[i : i + settings.batch]]
        picked = [
            np.concatenate(
                [
                    positives,
                    negatives
                    if len(negatives) <= settings.negatives
                    else rng.choice(negatives, settings.negatives, replace=False),
                ]
            )
            for positives, negatives in chosen
        ]
        width = max(map(len, picked))
        index = np.zeros((len(picked), width), np.int64)
        real = np.zeros((len(picked), width), np.bool_)
        for row, rows in enumerate(picked):
            index[row, : len(rows)] = rows
            real[row, : len(rows)] = True
        gain = torch.from_numpy(np.where(real, labels[index], 0).astype(np.float32))
        scores = ranker(torch.from_numpy(inputs[index])).masked_fill(torch.from_numpy(~real), -1e9)
        loss = -(torch.log_softmax(scores, dim=1) * gain / gain.sum(dim=1, keepdim=True)).sum(dim=1).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call] # torch ships it untyped
        nn.utils.clip_grad_norm_(ranker.parameters(), 5.0)
        optimiser.step()
        losses.append(float(loss.detach()))
    return float(np.mean(losses))
