"""A build from events without times, measured on a given test file, from reading to the served lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from core.query import Request
from core.types import Tier, UserEvent, UserState
from offline.build.builder import Builder
from offline.build.fit import World
from offline.evaluate.evaluation import evaluate
from offline.progress import silent
from offline.read.dataset import read_dataset
from offline.read.engine import open_engine
from offline.split.windows import SplitKind
from terrace.cli.served import InProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from core.manifest import Manifest

TASTES, ITEMS_OF_TASTE, USERS = 6, 20, 240


def write(folder: Path) -> tuple[Path, Path]:
    """Everyone has a dozen things of one taste and one of another; a quarter of them is the test."""
    rng = np.random.default_rng(11)
    train, test = ["user_id,item_id"], ["user_id,item_id"]
    for user in range(USERS):
        own = rng.choice(ITEMS_OF_TASTE, 12, replace=False) * TASTES + user % TASTES
        pairs = [f"u{user:03},i{item:03}" for item in (*own, rng.integers(0, TASTES * ITEMS_OF_TASTE))]
        pairs = list(dict.fromkeys(pairs))
        test += pairs[:3]
        train += pairs[3:]
    for name, lines in (("train", train), ("test", test)):
        (folder / f"{name}.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder / "train.csv", folder / "test.csv"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Builder, InProcess, Manifest]]:
    """A builder, its draft at the last window with all rungs, and the draft's manifest."""
    scratch = tmp_path_factory.mktemp("sets")
    train, test = write(scratch)
    with open_engine(memory="1GB", threads=1, folder=scratch) as engine:
        data = read_dataset(train, engine=engine, test=test, needs_time=False)
        world = World.read(data, engine, scratch)
        builder = Builder(world, SplitKind.GIVEN, 30.0, seed=0, deep=True, progress=silent)
        (scratch / "draft").mkdir()
        manifest = builder.draft(scratch / "draft", builder.plan.test.cut, version="draft")
        with InProcess(scratch / "draft") as served:
            yield builder, served, manifest


@pytest.fixture(scope="module")
def figures(made: tuple[Builder, InProcess, Manifest]) -> dict[str, Any]:
    return evaluate(made[0], made[1])


def test_what_has_to_do_with_time_is_not_tried(made: tuple[Builder, InProcess, Manifest]) -> None:
    manifest = made[2]
    kernel = manifest.generators["co_occurrence"]
    assert (kernel["unit"], kernel["window"], kernel["decay"], kernel["half_life_days"]) == ("session", 0, 1.0, None)
    assert manifest.cf["half_life_days"] is None


def test_taste_is_found_on_every_rung_that_knows_the_user(figures: dict[str, Any]) -> None:
    """One of six tastes: popularity finds a sixth of what the others find in twenty places."""
    recall = {name: rung["recall@20"]["mean"] for name, rung in figures["rungs"].items()}
    assert recall["POPULARITY"] < 0.5
    assert min(recall["CF"], recall["DEEP"]) > 0.8
    assert figures["rungs"]["DEEP"]["reached"] == 1.0
    assert figures["split"]["cases"] == USERS
    assert figures["segments"]["item_age"] is figures["cold_users"] is figures["cold_items"] is None


def test_nothing_known_is_recommended(made: tuple[Builder, InProcess, Manifest]) -> None:
    """Items of the training file are hidden from whoever had them."""
    builder, served, _ = made
    cases, states, _ = builder.test_cases()
    log = builder.world.log
    for i in range(0, len(cases), 40):
        request = Request(user_id=str(cases.users[i]), limit=20)
        for tier in (Tier.CF, Tier.DEEP):
            answer = served.recommend(request, states[i], float(cases.request_time_s[i]), tier)
            assert answer.tier is tier
            assert not np.isin(answer.rows, log.items[log.ptr[cases.users[i]] : cases.ends[i]]).any()


def test_the_order_in_which_a_user_got_things_changes_no_list(made: tuple[Builder, InProcess, Manifest]) -> None:
    """Also online, where events do have times: sets stay sets."""
    served = made[1]
    ids = [f"i{item * TASTES:03}" for item in (1, 5, 7, 12)]
    now_s = served.bundle.manifest.as_of_s
    lists = []
    for order in (ids, ids[::-1]):
        events = tuple(UserEvent(item, "interaction", now_s - 3600.0) for item in order)
        lists.append(served.recommend(Request(user_id="x", limit=10), UserState(events), now_s, Tier.DEEP))
    assert lists[0].tier is Tier.DEEP
    assert lists[0].rows.tolist() == lists[1].rows.tolist()
