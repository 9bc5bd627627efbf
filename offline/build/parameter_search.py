"""How a build finds the parameters of its lower rungs: a short coordinate search on the validation window.

Two very different starts, one for data whose order matters (ratings, views) and one for data that comes in baskets, then
one parameter at a time; what is tried is in ``parameter_grid``. Where users' events are sets, nothing that has to do with
order or time is tried.

Then the weight of each source, then, where users return to items, that of their own past, and at last the pool sizes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np

from candidate_gen.cooccurrence_params import BASKETS, SEQUENCES, SETS
from candidate_gen.popularity import newcomer_mix
from offline.build.cf_evaluator import CfEvaluator
from offline.build.fit import Known
from offline.build.parameter_grid import (
    BASKET_STEPS,
    HALF_LIVES_DAYS,
    NEWCOMER_HALF_LIVES_DAYS,
    NEWCOMER_WEIGHTS,
    OWN_HALF_LIVES_DAYS,
    OWN_TREND_POWERS,
    OWN_WEIGHTS,
    SEQUENCE_STEPS,
    SET_STEPS,
    SOURCE_WEIGHTS,
    TREND_WEIGHTS,
    WALK_STEPS,
)
from offline.build.pool_sizes import DEPTH, NOT_CHOSEN, choose_pool_sizes
from offline.build.recipe import Recipe
from offline.metrics import LONGEST, hit_matrix, per_user
from offline.progress import silent
from offline.split.cuts import DAY_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from core.types import Query, Rows
    from offline.build.fit import World
    from offline.progress import Progress
    from offline.split.windows import Plan, Window
    from ranking.sequences import Sequences

TRIAL_CASES = 1_500
"""Cases of the validation window that a choice is made on; more only make it slower."""
LEAST_GAIN = 0.0025
"""A change must make the figure better by this part of it: less is chance."""
_WHAT = "choose CF parameters"


@dataclass
class _Search:
    """The best recipe so far, and what was tried.

    Attributes:
        evaluators: where recipes are tried.

        names: generators whose pools are judged.

        recipe: the best so far.

        steps: trials there will be, about.

        best: its figure.
    """

    evaluators: tuple[CfEvaluator, ...]
    names: tuple[str, ...]
    recipe: Recipe
    steps: int
    progress: Progress
    best: float = 0.0
    log: list[dict[str, Any]] = field(default_factory=list)

    def move(self, evaluators: tuple[CfEvaluator, ...], names: tuple[str, ...]) -> None:
        """Go on with other cases; the best figure so far is not comparable with theirs."""
        self.evaluators, self.names, self.best = evaluators, names, 0.0

    def attempt(self, what: str, recipes: Sequence[Recipe]) -> None:
        """Keep the best of the recipes, the first of equals, if it is better than what there is."""
        figures = [self._figure(recipe) for recipe in recipes]
        figure = max(figures)
        kept = figure > self.best * (1 + LEAST_GAIN)
        if kept:
            self.best, self.recipe = figure, recipes[figures.index(figure)]
        self.log.append({"tried": what, "ndcg@20": figure, "kept": kept})
        self.progress(_WHAT, min(len(self.log), self.steps), self.steps, f"NDCG@20 {self.best:.4f}")

    def _figure(self, recipe: Recipe) -> float:
        found = np.concatenate([evaluator.ndcg(recipe, self.names) for evaluator in self.evaluators])
        return float(found.mean()) if len(found) else 0.0

    def with_params(self, name: str, params: Mapping[str, Any]) -> Recipe:
        """The best recipe with some parameters of one generator changed."""
        generators = {**self.recipe.generators, name: {**self.recipe.generators[name], **params}}
        return replace(self.recipe, generators=generators)

    def with_weight(self, name: str, weight: float) -> Recipe:
        """The best recipe with another weight of one source."""
        sources = {**self.recipe.sources, name: {**self.recipe.sources[name], "weight": weight}}
        return replace(self.recipe, sources=sources)


def choose(world: World, plan: Plan, *, budget_s: float, seed: int, progress: Progress = silent) -> Recipe:
    """Choose the parameters of the lower rungs on the validation window.

    Weights of sources are chosen on the training window before it, too: they differ by a hundredth, and on the thousand
    users of one window such a difference is that window's alone.

    Args:
        world: what was read.

        plan: its windows.

        budget_s: no new trial of a kernel starts after so many seconds.

        seed: of the draw of cases.

        progress: called after each trial.
    """
    ends_at = monotonic() + budget_s
    start = Recipe.of({}, {"half_life_days": 14.0, "first_only": True}, 0.5)

    def evaluators_of(*windows: Window, repeats: bool) -> tuple[CfEvaluator, ...]:
        return tuple(
            CfEvaluator(world, Known.at(world, window.cut), window, start, repeats=repeats, size=TRIAL_CASES, seed=seed)
            for window in windows
        )

    repeats = world.repeats_before(plan.test.cut)
    (evaluator,), ordered = evaluators_of(plan.valid, repeats=False), world.log.ordered
    trend = choose_trend(
        evaluator.queries,
        evaluator.relevant,
        evaluator.known.sequences,
        world.n_items,
        evaluator.known.inputs.as_of_s,
        ordered=ordered,
    )
    recipe = Recipe.of({"popularity": _for_newcomers(evaluator, trend, world.n_items)}, trend, 0.5)
    if not ordered:  # what a walk over shared users counts is what co_occurrence counts
        recipe = replace(recipe, generators={n: p for n, p in recipe.generators.items() if n != "random_walk"})
    sources = tuple(name for name in ("co_occurrence", "random_walk", "content") if name in recipe.generators)
    names = (*sources, "popularity")
    tunings = 2 * (1 + len(sources)) + (3 if repeats else 0)
    search = _Search((evaluator,), names, recipe, 2 + len(SEQUENCE_STEPS) + len(WALK_STEPS) + tunings, progress)
    for params in (SEQUENCES, BASKETS) if ordered else (SETS,):
        tried = search.with_params("co_occurrence", params)
        search.attempt(f"co_occurrence as {_described(params, ('unit', 'window'))}", _by_trend_weight(tried))
    kernel = search.recipe.generators["co_occurrence"]
    by_unit = {"event": SEQUENCE_STEPS, "session": BASKET_STEPS if ordered else SET_STEPS}
    changes = [("co_occurrence", step) for step in by_unit[kernel.get("unit", "event")]]
    changes += [("random_walk", step) for step in WALK_STEPS if "random_walk" in sources]
    untried = 0
    for name, step in changes:
        tried = search.with_params(name, step)
        if tried.generators[name] == search.recipe.generators[name]:
            continue
        if monotonic() > ends_at:
            untried += 1
            continue
        search.attempt(f"{name} {_described(step)}", _by_trend_weight(tried))
    search.move((evaluator, *evaluators_of(*plan.train[-1:], repeats=False)), names)
    for _ in range(2):
        _choose_weights(search, sources)
    if repeats:
        search.move(evaluators_of(plan.valid, repeats=True), (*names, "buy_again"))
        _choose_own_past(search)
    return replace(_with_pool_sizes(evaluator, search.recipe), search=tuple(search.log), untried=untried)


def choose_trend(
    queries: Sequence[Query],
    relevant: Sequence[Rows],
    sequences: Sequences,
    n_items: int,
    as_of_s: float,
    *,
    ordered: bool = True,
) -> dict[str, Any]:
    """The half-life (none without order), and whether only a user's first event with an item counts, with the best list."""
    best: tuple[float, dict[str, Any]] | None = None
    for first_only in (True, False):
        for half_life in HALF_LIVES_DAYS if ordered else (None,):
            trend = sequences.trend(n_items, as_of_s, half_life, first_only=first_only)
            figure = _ndcg_of_list(queries, relevant, trend)
            if best is None or figure > best[0]:
                best = (figure, {"half_life_days": half_life, "first_only": first_only})
    if best is None:
        raise ValueError("no half-lives to choose from")
    return best[1]


