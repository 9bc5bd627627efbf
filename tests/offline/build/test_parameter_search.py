"""What a build chooses for its lower rungs, and that it measures what will be served."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from candidate_gen.merge import merge
from candidate_gen.popularity import Popularity
from offline.build.builder import Builder
from offline.build.cf_evaluator import CfEvaluator
from offline.build.fit import Known, World, fit
from offline.build.parameter_grid import NEWCOMER_HALF_LIVES_DAYS, NEWCOMER_WEIGHTS, SEQUENCE_STEPS, WALK_STEPS
from offline.build.parameter_search import LEAST_GAIN, _with_pool_sizes, choose, choose_trend
from offline.build.pool_sizes import FLOORS
from offline.build.recipe import Recipe
from offline.metrics import hit_matrix, per_user
from offline.read.dataset import read_dataset
from offline.read.engine import open_engine
from offline.shop import generate_shop
from offline.split.windows import SplitKind, plan_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from offline.split.windows import Plan

SOURCES = ("co_occurrence", "random_walk", "content", "popularity")
USERS = 800
TREND = {"half_life_days": 14.0, "first_only": True}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Plan]]:
    """A small generated shop."""
    with made(tmp_path_factory.mktemp("shop"), users=150) as found:
        yield found


@pytest.fixture
def shop_with_newcomers(tmp_path: Path) -> Iterator[tuple[World, Plan]]:
    """A shop in which newcomers want something else than everybody, and whose events are of one type."""
    with made(tmp_path, users=USERS, only="purchase") as found:
        yield found


@contextmanager
def made(folder: Path, users: int, only: str | None = None) -> Iterator[tuple[World, Plan]]:
    events, items = generate_shop(users, 120, 6_000, 120).write(folder)
    if only is not None:
        table = pq.read_table(events)
        pq.write_table(table.filter(pc.equal(table["event_type"], only)), events)
    with open_engine(memory="1GB", threads=1, folder=folder) as engine:
        world = World.read(read_dataset(str(events), str(items), engine=engine), engine, folder)
        yield world, plan_of(world.log, SplitKind.TIME, 15.0)


def evaluator_of(world: World, plan: Plan, *, repeats: bool = False) -> CfEvaluator:
    start = Recipe.of({}, TREND, 0.5)
    return CfEvaluator(world, Known.at(world, plan.valid.cut), plan.valid, start, repeats=repeats, size=500, seed=0)


@pytest.mark.parametrize("repeats", [False, True])
def test_a_recipe_is_measured_by_the_lists_that_its_bundle_would_give(
    shop: tuple[World, Plan], *, repeats: bool
) -> None:
    """One case at a time, through the generators, the merge and the CF scorer of a fitted bundle."""
    world, plan = shop
    evaluator = evaluator_of(world, plan, repeats=repeats)
    names = (*SOURCES, "buy_again") if repeats else SOURCES
    for weight in (0.0, 1.5):
        recipe = Recipe.of({"co_occurrence": {"neighbours": 9}}, TREND, weight)
        bundle = fit(world, evaluator.known, recipe, names=names).bundle
        lists, relevant = [], []
        for query, wanted in zip(evaluator.queries, evaluator.relevant, strict=True):
            if len(query.history):
                found = [generator.generate(query, bundle.limits[generator.name]) for generator in bundle.generators]
                lists.append(merge(found, query, names, bundle.prior).rows[:20])
                relevant.append(wanted)
        counts = np.array([len(wanted) for wanted in relevant])
        expected = per_user(hit_matrix(lists, relevant, 20), counts, 20)["ndcg@20"]
        np.testing.assert_allclose(expected, evaluator.ndcg(recipe, names), rtol=1e-6)
        assert expected.mean() > 0


def test_the_best_that_was_tried_is_chosen_and_all_that_was_tried_is_kept(shop: tuple[World, Plan]) -> None:
    """On the validation window, so until sources are weighed on two, every trial that is kept beats the last one kept."""
    world, plan = shop
    told: list[str] = []
    recipe = choose(world, plan, budget_s=1e9, seed=0, progress=lambda _, __, ___, note="": told.append(note))
    assert recipe.untried == 0
    assert len(told) == len(recipe.search) > 10
    best = 0.0
    for tried in takewhile(lambda trial: not trial["tried"].startswith("weight"), recipe.search):
        assert tried["kept"] == (tried["ndcg@20"] > best * (1 + LEAST_GAIN))
        best = max(best, tried["ndcg@20"] if tried["kept"] else 0.0)
    assert {"co_occurrence", "ann", "content", "buy_again", "popularity"} <= set(recipe.generators)
    assert sorted((*recipe.left_out, *recipe.generators)) == sorted(Recipe.of({}, TREND, 0.5).generators)
    assert all(recipe.limit(name) >= floor for name, floor in FLOORS.items())


def test_without_anybody_to_choose_by_pool_sizes_stay_as_they_are_and_nothing_is_left_out(
    shop: tuple[World, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a young shop would have next to no candidates."""
    evaluator = evaluator_of(*shop)
    recipe = Recipe.of({}, TREND, 0.5)
    monkeypatch.setattr(evaluator, "relevant_with_history", list)

    assert _with_pool_sizes(evaluator, recipe) is recipe


