"""Generators are judged alone, by the pool they make together, and by what that pool would lose without them."""

from __future__ import annotations

import numpy as np
import pytest

from core.types import Tier
from offline.evaluate.generator_recall import propose
from tests.offline.recorded import Listed, Recorded, evaluation_set, log_of

LOG = log_of((0, 7, 1), (1, 8, 1), users=3)
TEST_SET = evaluation_set(LOG, 10, {0: [2], 1: [0, 5]})


def served(*generators: Listed) -> Recorded:
    return Recorded({Tier.POPULARITY: [0]}, generators=generators)


def test_alone_each_is_asked_for_far_more_than_the_pool_takes() -> None:
    """Both pools hold two rows of each generator; alone each generator's whole list counts."""
    found = propose(served().bundle, TEST_SET).figures()
    assert found["first"]["recall@50"] == pytest.approx((1 + 0.5) / 2)
    assert found["second"]["recall@50"] == pytest.approx((1 + 0) / 2)
    assert found["union"]["recall"] == pytest.approx((1 + 0.5) / 2)
    assert found["union"]["rows"] == pytest.approx(4)
    assert found["first"]["limit"] == 2


def test_every_generator_is_called_once_a_case() -> None:
    generators = (Listed("first", [1]), Listed("second", [2]))
    propose(served(*generators).bundle, TEST_SET)
    assert [generator.calls for generator in generators] == [len(TEST_SET)] * 2


def test_a_generator_adds_what_no_other_brings_into_the_pool() -> None:
    """Without ``second`` the pool would lose user 0's item 2; item 0 comes from both."""
    found = propose(served(Listed("first", [0, 9]), Listed("second", [2, 0])).bundle, TEST_SET).figures()
    assert found["second"]["adds"] == pytest.approx((1 + 0) / 2)
    assert found["first"]["adds"] == 0


def test_the_union_is_counted_in_the_order_of_the_prior() -> None:
    """The prior likes high rows: 60 of them push the relevant item 2 behind the first 50."""
    bundle = served(Listed("first", [2]), Listed("second", list(range(20, 80)))).bundle
    bundle.limits = {"first": 1, "second": 60}
    found = propose(bundle, TEST_SET).union
    assert found["recall"].tolist() == [1, 0]
    assert found["recall@50"].tolist() == [0, 0]
    assert found["recall@100"].tolist() == [1, 0]


def test_the_own_list_of_a_generator_holds_allowed_rows_only() -> None:
    """User 0 had item 7, so the list of user 0 begins with item 2, that of user 1 with 7."""
    found = propose(served(Listed("first", [7, 2]), Listed("second", [1])).bundle, TEST_SET)
    assert found.alone["first"]["ndcg@20"].tolist() == [1, 0]
    again = evaluation_set(LOG, 10, {0: [7]}, allow_repeats=True)
    assert propose(served(Listed("first", [7, 2]), Listed("second", [1])).bundle, again).alone["first"][
        "ndcg@20"
    ].tolist() == [1]


def test_every_mean_has_an_interval() -> None:
    found = propose(served().bundle, TEST_SET).figures()
    for name, values in found.items():
        for metric, interval in values["intervals"].items():
            assert interval["low"] <= values[metric] <= interval["high"], (name, metric)
    assert set(found["first"]["intervals"]) == {"ndcg@20", "adds", *(f"recall@{d}" for d in (50, 100, 200, 500))}
    assert np.isfinite(found["union"]["rows"])
