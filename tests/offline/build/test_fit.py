"""A build takes in what is installed, and does what its cut allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from offline.build.fit import Known, World, fit
from offline.build.recipe import DEFAULT_POOL_SIZE, Recipe
from offline.read.dataset import read_dataset
from offline.read.engine import open_engine
from offline.split.cuts import LastEventsCut, TimeCut

if TYPE_CHECKING:
    from pathlib import Path

    from offline.read.engine import Engine

SEASONAL = """
import numpy as np
from core.types import Candidates

class Seasonal:
    name, inline = "seasonal", True

    @classmethod
    def build(cls, inputs):
        found = cls()
        found.events = inputs.events.count().to_pyarrow().as_py()
        return found

    def save(self, folder): (folder / "season.txt").write_text("spring")

    @classmethod
    def load(cls, folder, catalogue): return cls()

    def generate(self, query, limit):
        return Candidates("seasonal", np.array([1], np.int32), np.array([1.0], np.float32))
"""


def test_a_generator_of_another_package_is_built_with_what_is_known_at_the_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "season_shop.py").write_text(SEASONAL)
    metadata = tmp_path / "season_shop-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: season-shop\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[terrace.candidate_generators]\nseasonal = season_shop:Seasonal\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    lines = [f"u{n % 3},i{n % 4},buy,2025-01-{n + 1:02d}T00:00:00Z" for n in range(20)]
    (tmp_path / "events.csv").write_text("\n".join(["user_id,item_id,event_type,timestamp", *lines]))
    with open_engine() as engine:
        world = World.read(read_dataset(tmp_path / "events.csv", engine=engine), engine, tmp_path)
        known = Known.at(world, TimeCut(float(world.log.times.min()) + 10 * 86_400))
        fitted = fit(world, known, Recipe.of({}, {"half_life_days": 7.0, "first_only": True}, 0.5))
    assert list(fitted.generators) == ["co_occurrence", "random_walk", "content", "buy_again", "popularity", "seasonal"]
    assert getattr(fitted.generators["seasonal"], "events", None) == 10
    assert fitted.bundle.limits["seasonal"] == DEFAULT_POOL_SIZE
    assert fitted.bundle.manifest.generators["seasonal"] == {"limit": DEFAULT_POOL_SIZE}


@pytest.mark.parametrize(
    ("again", "viewed_again", "repeats"),
    [(0, 0, False), (1, 0, False), (2, 0, True), (1, 30, False)],
    ids=["never", "1 of 31", "2 of 32", "1 of 31, and views"],
)
def test_repeats_are_a_case_of_their_own_where_one_relevant_item_in_twenty_was_had_before(
    engine: Engine, tmp_path: Path, *, again: int, viewed_again: int, repeats: bool
) -> None:
    """Only events of target types count."""
    bought = [f"u{n % 3},i{n},purchase,2025-01-{n + 1:02d}T00:00:00Z" for n in range(30)]
    bought += [f"u{n % 3},i{n},purchase,2025-02-{n + 1:02d}T00:00:00Z" for n in range(again)]
    viewed = [f"u0,i0,view,2025-03-01T00:00:{n:02d}Z" for n in range(viewed_again)]
    (tmp_path / "events.csv").write_text("\n".join(["user_id,item_id,event_type,timestamp", *bought, *viewed]))
    world = World.read(read_dataset(tmp_path / "events.csv", engine=engine), engine, tmp_path)
    assert world.repeats_before(LastEventsCut(0)) is repeats