def _for_newcomers(evaluator: CfEvaluator, trend: Mapping[str, Any], n_items: int) -> dict[str, Any]:
    """Parameters of popularity for users without history, where another list than everybody's suits them better.

    Tried on sums in memory, each in a fraction of the time of building the generator. They differ from its lists where
    events of several types, or negative ones, fall on one item, and in the order of items that are equal.
    """
    sequences, as_of_s = evaluator.known.sequences, evaluator.known.inputs.as_of_s
    queries, relevant = evaluator.newcomers()
    everybody = sequences.trend(n_items, as_of_s, trend["half_life_days"], first_only=trend["first_only"])
    best, chosen = _ndcg_of_list(queries, relevant, everybody), {}
    for half_life in NEWCOMER_HALF_LIVES_DAYS:
        begun = _beginnings(sequences, n_items, as_of_s, half_life)
        for weight in NEWCOMER_WEIGHTS:
            figure = _ndcg_of_list(queries, relevant, newcomer_mix(everybody, begun, weight))
            if figure > best:
                best, chosen = figure, {"newcomer_weight": weight, "newcomer_half_life_days": half_life}
    return chosen


def _beginnings(sequences: Sequences, n_items: int, as_of_s: float, half_life_days: float) -> np.ndarray[Any, Any]:
    """[items] decayed weights of events in the day that begins with a user's first one, as ``Popularity`` counts them."""
    begin = sequences.times[sequences.ptr[:-1][sequences.users]]
    age_days = np.maximum(as_of_s - sequences.times, 0) / DAY_S
    weight = sequences.weights * np.exp2(-age_days / half_life_days) * (sequences.times < begin + DAY_S)
    return np.bincount(sequences.items, weight, minlength=n_items)


