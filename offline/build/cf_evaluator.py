"""NDCG of the CF rung that a recipe gives, on the cases of a validation window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from candidate_gen.merge import merge
from candidate_gen.registry import generator_class
from core.types import Pool
from offline.build.fit import fit
from offline.build.labelled_pools import build_queries
from offline.metrics import LONGEST, per_user
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


class CfEvaluator:
    """Generators at one cut and the cases after it; what does not change between two recipes is not made again.

    Attributes:
        known: the events before the cut.

        queries: one per case.

        relevant: the relevant rows of each case.
    """

    def __init__(
        self, world: World, known: Known, window: Window, start: Recipe, *, repeats: bool, size: int, seed: int
    ) -> None:
        """Draw the cases.

        Args:
            world: what was read.
            known: the events before the window.
            window: where the cases come from.
            start: any recipe; queries are resolved against a bundle.
            repeats: items that the user had before are relevant, too.
            size: cases at most.
            seed: of the draw.
        """
        self.known, self._world = known, world
        bare = fit(world, known, start, names=("popularity",)).bundle
        cases = world.cases(window, new_only=not repeats).sample(size, seed)
        states = world.user_states(cases)
        self.queries: list[Query] = build_queries(bare, cases, states, allow_repeats=repeats)
        self.relevant: tuple[Rows, ...] = cases.relevant
        self._with_history = [i for i, query in enumerate(self.queries) if len(query.history)]
        self._made: dict[str, tuple[object, BuildableGenerator]] = {}
        self._found: dict[str, tuple[object, list[Candidates]]] = {}
        self._trends: dict[object, Scores] = {}
        self._batch: tuple[object, PoolBatch] | None = None

    def newcomers(self) -> tuple[list[Query], list[Rows]]:
        """The queries of users without history, and their relevant rows."""
        index = [i for i, query in enumerate(self.queries) if not len(query.history)]
        return [self.queries[i] for i in index], [self.relevant[i] for i in index]

    def relevant_with_history(self) -> list[Rows]:
        """The relevant rows of users with history, in the order of ``ndcg``."""
        return [self.relevant[i] for i in self._with_history]

    def candidates(self, recipe: Recipe, name: str, limit: int) -> list[Candidates]:
        """What a generator proposes to each user with history."""
        params = recipe.generators[name]
        if self._made.get(name, (None,))[0] != params:
            self._made[name] = params, self._built(name, params)
            self._found.pop(name, None)
        if self._found.get(name, (None,))[0] != limit:
            generate = self._made[name][1].generate
            self._found[name] = limit, [generate(self.queries[i], limit) for i in self._with_history]
        return self._found[name][1]

    def ndcg(self, recipe: Recipe, names: Sequence[str]) -> NDArray[np.float64]:
        """NDCG@20 of the CF rung for each user with history, from pools of the named generators."""
        made_of = [(name, recipe.generators[name], recipe.limit(name)) for name in names]
        if self._batch is None or self._batch[0] != made_of:
            self._batch = made_of, self._pooled(recipe, names)
        return self._batch[1].ndcg(self._scorer(recipe.cf))

    def _built(self, name: str, params: Mapping[str, object]) -> BuildableGenerator:
        if name == "content":
            return self._world.content
        return generator_class(name).build(self.known.inputs, **params)

    def _pooled(self, recipe: Recipe, names: Sequence[str]) -> PoolBatch:
        proposed = [self.candidates(recipe, name, recipe.limit(name)) for name in names]
        scorer = self._scorer(recipe.cf)
        pools = [
            merge(found, self.queries[i], tuple(names), scorer)
            for i, *found in zip(self._with_history, *proposed, strict=True)
        ]
        return PoolBatch(pools, self.relevant_with_history(), tuple(names))

    def _scorer(self, params: CfParams) -> CfScorer:
        key = params.trend_half_life_days, params.trend_first_only
        if key not in self._trends:
            self._trends[key] = CfScorer.build(
                self.known.sequences, self._world.n_items, self.known.inputs.as_of_s, params
            ).trend
        return CfScorer(params, self._trends[key])


class PoolBatch:
    """The pools of many cases, one after the other, so that a scorer scores them all in one pass.

    Args:
        pools: one for each case.
        relevant: the relevant rows of each case.
        sources: of the pools.
    """

    def __init__(self, pools: Sequence[Pool], relevant: Sequence[Rows], sources: tuple[str, ...]) -> None:
        sizes = np.array([len(pool) for pool in pools], np.int64)
        width = max(int(sizes.max(initial=0)), LONGEST)
        self._mask = np.arange(width) < sizes[:, None]
        rows = np.concatenate([*(pool.rows for pool in pools), np.empty(0, np.int32)]).astype(np.int32)
        scores = np.concatenate([*(pool.source_scores for pool in pools), np.empty((0, len(sources)), np.float32)])
        self._pool = Pool(rows, scores, sources, np.zeros(len(rows), np.float32))
        self._is_relevant = np.zeros(self._mask.shape, np.bool_)
        for at, (pool, wanted) in enumerate(zip(pools, relevant, strict=True)):
            self._is_relevant[at, : len(pool)] = np.isin(pool.rows, wanted)
        self._n_relevant = np.array([len(wanted) for wanted in relevant], np.int64)

    def ndcg(self, scorer: CfScorer) -> NDArray[np.float64]:
        """[cases] NDCG@20 of each pool in the scorer's order."""
        scores = np.full(self._mask.shape, -np.inf, np.float32)
        scores[self._mask] = scorer.score_rows(self._pool)
        best = np.argpartition(-scores, LONGEST - 1, axis=1)[:, :LONGEST]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        hits = np.take_along_axis(self._is_relevant, np.take_along_axis(best, order, axis=1), axis=1)
        return per_user(hits, self._n_relevant, LONGEST)[f"ndcg@{LONGEST}"]
