"""The questions of a validation window, and how good a recipe's CF rung answers them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from candidate_gen.merge import merge
from candidate_gen.registry import generator_class
from core.types import Pool
from offline.build.fit import fit
from offline.build.pools import LIST_LENGTH, queries
from offline.metrics import per_user
from offline.split.cases import user_states
from ranking.cf_scorer import CfScorer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from candidate_gen.registry import BuildableGenerator
    from core.types import Candidates, Query, Rows, Scores
    from offline.build.fit import Known, World
    from offline.build.recipe import Recipe
    from offline.split.windows import Window
    from ranking.cf_scorer import CfParams


class Lab:
    """Generators at one cut and the questions after it; what does not change between two recipes is not made again.

    Attributes:
        known: the events before the cut.

        asked: one query per question.

        relevant: the answers of each question.
    """

    def __init__(
        self, world: World, known: Known, window: Window, start: Recipe, *, repeats: bool, size: int, seed: int
    ) -> None:
        """Draw the questions.

        Args:
            world: what was read.
            known: the events before the window.
            window: whose questions to ask.
            start: any recipe; questions are resolved against a bundle.
            repeats: ask for items that the user had before, too.
            size: most questions.
            seed: of the draw.
        """
        self.known, self._world = known, world
        bare = fit(world, known, start, names=("popularity",)).bundle
        cases = window.cases(world.log, world.targets, new_only=not repeats).sample(size, seed)
        states = user_states(world.log, cases, bare, world.data.event_types)
        self.asked: list[Query] = queries(bare, cases, states, allow_repeats=repeats)
        self.relevant: tuple[Rows, ...] = cases.relevant
        self._with_past = [i for i, query in enumerate(self.asked) if len(query.history)]
        self._made: dict[str, tuple[object, BuildableGenerator]] = {}
        self._found: dict[str, tuple[object, list[Candidates]]] = {}
        self._trends: dict[object, Scores] = {}
        self._blend: tuple[object, Blend] | None = None

    def newcomers(self) -> tuple[list[Query], list[Rows]]:
        """The questions of users without history, and their answers."""
        index = [i for i, query in enumerate(self.asked) if not len(query.history)]
        return [self.asked[i] for i in index], [self.relevant[i] for i in index]

    def answers(self) -> list[Rows]:
        """The answers of the questions of users with history."""
        return [self.relevant[i] for i in self._with_past]

    def candidates(self, recipe: Recipe, name: str, limit: int) -> list[Candidates]:
        """What a generator proposes to each user with history."""
        params = recipe.generators[name]
        if self._made.get(name, (None,))[0] != params:
            self._made[name] = params, self._built(name, params)
            self._found.pop(name, None)
        if self._found.get(name, (None,))[0] != limit:
            generate = self._made[name][1].generate
            self._found[name] = limit, [generate(self.asked[i], limit) for i in self._with_past]
        return self._found[name][1]

    def ndcg(self, recipe: Recipe, names: Sequence[str]) -> NDArray[np.float64]:
        """NDCG@20 of the CF rung for each user with history, from pools of the named generators."""
        made_of = [(name, recipe.generators[name], recipe.limit(name)) for name in names]
        if self._blend is None or self._blend[0] != made_of:
            self._blend = made_of, self._blended(recipe, names)
        return self._blend[1].ndcg(self._scorer(recipe.cf))

    def _built(self, name: str, params: Mapping[str, object]) -> BuildableGenerator:
        if name == "content":
            return self._world.content
        return generator_class(name).build(self.known.inputs, **params)

    def _blended(self, recipe: Recipe, names: Sequence[str]) -> Blend:
        proposed = [self.candidates(recipe, name, recipe.limit(name)) for name in names]
        scorer = self._scorer(recipe.cf)
        pools = [
            merge(found, self.asked[i], tuple(names), scorer)
            for i, *found in zip(self._with_past, *proposed, strict=True)
        ]
        return Blend(pools, self.answers(), tuple(names))

    def _scorer(self, params: CfParams) -> CfScorer:
        key = params.trend_half_life_days, params.trend_first_only
        if key not in self._trends:
            self._trends[key] = CfScorer.build(
                self.known.sequences, self._world.n_items, self.known.inputs.as_of_s, params
            ).trend
        return CfScorer(params, self._trends[key])


class Blend:
    """The pools of many questions, laid end to end, so that a scorer scores them all in one pass.

    Args:
        pools: one for each question.
        relevant: the answers of each question.
        sources: of the pools.
    """

    def __init__(self, pools: Sequence[Pool], relevant: Sequence[Rows], sources: tuple[str, ...]) -> None:
        sizes = np.array([len(pool) for pool in pools], np.int64)
        width = max(int(sizes.max(initial=0)), LIST_LENGTH)
        self._mask = np.arange(width) < sizes[:, None]
        rows = np.concatenate([*(pool.rows for pool in pools), np.empty(0, np.int32)]).astype(np.int32)
        scores = np.concatenate([*(pool.source_scores for pool in pools), np.empty((0, len(sources)), np.float32)])
        self._pool = Pool(rows, scores, sources, np.zeros(len(rows), np.float32))
        self._right = np.zeros(self._mask.shape, np.bool_)
        for at, (pool, wanted) in enumerate(zip(pools, relevant, strict=True)):
            self._right[at, : len(pool)] = np.isin(pool.rows, wanted)
        self._n_relevant = np.array([len(wanted) for wanted in relevant], np.int64)

    def ndcg(self, scorer: CfScorer) -> NDArray[np.float64]:
        """[questions] NDCG@20 of each pool in the scorer's order."""
        scores = np.full(self._mask.shape, -np.inf, np.float32)
        scores[self._mask] = scorer.score_rows(self._pool)
        best = np.argpartition(-scores, LIST_LENGTH - 1, axis=1)[:, :LIST_LENGTH]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        hits = np.take_along_axis(self._right, np.take_along_axis(best, order, axis=1), axis=1)
        return per_user(hits, self._n_relevant, LIST_LENGTH)[f"ndcg@{LIST_LENGTH}"]
