"""How a build trains the user tower: what suits the data, at one cut after the other."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
import torch

from core.query import MAX_HISTORY
from ranking.cold_item_vectors import project
from ranking.export import export_tower
from ranking.onnx_scorer import OnnxUserEncoder
from ranking.spectral import fit_spectral
from ranking.tower import train_tower
from ranking.tower_settings import FULL_SOFTMAX_ITEMS, TowerCases, TowerSettings

if TYPE_CHECKING:
    from pathlib import Path

    from core.types import UserEncoder
    from offline.build.fit import Known, World
    from offline.build.recipe import Recipe
    from offline.progress import Progress
    from offline.split.cases import Cases
    from ranking.tower_result import TowerResult

TOWER_SHARE = 0.6
"""Of the time to train that the first tower may take; each later one a tenth of that."""
NEXT_EPOCHS = 1
"""Epochs that bring a tower from one cut to the next, on the events up to the later one."""
SET_WIDTH = 512
"""Of vectors at most, where events are sets."""
NEXT_RATE = 0.3
"""Learning rate of those, as a multiple."""
TRAINING_CODE = (
    "ndcg",
    "networks",
    "sequences",
    "softmax",
    "tower",
    "tower_examples",
    "tower_result",
    "tower_run",
    "tower_settings",
)
"""Modules of ``ranking`` that a training runs through: a checkpoint of other code is another training's."""


@dataclass(frozen=True)
class TowerPlan:
    """How long and with what settings the first tower is trained."""

    settings: TowerSettings
    epochs: int
    patience: int


def tower_plan(world: World, recipe: Recipe) -> TowerPlan:
    """What suits the data: long sequences where single events follow each other, short ones where baskets do.

    The settings for sequences come from film ratings, those for baskets from a gift shop's orders. Where nothing goes with
    anything, so that the recipe has no ``co_occurrence``, the defaults of that generator decide: single events.
    """
    if recipe.generators.get("co_occurrence", {}).get("unit", "event") == "event":
        settings = TowerSettings(width=96, context_length=100, blocks=2, stride=100, batch=64, rate=1e-3, new_only=True)
        return TowerPlan(settings, epochs=14, patience=3)
    # What a user likes beyond the trend of the day is for the tower to learn; events without times have no trend.
    trending = recipe.trend_weight > 0 and world.n_items <= FULL_SOFTMAX_ITEMS
    settings = TowerSettings(
        new_only=True,
        targets=4,
        trend_half_life_days=recipe.trend["half_life_days"] if trending else None,
        dropout=0.4,
        decay=0.3,
        stride=50,
    )
    return TowerPlan(settings, epochs=4, patience=2)


class TowerTrainer:
    """Trains the towers of one build.

    Attributes:
        plan: how the first one is trained.
    """

    def __init__(
        self,
        world: World,
        recipe: Recipe,
        *,
        seed: int,
        limit_s: float,
        checkpoints: Path | None,
        warnings: list[str],
        progress: Progress,
    ) -> None:
        """Remember what to train from.

        Args:
            world: what was read.
            recipe: of the lower rungs; says what kind of data it is.
            seed: of every random number.
            limit_s: seconds that the first tower may take; each later one a tenth.
            checkpoints: a folder where a training that was interrupted, or is done, is found again; None = none is kept.
            warnings: gets a line when the time limit ended a training.
            progress: called after every epoch.
        """
        self.plan = tower_plan(world, recipe)
        self._world, self._seed, self._limit_s, self._checkpoints = world, seed, limit_s, checkpoints
        self._warnings, self._progress = warnings, progress

    def first(self, known: Known, cases: Cases) -> TowerResult:
        """A tower from nothing, trained as long as NDCG on ``cases`` gets better.

        Raises:
            ValueError: there is no sequence to learn from.
        """
        sequences = known.sequences
        with_history = [i for i, user in enumerate(cases.users) if sequences.ptr[user + 1] > sequences.ptr[user]]
        users = cases.users[with_history]
        valid = None
        if len(users):
            valid = TowerCases(sequences, users, sequences.ptr[users + 1], [cases.relevant[i] for i in with_history])
        return self._train(known, self.plan.settings, valid=valid, init=None)

    def next(self, known: Known, before: TowerResult) -> TowerResult:
        """The tower of an earlier cut, taught what happened since."""
        settings = replace(self.plan.settings, rate=self.plan.settings.rate * NEXT_RATE)
        return self._train(known, settings, valid=None, init=before)

    def encoder(self, tower: TowerResult) -> UserEncoder:
        """The tower as serving runs it."""
        path = self._world.scratch / "tower.onnx"
        export_tower(path, tower.tower, tower.item_vectors)
        return OnnxUserEncoder(path, tower.item_vectors)

    def _train(
        self, known: Known, settings: TowerSettings, *, valid: TowerCases | None, init: TowerResult | None
    ) -> TowerResult:
        if not self._world.log.ordered:
            return self._of_sets(known, valid, init)
        if init is None:
            what, epochs, limit_s = "train user tower", self.plan.epochs, self._limit_s
        else:
            what, epochs, limit_s = "bring user tower up to date", NEXT_EPOCHS, self._limit_s / 10
        result = train_tower(
            known.sequences,
            self._world.n_items,
            len(self._world.data.event_types),
            settings=settings,
            valid=valid,
            init=init,
            max_epochs=epochs,
            patience=self.plan.patience,
            time_limit_s=limit_s,
            seed=self._seed,
            checkpoint=self._checkpoint(known, settings, valid, init),
            progress=lambda epoch, loss, metric: self._progress(
                what, epoch, epochs, f"loss {loss:.3f} NDCG@20 {metric:.4f}"
            ),
        )
        if result.stopped_by == "time":
            self._warnings.append(
                f"the user tower was stopped after {limit_s:.0f} s: a faster machine, or more --train-minutes, trains it longer"
            )
        result.item_vectors = project(result.item_vectors, self._world.content_vectors)
        return result

    def _of_sets(self, known: Known, valid: TowerCases | None, init: TowerResult | None) -> TowerResult:
        """The tower where no user has events at two different times: order is nothing to learn from."""
        self._progress("train user tower", 0, 1, "the spectrum of who had what")
        result = fit_spectral(
            known.sequences,
            self._world.n_items,
            len(self._world.data.event_types),
            width=SET_WIDTH if init is None else init.settings.width,
            context_length=MAX_HISTORY,
            valid=valid,
        )
        self._progress("train user tower", 1, 1, f"{result.settings.width} wide")
        result.item_vectors = project(result.item_vectors, self._world.content_vectors)
        return result

    def _checkpoint(
        self, known: Known, settings: TowerSettings, valid: TowerCases | None, init: TowerResult | None
    ) -> Path | None:
        """A file named by everything that the training depends on, so that no other build goes on from it."""
        if self._checkpoints is None:
            return None
        self._checkpoints.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(repr((settings, self._seed, self._world.n_items, torch.__version__)).encode())
        for name in TRAINING_CODE:
            digest.update((files("ranking") / f"{name}.py").read_bytes())
        sequences = known.sequences
        arrays = [sequences.ptr, sequences.items, sequences.times, sequences.types]
        arrays += [] if valid is None else [valid.users, *valid.relevant]
        arrays += [] if init is None else [init.item_vectors]
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
        return self._checkpoints / f"tower-{digest.hexdigest()[:16]}.pt"
