"""How a build makes its deep rung: towers at rolling cuts, pools of what the generators really propose, a ranker."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from offline.evaluate import user_states
from offline.fit import Known, fit
from offline.pools import queries as ask
from offline.pools import questions
from ranking.export import export_tower, save_model
from ranking.features import Features, SourceScale
from ranking.onnx_scorer import OnnxUserEncoder
from ranking.ranker import RankerResult, RankerSettings, RankingData, train_ranker
from ranking.tower import TowerResult, train_tower
from ranking.tower_settings import TowerQuestions, TowerSettings

if TYPE_CHECKING:
    from pathlib import Path

    from candidate_gen.content import Content
    from core.types import UserEncoder
    from offline.fit import Fitted, Recipe, World
    from offline.plan import Plan, Window
    from offline.pools import Question
    from offline.progress import Progress

MAX_CASES = 3_000
"""Questions of one window that the ranker learns from; bounds memory and time of a build."""
FIRST_EPOCHS = 3
NEXT_EPOCHS = 1
"""Epochs that bring a tower from one cut to the next, on the events up to the later one."""
RANKER_EPOCHS = 12
TREND_ITEMS = 20_000
"""Up to so many items the tower is trained against the whole catalogue, and so can be told of the trend."""
TOWER_S = 75.0
RANKER_S = 60.0


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
class _Asked:
    """One window's questions and what was fitted for them."""

    fitted: Fitted
    tower: TowerResult
    questions: list[Question]


