"""How a build makes its deep rung: towers at rolling cuts, pools of what the generators really propose, a ranker."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from offline.build.fit import Known, fit
from offline.build.labelled_pools import build_queries, labelled_pools
from offline.build.pool_sizes import pool_sizes_of
from offline.build.tower_training import TOWER_SHARE, TowerTrainer
from ranking.export import save_model
from ranking.features import QUERY_FEATURES, Features, SourceScale
from ranking.importance import ablation, importance, input_names
from ranking.networks import predict
from ranking.ranker import RankerResult, RankerSettings, train_ranker
from ranking.ranking_data import RankingData

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from candidate_gen.registry import BuildableGenerator
    from core.types import Query
    from offline.build.fit import Fitted, World
    from offline.build.labelled_pools import LabelledPool
    from offline.build.recipe import Recipe
    from offline.progress import Progress
    from offline.split.cases import Cases
    from offline.split.windows import Plan, Window
    from ranking.networks import Ensemble
    from ranking.tower_result import TowerResult

MAX_CASES = 3_000
"""Cases of one window, and one kind, that the ranker learns from; bounds memory and time of a build."""
KEPT_NEGATIVES = 250
"""Negatives (rows that are not relevant) kept of a training pool, drawn anew for each case; all relevant rows are kept."""
RANKER_EPOCHS = 12
RANKER_SHARE = 0.2
"""Of the time to train that the ranker may take."""
INSPECTED = 600
"""Validation cases that importances are measured on."""


@dataclass(frozen=True)
class Model:
    """What is learned once and used at any later cut.

    Attributes:
        tower: fitted at the validation cut; later cuts go on from it.

        scales: of the source scores, measured on the training pools.

        sample: [n, F] real features, to check exported graphs with.

        about: what the manifest says of the training.
    """

    tower: TowerResult
    ranker: RankerResult
    scales: dict[str, SourceScale]
    sample: np.ndarray[Any, np.dtype[np.float32]]
    about: dict[str, Any]


@dataclass(frozen=True)
class _WindowPools:
    """What was fitted at one window's cut, and the pools of its cases."""

    fitted: Fitted
    tower: TowerResult
    pools: list[LabelledPool]