def _choose_weights(search: _Search, sources: Sequence[str]) -> None:
    """Choose the weight of the trend and of each source, one after the other."""
    search.attempt("weight of the trend", _by_trend_weight(search.recipe))
    for name in sources:
        search.attempt(f"weight of {name}", [search.with_weight(name, weight) for weight in SOURCE_WEIGHTS])


def _by_trend_weight(recipe: Recipe) -> list[Recipe]:
    return [replace(recipe, trend_weight=weight) for weight in TREND_WEIGHTS]


def _choose_own_past(search: _Search) -> None:
    """Choose how long and how much a user's own past counts where lists may repeat it."""
    own = "buy_again"
    search.attempt(
        f"{own} half_life_days (repeats allowed from here)",
        [search.with_params(own, {"half_life_days": days}) for days in OWN_HALF_LIVES_DAYS],
    )
    search.attempt(
        f"{own} trend_power", [search.with_params(own, {"trend_power": power}) for power in OWN_TREND_POWERS]
    )
    search.attempt(f"weight of {own}", [search.with_weight(own, weight) for weight in OWN_WEIGHTS])


def _with_pool_sizes(evaluator: CfEvaluator, recipe: Recipe) -> Recipe:
    """The recipe with pool sizes by what each generator finds; one without weight and candidates is left out."""
    relevant = evaluator.relevant_with_history()
    if not relevant:
        return recipe  # nobody to choose by
    ranked = {
        name: [found.rows for found in evaluator.candidates(recipe, name, DEPTH)]
        for name in recipe.generators
        if name not in NOT_CHOSEN and name != "ann"  # that has no vectors before the deep model is trained
    }
    chosen = choose_pool_sizes(ranked, relevant)
    left_out = tuple(
        name for name, limit in chosen.items() if not limit and not recipe.sources.get(name, {}).get("weight")
    )
    limits = {**recipe.limits, **chosen}
    generators = {name: params for name, params in recipe.generators.items() if name not in left_out}
    return replace(recipe, generators=generators, limits=limits, left_out=left_out)


def _ndcg_of_list(queries: Sequence[Query], relevant: Sequence[Rows], score: np.ndarray[Any, Any]) -> float:
    """Mean NDCG@20 of one and the same list for all."""
    if not queries:
        return 0.0
    order = np.argsort(-score, kind="stable").astype(np.int32)
    counts = np.array([len(rows) for rows in relevant], np.int64)
    hits = hit_matrix([_first_allowed(query, order) for query in queries], relevant, LONGEST)
    return float(per_user(hits, counts, LONGEST)[f"ndcg@{LONGEST}"].mean())


def _first_allowed(query: Query, order: Rows) -> Rows:
    depth = LONGEST * 4
    while True:
        allowed = order[:depth][query.allows(order[:depth])]
        if len(allowed) >= LONGEST or depth >= len(order):
            return allowed[:LONGEST]
        depth *= 4


def _described(params: Mapping[str, Any], names: Sequence[str] | None = None) -> str:
    return ", ".join(f"{name}={value}" for name, value in params.items() if names is None or name in names)
