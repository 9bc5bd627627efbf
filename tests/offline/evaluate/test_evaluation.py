"""The whole evaluation of a draft of a generated shop: complete, valid JSON, and the same every time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from core.manifest import read_manifest
from core.query import Request
from core.types import Tier, UserState
from offline.build.builder import Builder
from offline.build.fit import World
from offline.evaluate.evaluation import NOT_REPRODUCIBLE, evaluate
from offline.evaluate.per_user import PerUser
from offline.progress import silent
from offline.read.dataset import read_dataset
from offline.read.engine import open_engine
from offline.shop import generate_shop
from offline.split.windows import SplitKind
from terrace.cli.served import InProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from offline.split.cases import Cases


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    events, items = generate_shop(120, 150, 6_000, 120).write(tmp_path_factory.mktemp("shop"))
    return str(events), str(items)


@pytest.fixture(scope="module", params=[SplitKind.TIME, SplitKind.LAST_EVENT], ids=lambda kind: kind.value)
def draft(
    files: tuple[str, str], request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Builder, InProcess]]:
    """A builder and its draft at the last window, without a deep rung."""
    scratch: Path = tmp_path_factory.mktemp("scratch")
    with open_engine(memory="1GB", threads=1, folder=scratch) as engine:
        world = World.read(read_dataset(*files, engine=engine), engine, scratch)
        made = Builder(world, request.param, 15.0, seed=0, deep=False, progress=silent)
        (scratch / "draft").mkdir()
        made.draft(scratch / "draft", made.plan.test.cut, version="draft")
        with InProcess(scratch / "draft") as served:
            yield made, served


@pytest.fixture(scope="module")
def figures(draft: tuple[Builder, InProcess]) -> dict[str, Any]:
    return evaluate(*draft)


def test_figures_are_valid_json_and_come_again(figures: dict[str, Any], draft: tuple[Builder, InProcess]) -> None:
    again = evaluate(*draft)
    for name in figures.keys() - set(NOT_REPRODUCIBLE):
        assert json.dumps(figures[name], allow_nan=False) == json.dumps(again[name]), name
    json.dumps(figures["latency"], allow_nan=False)


def test_everything_is_measured_that_the_split_can_tell(figures: dict[str, Any]) -> None:
    timed = figures["split"]["horizon_days"] is not None
    assert set(figures["rungs"]) == {"POPULARITY", "CF"} == set(figures["order"])
    assert figures["split"]["cases"] > (20 if timed else 1)  # few end with a purchase of something new
    assert (figures["segments"]["item_age"] is not None) == timed
    assert (figures["cold_users"] is not None) == timed
    assert figures["repeats"]["split"]["new_only"] is False
    assert figures["generators"]["union"]["rows"] > 50
    assert figures["generators"]["popularity"]["ndcg@20"] == pytest.approx(
        figures["rungs"]["POPULARITY"]["ndcg@20"]["mean"]
    )
    assert sum(s["cases"] for s in figures["segments"]["activity"]) == figures["split"]["cases"]
    assert {tier for point in figures["latency"] for tier in point["tiers"]} == {"POPULARITY", "CF"}
    assert figures["examples"]
    assert figures["list_ages"] is figures["latency_with_lists"] is None  # there is no deep rung to make lists


def test_where_lists_stand_on_the_ladder_is_written_into_every_draft(
    draft: tuple[Builder, InProcess], tmp_path: Path
) -> None:
    made, served = draft
    assert served.bundle.manifest.precomputed_above_cf
    made.precomputed_above_cf = False

    found = made.draft(tmp_path, made.plan.test.cut, version="below")
    made.precomputed_above_cf = None

    assert not found.precomputed_above_cf
    assert not read_manifest(tmp_path).precomputed_above_cf


def test_a_generator_of_own_items_speaks_only_where_repeats_are_allowed(figures: dict[str, Any]) -> None:
    assert figures["generators"]["buy_again"]["recall@50"] == 0
    assert figures["repeats"]["generators"]["buy_again"]["recall@50"] > 0


def test_the_figures_of_every_case_can_be_kept(figures: dict[str, Any], draft: tuple[Builder, InProcess]) -> None:
    made, served = draft
    kept = []

    def keep(cases: Cases, values: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> None:
        data = made.world.data
        kept.append(PerUser.of(cases, data.user_ids, data.catalogue.ids, values))

    sampled = evaluate(made, served, max_cases=15, keep=keep)
    (one,) = kept
    assert len(one) == sampled["split"]["cases"] == min(15, sampled["split"]["of"])
    assert sampled["split"]["of"] == figures["split"]["cases"]
    assert one.values["CF"]["ndcg@20"].mean() == pytest.approx(sampled["rungs"]["CF"]["ndcg@20"]["mean"], rel=1e-5)


def test_a_restricted_bundle_recommends_what_can_be_had_and_nothing_else(draft: tuple[Builder, InProcess]) -> None:
    _, served = draft
    only = np.zeros(len(served.bundle.catalogue), np.bool_)
    only[[3, 5]] = True
    restricted = served.restricted(only)

    request = Request(user_id="anyone", limit=5)
    assert set(restricted.recommend(request, UserState(), 0.0, Tier.CF).rows.tolist()) == {3, 5}
    assert len(served.recommend(request, UserState(), 0.0, Tier.CF).rows) == 5


def test_a_deadline_that_is_over_gets_a_list_all_the_same(draft: tuple[Builder, InProcess]) -> None:
    made, served = draft

    _, states, _ = made.test_cases()
    served.warm_up()
    answer = served.recommend_within(Request(user_id="someone", limit=5), states[0], 0.0, 0.0)
    assert answer.tier.name == "POPULARITY"
    assert len(answer.rows) == 5