def test_a_generator_that_is_left_out_is_named_in_a_warning(
    shop: tuple[World, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the author of a plug-in would look for it in vain."""
    recipe = replace(Recipe.of({}, TREND, 0.5), left_out=("new_arrivals", "random_walk"))
    monkeypatch.setattr("offline.build.builder.choose", lambda *_, **__: recipe)
    builder = Builder(shop[0], SplitKind.TIME, 15.0, seed=0, deep=False, progress=lambda *_, **__: None)

    assert builder.recipe is recipe
    assert [text.partition(". ")[0] for text in builder.warnings] == [
        "left out of the bundle: new_arrivals, random_walk"
    ]


def test_the_same_choice_comes_again(shop: tuple[World, Plan]) -> None:
    world, plan = shop
    one, other = (choose(world, plan, budget_s=1e9, seed=3) for _ in range(2))
    assert one == other


def test_without_time_the_starts_are_tried_and_the_rest_is_counted(shop: tuple[World, Plan]) -> None:
    world, plan = shop
    recipe = choose(world, plan, budget_s=0.0, seed=0)
    assert 0 < recipe.untried <= max(len(SEQUENCE_STEPS), 12) + len(WALK_STEPS)
    assert [t["tried"] for t in recipe.search[:2]] == [
        "co_occurrence as unit=event, window=10",
        "co_occurrence as unit=session, window=0",
    ]


def test_newcomers_get_the_list_that_was_best_for_newcomers(shop_with_newcomers: tuple[World, Plan]) -> None:
    """What was chosen on sums in memory is what the generator builds on the engine."""
    world, plan = shop_with_newcomers
    evaluator = evaluator_of(world, plan)
    known = evaluator.known
    trend = choose_trend(evaluator.queries, evaluator.relevant, known.sequences, world.n_items, known.inputs.as_of_s)
    queries, relevant = evaluator.newcomers()
    assert queries
    assert all(not len(query.history) for query in queries)

    def figure(**params: float) -> float:
        built = Popularity.build(known.inputs, **trend, **params)
        lists = [built.generate(query, 20).rows for query in queries]
        counts = np.array([len(wanted) for wanted in relevant])
        return float(per_user(hit_matrix(lists, relevant, 20), counts, 20)["ndcg@20"].mean())

    chosen = choose(world, plan, budget_s=0.0, seed=0).generators["popularity"]
    extra = {name: value for name, value in chosen.items() if name.startswith("newcomer")}
    tried = [
        {"newcomer_weight": weight, "newcomer_half_life_days": days}
        for weight in NEWCOMER_WEIGHTS
        for days in NEWCOMER_HALF_LIVES_DAYS
    ]
    figures = [figure(**params) for params in tried]
    assert min(figures) < max(figures)
    assert extra in tried
    assert figure(**extra) == pytest.approx(max(figures))
    assert figure(**extra) > figure()


def test_where_events_are_sets_nothing_of_order_is_tried(shop: tuple[World, Plan]) -> None:
    world, _ = shop
    log = replace(world.log, times=np.zeros_like(world.log.times))
    timeless = replace(world, log=log)
    recipe = choose(timeless, plan_of(log, SplitKind.SHARE, 30.0), budget_s=1e9, seed=0)
    assert "random_walk" not in recipe.generators
    assert recipe.trend["half_life_days"] is None
    assert not any("window" in tried["tried"].split("=")[0].split()[-1] for tried in recipe.search[1:])
