"""Without repeats, an item may be relevant exactly where it may be recommended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from core.query import build_query
from core.types import Tier
from offline.build.builder import Builder
from offline.build.fit import World
from offline.evaluate.recommended_lists import EvaluationSet, recommend_all
from offline.progress import silent
from offline.read.dataset import read_dataset
from offline.read.engine import open_engine
from offline.split.windows import SplitKind
from terrace.cli.served import InProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

USERS, ITEMS, DAYS = 40, 150, 80


@pytest.fixture(
    scope="module",
    params=[("view", "cart", "purchase"), ("purchase",), ()],
    ids=["views are targets", "carts hide and are no target", "targets by default"],
)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Builder, InProcess]]:
    """A shop whose users view an item, then put some in the cart, then buy some; they come back to what they viewed."""
    folder = tmp_path_factory.mktemp("shop")
    rng = np.random.default_rng(0)
    lines = ["user_id,item_id,event_type,timestamp"]
    for user in range(USERS):
        for day in range(0, DAYS, 2):
            item = int(rng.zipf(1.6)) % ITEMS
            lines += [
                f"u{user},i{item},{kind},{1_700_000_000 + day * 86_400 + hour * 3600}"
                for hour, kind in enumerate(("view", "cart", "purchase")[: rng.integers(1, 4)])
            ]
    (folder / "events.csv").write_text("\n".join(lines))
    with open_engine(memory="1GB", threads=1, folder=folder) as engine, pytest.MonkeyPatch.context() as patch:
        patch.setattr("offline.build.builder.CHOOSE_S", 0.0)
        world = World.read(read_dataset(folder / "events.csv", engine=engine), engine, folder, request.param)
        builder = Builder(world, SplitKind.TIME, 15.0, seed=0, deep=False, progress=silent)
        (folder / "draft").mkdir()
        builder.draft(folder / "draft", builder.plan.test.cut, version="draft")
        with InProcess(folder / "draft") as served:
            yield builder, served


def test_lists_hold_nothing_that_cannot_be_relevant(made: tuple[Builder, InProcess]) -> None:
    """No place of a list is spent on an item that the user had an event of a target or hiding type with."""
    builder, served = made
    log, world = builder.world.log, builder.world
    cases, states, _ = builder.test_cases()
    assert len(cases) > 10
    for tier in (Tier.POPULARITY, Tier.CF):
        lists = recommend_all(served, EvaluationSet(cases, states), tier).rows
        for rows, user, end in zip(lists, cases.users, cases.ends, strict=True):
            before = slice(log.ptr[user], end)
            had = log.items[before][np.isin(log.types[before], list(world.targets | world.hidden))]
            assert not np.isin(rows, had).any()


def test_nothing_is_relevant_that_lists_cannot_hold(made: tuple[Builder, InProcess]) -> None:
    builder, served = made
    cases, states, _ = builder.test_cases()
    test_set = EvaluationSet(cases, states)
    for i, (state, relevant) in enumerate(zip(states, cases.relevant, strict=True)):
        query = build_query(served.bundle, test_set.request(i), state, float(cases.request_time_s[i]))
        assert query.allows(relevant).all()


def test_with_repeats_everything_may_be_relevant_and_recommended(made: tuple[Builder, InProcess]) -> None:
    builder, served = made
    cases, states, _ = builder.test_cases(new_only=False)
    test_set = EvaluationSet(cases, states, allow_repeats=True)
    for i, (state, relevant) in enumerate(zip(states, cases.relevant, strict=True)):
        query = build_query(served.bundle, test_set.request(i), state, float(cases.request_time_s[i]))
        assert query.allows(relevant).all()