class DeepTrainer:
    """Trains the deep rung of one build."""

    def __init__(self, world: World, recipe: Recipe, *, seed: int, warnings: list[str], progress: Progress) -> None:
        """Remember what to train from, and where to say what was not done as asked."""
        self._world, self._recipe, self._seed, self._progress = world, recipe, seed, progress
        self._warnings = warnings
        # What a user likes beyond the trend of the day is the tower's business; where time says nothing there is none.
        trending = recipe.trend_weight > 0 and world.n_items <= TREND_ITEMS
        self._tower_settings = TowerSettings(
            new_only=True,
            answers=4,
            trend_half_life_days=recipe.trend["half_life_days"] if trending else None,
            dropout=0.4,
            decay=0.3,
            stride=50,
        )

    def train(self, plan: Plan) -> Model | None:
        """The model of a plan; None, with a warning, where there is nothing to learn from."""
        tower: TowerResult | None = None
        asked = []
        for window in (*plan.train, plan.valid):
            try:
                one = self._ask(window, tower)
            except ValueError as error:
                self._warnings.append(f"the ladder of this bundle ends at CF: {error}")
                return None
            tower = one.tower
            asked.append(one)
        *training, held_out = asked
        scales = self._scales(training)
        data = [self._data(one, scales) for one in training]
        valid = self._data(held_out, scales)
        try:
            ranker = train_ranker(
                [part for part in data if len(part)],
                valid,
                settings=RankerSettings(),
                prior=self._features(held_out.fitted, scales).names.index("prior"),
                max_epochs=RANKER_EPOCHS,
                time_limit_s=RANKER_S,
                seed=self._seed,
                progress=self._tell_ranker,
            )
        except ValueError as error:
            self._warnings.append(f"the ladder of this bundle ends at CF: {error}")
            return None
        if ranker.note:
            self._warnings.append(f"the ranker: {ranker.note}")
        about = {
            "width": held_out.tower.item_vectors.shape[1],
            "tower_epochs": [one.tower.best_epoch for one in asked],
            "tower_ndcg@20": _measured(asked[0].tower.metric),
            "ranker_epochs": ranker.best_epochs,
            "ranker_ndcg@20": [_measured(metric) for metric in ranker.metric],
            "training_questions": sum(map(len, data)),
            "validation_questions": len(valid),
            "note": ranker.note,
        }
        return Model(held_out.tower, ranker, scales, valid.features[:1000], about)

    def tower_at(self, known: Known, init: TowerResult | None, valid: TowerQuestions | None = None) -> TowerResult:
        """A tower that knows the events of ``known``, from scratch or from an earlier one."""
        what = "train user tower" if init is None else "bring user tower up to date"
        epochs = FIRST_EPOCHS if init is None else NEXT_EPOCHS
        result = train_tower(
            known.sequences,
            self._world.n_items,
            len(self._world.data.event_types),
            settings=self._tower_settings,
            valid=valid,
            init=init,
            max_epochs=epochs,
            time_limit_s=TOWER_S,
            seed=self._seed,
            progress=lambda epoch, loss, metric: self._progress(
                what, epoch, epochs, f"loss {loss:.3f} NDCG@20 {metric:.4f}"
            ),
        )
        if result.stopped_by == "time":
            self._warnings.append(
                f"the user tower was stopped after {TOWER_S:.0f} s: a faster machine trains it longer"
            )
        return result

    def fit(self, known: Known, tower: TowerResult) -> Fitted:
        """Generators, prior and encoder at a cut."""
        return fit(self._world, known, self._recipe, item_vectors=tower.item_vectors, encoder=self._encoder(tower))

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

    def _ask(self, window: Window, init: TowerResult | None) -> _Asked:
        world = self._world
        known = Known.at(world, window.cut)
        cases = window.cases(world.log, world.targets, new_only=True).sample(MAX_CASES, self._seed)
        valid = None
        if init is None and len(cases):
            sequences = known.sequences
            with_past = [i for i, user in enumerate(cases.users) if sequences.ptr[user + 1] > sequences.ptr[user]]
            users = cases.users[with_past]
            valid = TowerQuestions(sequences, users, sequences.ptr[users + 1], [cases.relevant[i] for i in with_past])
        tower = self.tower_at(known, init, valid)
        fitted = self.fit(known, tower)
        states = user_states(world.log, cases, fitted.bundle, world.data.event_types)
        asked = ask(fitted.bundle, cases, states, allow_repeats=False)
        pools = questions(fitted.bundle, asked, cases, what="make training pools", progress=self._progress)
        return _Asked(fitted, tower, pools)

    def _encoder(self, tower: TowerResult) -> UserEncoder:
        path = self._world.scratch / "tower.onnx"
        export_tower(path, tower.tower, tower.item_vectors)
        return OnnxUserEncoder(path, tower.item_vectors)

    def _scales(self, asked: list[_Asked]) -> dict[str, SourceScale]:
        sources = asked[0].fitted.bundle.generators
        every = [question.pool.source_scores for one in asked for question in one.questions]
        scores = np.concatenate(every) if every else np.empty((0, len(sources)), np.float32)
        return {generator.name: SourceScale.fit(scores[:, i]) for i, generator in enumerate(sources)}

    def _features(self, fitted: Fitted, scales: dict[str, SourceScale]) -> Features:
        content = cast("Content", fitted.generators["content"])
        return Features.build(
            fitted.known.sequences,
            self._world.data.catalogue,
            as_of_s=fitted.known.inputs.as_of_s,
            scales=scales,
            content=content.vectors,
        )

    def _data(self, asked: _Asked, scales: dict[str, SourceScale]) -> RankingData:
        features = self._features(asked.fitted, scales)
        width = asked.tower.item_vectors.shape[1]
        vectors = [q.query.user_vector() for q in asked.questions if q.query.user_vector is not None]
        matrices = [features.compute(q.query, q.pool) for q in asked.questions]
        lengths = [len(q.pool) for q in asked.questions]
        return RankingData(
            ptr=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
            features=np.concatenate([*matrices, np.empty((0, len(features.names)), np.float32)]),
            labels=np.concatenate([*(q.labels for q in asked.questions), np.empty(0)]).astype(np.float32),
            relevant=np.array([q.n_relevant for q in asked.questions], np.int64),
            user_vectors=np.stack(vectors) if vectors else np.empty((0, width), np.float32),
            items=np.concatenate([*(q.pool.rows for q in asked.questions), np.empty(0, np.int32)]).astype(np.int32),
            item_vectors=asked.tower.item_vectors,
        )

    def _tell_ranker(self, seed: int, epoch: int, loss: float, metric: float) -> None:
        del seed
        self._progress("train ranker", epoch, RANKER_EPOCHS, f"loss {loss:.3f} NDCG@20 {metric:.4f}")


def _measured(metric: list[float]) -> list[float | None]:
    """Figures for JSON, which has no NaN: null where there was nothing to measure on."""
    return [None if math.isnan(value) else value for value in metric]
