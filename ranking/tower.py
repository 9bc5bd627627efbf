"""Training of the user tower and the item vectors."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from ranking.networks import MAX_EVENTS
from ranking.tower_run import TowerQuestions, TowerRun, TowerSettings
from ranking.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Callable

    from core.types import Vector
    from ranking.networks import UserTower
    from ranking.sequences import Sequences


def _silent(epoch: int, loss: float, metric: float) -> None:
    """Say nothing."""


@dataclass
class TowerResult:
    """A trained tower.

    Attributes:
        tower: the network at the best epoch, on the CPU, in evaluation mode.

        item_vectors: [items, d] float32; zeros for items without training events.

        metric: validation NDCG@20 after each epoch; empty without questions.

        best_epoch: epochs of training that ``tower`` has had.

        seconds: wall time.

        stopped_by: "epochs", "patience" or "time".
    """

    tower: UserTower
    item_vectors: Vector
    settings: TowerSettings
    metric: list[float] = field(default_factory=list)
    best_epoch: int = 0
    seconds: float = 0.0
    stopped_by: str = "epochs"


def train_tower(
    sequences: Sequences,
    n_items: int,
    n_types: int,
    *,
    settings: TowerSettings,
    valid: TowerQuestions | None = None,
    init: TowerResult | None = None,
    max_epochs: int = 30,
    patience: int = 3,
    time_limit_s: float = math.inf,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[int, float, float], None] = _silent,
) -> TowerResult:
    """Train tower and item vectors together (softmax over the catalogue, tied item embeddings).

    Two calls with the same arguments give the same weights on a CPU unless ``time_limit_s`` ends them.

    Args:
        sequences: the training events.
        n_items: rows of the catalogue.
        n_types: event types are 0 (unknown) to ``n_types``.
        settings: see ``TowerSettings``.
        valid: questions for early stopping; None = train ``max_epochs``.
        init: a result to start from: same catalogue, same settings.
        max_epochs: most passes over the training events.
        patience: epochs without a better validation NDCG@20 before stopping.
        time_limit_s: no epoch is started that would probably end after this wall time, seconds.
        seed: of weights, order and draws.
        device: "cpu", "cuda" or "auto".
        progress: called after each epoch with its number, mean loss and validation NDCG@20 (NaN without).

    Raises:
        ValueError: there is nothing to learn from.
    """
    started = time.monotonic()
    windows = Windows.cut(
        sequences,
        length=MAX_EVENTS,
        stride=settings.stride,
        horizon_days=settings.horizon_days,
        new_only=settings.new_only,
    )
    if not len(windows):
        raise ValueError("no user has events at two different times: there is no sequence to learn from")
    where = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(where.type == "cpu")
    try:
        run = TowerRun(sequences, n_items, n_types, settings=settings, windows=windows, device=where, seed=seed)
        if init is not None:
            run.start_from(init.tower, init.item_vectors)
        result = TowerResult(run.tower, init.item_vectors if init else run.item_vectors(), settings)
        longest, best = 0.0, run.weights()
        for epoch in range(1, max_epochs + 1):
            began = time.monotonic()
            if epoch > 1 and began - started + longest > time_limit_s:
                result.stopped_by = "time"
                break
            loss = run.epoch(max_epochs)
            value = math.nan if valid is None else run.ndcg(valid)
            better = valid is None or value > max(result.metric, default=-math.inf)
            result.metric.append(value)
            progress(epoch, loss, value)
            longest = max(longest, time.monotonic() - began)
            if better:
                best, result.best_epoch = run.weights(), epoch
            elif epoch - result.best_epoch >= patience:
                result.stopped_by = "patience"
                break
        run.restore(best)
        result.tower, result.item_vectors = run.tower.cpu().eval(), run.item_vectors()
    finally:
        torch.use_deterministic_algorithms(before)
    result.seconds = time.monotonic() - started
    return result
