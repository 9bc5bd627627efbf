"""How a tower is trained for the data at hand, and whose checkpoint it may go on from."""

from __future__ import annotations

import importlib
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from offline.build.fit import Known, World
from offline.build.recipe import Recipe
from offline.build.tower_training import TRAINING_CODE, TowerTrainer, tower_plan
from offline.progress import silent
from offline.read.dataset import read_dataset
from offline.read.engine import open_engine
from offline.split.cuts import TimeCut

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TREND = {"half_life_days": 7.0, "first_only": True}
ORDERS = Recipe.of({"co_occurrence": {"unit": "session"}}, TREND, 0.5)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Three users and four items."""
    folder = tmp_path_factory.mktemp("world")
    lines = [f"u{n % 3},i{n % 4},buy,2025-01-{n + 1:02d}T00:00:00Z" for n in range(20)]
    (folder / "events.csv").write_text("\n".join(["user_id,item_id,event_type,timestamp", *lines]))
    with open_engine(memory="1GB", threads=1, folder=folder) as engine:
        yield World.read(read_dataset(folder / "events.csv", engine=engine), engine, folder)


def checkpoint(world: World, folder: Path, *, seed: int = 0, days: int = 10) -> Path:
    trainer = TowerTrainer(world, ORDERS, seed=seed, limit_s=60, checkpoints=folder, warnings=[], progress=silent)
    known = Known.at(world, TimeCut(float(world.log.times.min()) + days * 86_400))
    found = trainer._checkpoint(known, trainer.plan.settings, None, None)
    assert found is not None
    return found


def test_orders_and_sequences_are_trained_with_different_settings(world: World) -> None:
    orders, films = (tower_plan(world, recipe).settings for recipe in (ORDERS, Recipe.of({}, TREND, 0.5)))
    assert (orders.trend_half_life_days, films.trend_half_life_days) == (7.0, None)
    assert films.context_length > orders.context_length
    assert tower_plan(world, replace(ORDERS, trend_weight=0.0)).settings.trend_half_life_days is None


def test_where_nothing_goes_with_anything_the_tower_reads_single_events(world: World) -> None:
    """A source that found nothing is no longer in the recipe."""
    left = {name: params for name, params in ORDERS.generators.items() if name != "co_occurrence"}
    assert tower_plan(world, replace(ORDERS, generators=left)) == tower_plan(world, Recipe.of({}, TREND, 0.5))


def test_a_checkpoint_is_found_again_by_the_same_training_alone(world: World, tmp_path: Path) -> None:
    first = checkpoint(world, tmp_path)
    assert checkpoint(world, tmp_path) == first
    assert checkpoint(world, tmp_path, seed=1) != first
    assert checkpoint(world, tmp_path, days=12) != first


def test_a_checkpoint_of_other_code_is_not_gone_on_from(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = checkpoint(world, tmp_path)
    monkeypatch.setattr("offline.build.tower_training.TRAINING_CODE", TRAINING_CODE[:-1])
    assert checkpoint(world, tmp_path) != first


def test_the_code_of_a_training_is_all_that_it_runs_through() -> None:
    """Whatever these modules take from ``ranking`` is one of them."""
    for name in TRAINING_CODE:
        for value in vars(importlib.import_module(f"ranking.{name}")).values():
            home = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None) or ""
            if home.startswith("ranking."):
                assert home.removeprefix("ranking.") in TRAINING_CODE
