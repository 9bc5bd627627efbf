"""The same expressions on Spark: equal tables from both engines."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ibis
import numpy as np
import pytest

from candidate_gen.buy_again import BuyAgain
from candidate_gen.cooccurrence import CoOccurrence
from candidate_gen.cooccurrence_params import BASKETS, SEQUENCES
from candidate_gen.popularity import Popularity
from candidate_gen.random_walk import RandomWalk
from tests.contracts.generator_world import ITEMS, make_catalogue, make_inputs, make_query

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from candidate_gen.registry import BuildInputs

pyspark_sql = pytest.importorskip("pyspark.sql", reason="pyspark is not installed")

pytestmark = [
    pytest.mark.spark,
    pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java, there is no `java` on the path"),
    pytest.mark.filterwarnings("ignore"),  # pyspark 4 and pandas 3 warn about each other
]


@pytest.fixture(scope="module")
def on_spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BuildInputs]:
    """The world of the contract tests, with its events in a local Spark."""
    folder: Path = tmp_path_factory.mktemp("spark")
    builder = pyspark_sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.sql.shuffle.partitions", "2").config("spark.sql.warehouse.dir", str(folder))
    session = builder.getOrCreate()
    inputs = make_inputs()
    inputs.events.to_parquet(folder / "events.parquet")
    frame = session.read.parquet(str(folder / "events.parquet"))
    frame.createOrReplaceTempView("events")
    yield replace(inputs, events=ibis.pyspark.connect(session).table("events"))
    session.stop()


@pytest.mark.parametrize("first_only", [True, False])
def test_popularity_is_the_same_on_spark(on_spark: BuildInputs, first_only: bool) -> None:
    rows = np.arange(ITEMS, dtype=np.int32)
    here, there = (Popularity.build(i, first_only=first_only).score_rows(rows) for i in (make_inputs(), on_spark))
    np.testing.assert_allclose(here, there, rtol=1e-6)
    assert here.max() > 0


def test_what_newcomers_get_and_what_is_had_again_are_the_same_on_spark(on_spark: BuildInputs) -> None:
    newcomer = make_query(make_catalogue())
    lists = [Popularity.build(i, newcomer_weight=2.0).generate(newcomer, ITEMS) for i in (make_inputs(), on_spark)]
    np.testing.assert_allclose(lists[0].scores, lists[1].scores, rtol=1e-5)
    shares = [BuyAgain.build(inputs).share for inputs in (make_inputs(), on_spark)]
    np.testing.assert_allclose(shares[0], shares[1], rtol=1e-5)


def test_the_walk_is_the_same_on_spark(on_spark: BuildInputs) -> None:
    here, there = (RandomWalk.build(inputs, max_items=9).table for inputs in (make_inputs(), on_spark))
    for name in ("ptr", "rows", "scores"):
        np.testing.assert_array_equal(getattr(here, name), getattr(there, name))


@pytest.mark.parametrize(
    "params",
    [SEQUENCES, BASKETS | {"window": 2, "backward": 0.3}],
    ids=["sequences", "baskets both ways"],
)
def test_co_occurrence_is_the_same_on_spark(on_spark: BuildInputs, params: dict[str, Any]) -> None:
    here, there = (CoOccurrence.build(inputs, **params).table for inputs in (make_inputs(), on_spark))
    np.testing.assert_array_equal(here.ptr, there.ptr)
    np.testing.assert_allclose(here.scores, there.scores, rtol=1e-5)
    assert (here.rows == there.rows).mean() > 0.99
    assert len(here.rows) > 100
