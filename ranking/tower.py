"""Training of the user tower and the item vectors."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import torch

from ranking.tower_result import TowerResult
from ranking.tower_run import TowerRun

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from ranking.sequences import Sequences
    from ranking.tower_settings import TowerCases, TowerSettings


def _silent(epoch: int, loss: float, metric: float) -> None:
    """Say nothing."""


def train_tower(
    sequences: Sequences,
    n_items: int,
    n_types: int,
    *,
    settings: TowerSettings,
    valid: TowerCases | None = None,
    init: TowerResult | None = None,
    max_epochs: int = 30,
    patience: int = 3,
    time_limit_s: float = math.inf,
    seed: int = 0,
    device: str = "auto",
    checkpoint: Path | None = None,
    progress: Callable[[int, float, float], None] = _silent,
) -> TowerResult:
    """Train tower and item vectors together (softmax over the catalogue, tied item embeddings).

    Two calls with the same arguments give the same weights on a CPU unless ``time_limit_s`` ends them.

    Args:
        sequences: the training events.
        n_items: rows of the catalogue.
        n_types: event types are 0 (unknown) to ``n_types``.
        settings: see ``TowerSettings``.
        valid: cases for early stopping; None = train ``max_epochs``.
        init: a result to start from: same catalogue, same settings.
        max_epochs: most passes over the training events.
        patience: epochs without a better validation NDCG@20 before stopping.
        time_limit_s: no epoch is started that would probably end after this wall time, seconds.
        seed: of weights, order and draws.
        device: "cpu", "cuda" or "auto".
        checkpoint: a file written after every epoch; where it exists, training goes on from it to the same weights.
            It stays, so that a training that ended is not done again, and one that time ended can go on. Whoever names
            it answers for it being of the same data and settings.
        progress: called after each epoch with its number, mean loss and validation NDCG@20 (NaN without).

    Raises:
        ValueError: there is nothing to learn from.
    """
    started = time.monotonic()
    where = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(where.type == "cpu")
    try:
        run = TowerRun(sequences, n_items, n_types, settings=settings, device=where, seed=seed)
        if init is not None:
            run.start_from(init.tower, init.item_vectors)
        result = TowerResult(run.mean_tower, init.item_vectors if init else run.item_vectors(), settings)
        longest, best, first = 0.0, run.weights(), 1
        if checkpoint is not None and checkpoint.exists():
            kept = torch.load(checkpoint, weights_only=True)
            run.resume(kept["run"])
            best, result.metric, result.best_epoch = kept["best"], kept["metric"], kept["best_epoch"]
            first = len(result.metric) + 1
        for epoch in range(first, max_epochs + 1):
            if valid is not None and epoch - 1 - result.best_epoch >= patience:
                result.stopped_by = "patience"
                break
            began = time.monotonic()
            if epoch > 1 and began - started + longest > time_limit_s:
                result.stopped_by = "time"
                break
            loss = run.epoch()
            value = math.nan if valid is None else run.ndcg(valid)
            better = valid is None or value > max(result.metric, default=-math.inf)
            result.metric.append(value)
            progress(epoch, loss, value)
            if better:
                best, result.best_epoch = run.weights(), epoch
            if checkpoint is not None:
                _keep(checkpoint, run, best, result)
            longest = max(longest, time.monotonic() - began)
        else:
            if valid is not None and len(result.metric) - result.best_epoch >= patience:
                result.stopped_by = "patience"
        run.restore(best)
        result.tower, result.item_vectors = run.mean_tower.cpu(), run.item_vectors()
    finally:
        torch.use_deterministic_algorithms(before)
    result.seconds = time.monotonic() - started
    return result


def _keep(checkpoint: Path, run: TowerRun, best: tuple[dict[str, Tensor], Tensor], result: TowerResult) -> None:
    """Write what ``train_tower`` needs to go on; an interrupted write leaves the file before it."""
    draft = checkpoint.with_suffix(".writing")
    torch.save({"run": run.state(), "best": best, "metric": result.metric, "best_epoch": result.best_epoch}, draft)
    draft.replace(checkpoint)