class DeepTrainer:
    """Trains the deep rung of one build.

    Attributes:
        towers: trains its towers.
    """

    def __init__(
        self,
        world: World,
        recipe: Recipe,
        *,
        seed: int,
        train_s: float,
        checkpoints: Path | None,
        ablate: bool,
        warnings: list[str],
        progress: Progress,
    ) -> None:
        """Remember what to train from.

        Args:
            world: what was read.
            recipe: of the lower rungs.
            seed: of every random number.
            train_s: about how long towers and ranker may take, seconds.
            checkpoints: see ``TowerTrainer``.
            ablate: train the ranker once more without each group of inputs.
            warnings: gets a line for everything that was not done as the options wanted.
            progress: called during everything that takes long.
        """
        self._world, self._recipe, self._seed, self._progress = world, recipe, seed, progress
        self._warnings, self._train_s, self._ablate = warnings, train_s, ablate
        self.towers = TowerTrainer(
            world,
            recipe,
            seed=seed,
            limit_s=TOWER_SHARE * train_s,
            checkpoints=checkpoints,
            warnings=warnings,
            progress=progress,
        )

    def train(self, plan: Plan) -> Model | None:
        """The model of a plan; None, with a warning, where there is nothing to learn from."""
        tower: TowerResult | None = None
        windows = []
        repeating = self._world.repeats_before(plan.test.cut)
        for window in (*plan.train, plan.valid):
            try:
                one = self._window_pools(window, tower, repeating=repeating)
            except ValueError as error:
                self._warnings.append(f"the ladder of this bundle ends at CF: {error}")
                return None
            tower = one.tower
            windows.append(one)
        *training, held_out = windows
        scales = self._scales(training)
        rng = np.random.default_rng(self._seed)
        data = [part for part in (self._data(one, scales, rng) for one in training) if len(part)]
        valid = self._data(held_out, scales, None)
        names = self._features(held_out.fitted, scales).names
        try:
            ranker = self._rank(data, valid, names, ())
        except ValueError as error:
            self._warnings.append(f"the ladder of this bundle ends at CF: {error}")
            return None
        if ranker.note:
            self._warnings.append(f"the ranker: {ranker.note}")
        about = {
            "tower": asdict(self.towers.plan.settings),
            "tower_epochs": [one.tower.best_epoch for one in windows],
            "tower_ndcg@20": _measured(windows[0].tower.metric),
            "ranker_epochs": ranker.best_epochs,
            "ranker_ndcg@20": [_measured(metric) for metric in ranker.metric],
            "mix": _mix(ranker.ensemble, names),
            "calibration": None if ranker.calibration is None else asdict(ranker.calibration),
            "training_cases": sum(map(len, data)),
            "validation_cases": len(valid),
            "note": ranker.note,
            **self._input_importance(ranker.ensemble, data, valid, names),
        }
        return Model(held_out.tower, ranker, scales, valid.features[:1000], about)

    def fit(self, known: Known, tower: TowerResult, reuse: Mapping[str, BuildableGenerator] | None = None) -> Fitted:
        """Generators, prior and encoder at a cut."""
        encoder = self.towers.encoder(tower)
        return fit(self._world, known, self._recipe, item_vectors=tower.item_vectors, encoder=encoder, reuse=reuse)

    def write(self, folder: Path, model: Model, tower: TowerResult, fitted: Fitted) -> dict[str, Any]:
        """Write the model's folder of a bundle; returns what the manifest says of it."""
        features = self._features(fitted, model.scales)
        save_model(
            folder,
            tower=tower.tower,
            ensemble=model.ranker.ensemble,
            item_vectors=tower.item_vectors,
            features=features,
            sample=model.sample,
            about=model.about,
        )
        return {**model.about, "features": list(features.names)}

    def _window_pools(self, window: Window, before: TowerResult | None, *, repeating: bool) -> _WindowPools:
        """Fit at the window's cut and make the pools of its cases: new items only, and also repeats where users return to items."""
        world = self._world
        known = Known.at(world, window.cut)
        cases = world.cases(window, new_only=True).sample(MAX_CASES, self._seed)
        tower = self.towers.first(known, cases) if before is None else self.towers.next(known, before)
        fitted = self.fit(known, tower)
        found: list[LabelledPool] = []
        for repeats in (False, True) if repeating else (False,):
            if repeats:
                cases = world.cases(window, new_only=False).sample(MAX_CASES, self._seed)
            states = world.user_states(cases)
            queries = build_queries(fitted.bundle, cases, states, allow_repeats=repeats)
            if before is None and not repeats:
                fitted = self._with_pool_sizes(fitted, tower, queries, cases)
            found += labelled_pools(fitted.bundle, queries, cases, what="make training pools", progress=self._progress)
        return _WindowPools(fitted, tower, found)

    def _with_pool_sizes(self, fitted: Fitted, tower: TowerResult, queries: Sequence[Query], cases: Cases) -> Fitted:
        """Choose the pool sizes again, now that there are vectors: on the first window, for this and all later cuts."""
        if not any(len(query.history) for query in queries):
            return fitted  # nobody to choose by
        limits = {**self._recipe.limits, **pool_sizes_of(fitted.bundle, queries, cases.relevant)}
        self._recipe = replace(self._recipe, limits=limits)
        return self.fit(fitted.known, tower, reuse=fitted.generators)

    def _rank(
        self, data: list[RankingData], valid: RankingData, names: tuple[str, ...], without: tuple[int, ...]
    ) -> RankerResult:
        inputs = input_names(names)
        return train_ranker(
            data,
            valid,
            settings=RankerSettings(),
            extra_scores=tuple(at for at in (inputs.index("prior"), inputs.index("tower_dot")) if at not in without),
            context=tuple(inputs.index(name) for name in QUERY_FEATURES),
            without=without,
            max_epochs=RANKER_EPOCHS,
            time_limit_s=RANKER_SHARE * self._train_s,
            seed=self._seed,
            progress=self._report_epoch,
        )

    def _input_importance(
        self, ensemble: Ensemble, data: list[RankingData], valid: RankingData, names: tuple[str, ...]
    ) -> dict[str, Any]:
        """Importance of every input and, with ``ablate``, of each group of them."""
        if not len(valid):
            return {}
        found: dict[str, Any] = {
            "importance": [
                {"feature": one.name, "drop": one.drop, "low": one.low, "high": one.high}
                for one in importance(ensemble, valid.spread(INSPECTED), names, seed=self._seed)
            ]
        }
        if self._ablate:
            full = valid.ndcg(predict(ensemble, valid.inputs()))
            groups = ablation(lambda off: self._rank(data, valid, names, off).ensemble, ensemble, valid, names)
            found["ablation"] = [
                {
                    "without": one.name,
                    "ndcg@20": full - one.drop,
                    "difference": -one.drop,
                    "low": -one.high,
                    "high": -one.low,
                }
                for one in groups
            ]
        return found

    def _scales(self, windows: list[_WindowPools]) -> dict[str, SourceScale]:
        sources = windows[0].fitted.bundle.generators
        every = [labelled.pool.source_scores for one in windows for labelled in one.pools]
        scores = np.concatenate(every) if every else np.empty((0, len(sources)), np.float32)
        return {generator.name: SourceScale.fit(scores[:, i]) for i, generator in enumerate(sources)}

    def _features(self, fitted: Fitted, scales: dict[str, SourceScale]) -> Features:
        return Features.build(
            fitted.known.sequences,
            self._world.data.catalogue,
            as_of_s=fitted.known.inputs.as_of_s,
            scales=scales,
            content=self._world.content_vectors,
        )

    def _data(
        self, window: _WindowPools, scales: dict[str, SourceScale], thin: np.random.Generator | None
    ) -> RankingData:
        """The pools as matrices; all rows, or all relevant ones and ``KEPT_NEGATIVES`` others."""
        features = self._features(window.fitted, scales)
        width = window.tower.item_vectors.shape[1]
        vectors, matrices, labels, items = [], [], [], []
        for labelled in window.pools:
            pool, label = labelled.pool, labelled.labels
            negatives = np.flatnonzero(~label)
            if thin is not None and len(negatives) > KEPT_NEGATIVES:
                drawn = thin.choice(negatives, KEPT_NEGATIVES, replace=False)
                kept = np.sort(np.concatenate([np.flatnonzero(label), drawn]))
                pool, label = pool.take(kept), label[kept]
            encode = labelled.query.user_vector
            vectors.append(np.zeros(width, np.float32) if encode is None else encode())
            matrices.append(features.compute(labelled.query, pool))
            labels.append(label)
            items.append(pool.rows)
        return RankingData(
            ptr=np.concatenate([[0], np.cumsum([len(rows) for rows in items], dtype=np.int64)]),
            features=np.concatenate([*matrices, np.empty((0, len(features.names)), np.float32)]),
            labels=np.concatenate([*labels, np.empty(0)]).astype(np.float32),
            relevant=np.array([labelled.n_relevant for labelled in window.pools], np.int64),
            user_vectors=np.stack(vectors) if vectors else np.empty((0, width), np.float32),
            items=np.concatenate([*items, np.empty(0, np.int32)]).astype(np.int32),
            item_vectors=window.tower.item_vectors,
        )

    def _report_epoch(self, seed: int, epoch: int, loss: float, metric: float) -> None:
        del seed
        self._progress("train ranker", epoch, RANKER_EPOCHS, f"loss {loss:.3f} NDCG@20 {metric:.4f}")


def _mix(ensemble: Ensemble, names: tuple[str, ...]) -> dict[str, float]:
    """Weights of the model and of prior and tower score in the final score."""
    weights = zip(input_names(names), ensemble.input_weights.tolist(), strict=True)
    return {"model": float(ensemble.model_weight), **{name: weight for name, weight in weights if weight}}


def _measured(metric: list[float]) -> list[float | None]:
    """Figures for JSON, which has no NaN: null where there was nothing to measure on."""
    return [None if math.isnan(value) else value for value in metric]
