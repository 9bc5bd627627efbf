"""Evaluation drives the serving code once per case and rung, and adds nothing to its lists."""

from __future__ import annotations

import numpy as np
import pytest

from core.types import Tier
from offline.evaluate.beyond_accuracy import Background
from offline.evaluate.measurement import measure, order
from offline.evaluate.recommended_lists import recommend_all
from tests.offline.recorded import N, Recorded, evaluation_set, log_of

LOG = log_of((0, 7, 1), (1, 8, 1), users=3)
TEST_SET = evaluation_set(LOG, 10, {0: [2], 1: [0, 5]})


def test_every_rung_gets_every_case_at_its_own_time() -> None:
    served = Recorded({Tier.POPULARITY: [1, 3], Tier.CF: [0, 2], Tier.DEEP: [2, 0]})
    measure(served, TEST_SET)
    at_s = TEST_SET.cases.request_time_s[0]
    asked = [(request.user_id, now_s, tier) for request, now_s, tier in served.requests]
    assert asked == [(u, at_s, tier) for tier in (Tier.POPULARITY, Tier.CF, Tier.DEEP) for u in ("0", "1")]


def test_the_order_of_the_rungs_is_measured_and_not_assumed() -> None:
    """A popularity list that is better than CF's is ordered above it."""
    measured = measure(Recorded({Tier.POPULARITY: [2, 0, 5], Tier.CF: [3, 4, 1]}), TEST_SET)
    assert order(measured.rungs()) == ["CF", "POPULARITY"]
    assert measured.differences()["CF - POPULARITY"]["ndcg@20"]["mean"] < 0
    assert measured.top == "CF"


def test_recall_of_a_rung_is_the_share_of_relevant_items_in_its_lists() -> None:
    rungs = measure(Recorded({Tier.POPULARITY: [2, 0], Tier.CF: [1]}), TEST_SET).rungs()
    assert rungs["POPULARITY"]["recall@20"]["mean"] == pytest.approx((1 + 0.5) / 2)


def test_figures_beyond_accuracy_stand_beside_those_of_the_lists() -> None:
    background = Background(
        Recorded({Tier.POPULARITY: [2]}).bundle.catalogue, np.ones(N, np.int64), 4, np.zeros(3), None
    )
    rungs = measure(Recorded({Tier.POPULARITY: [1, 0], Tier.CF: [2, 0]}), TEST_SET).rungs(background)
    assert rungs["CF"]["coverage"] == pytest.approx(2 / N)
    assert rungs["CF"]["serendipity"] == pytest.approx(1 / 20 / 2)  # item 2 of user 0; item 0 is popular too
    assert rungs["POPULARITY"]["serendipity"] == 0
    assert rungs["CF"]["novelty"] == pytest.approx(2)


def test_what_the_best_rung_has_over_a_generator_is_paired_by_case() -> None:
    measured = measure(Recorded({Tier.POPULARITY: [2], Tier.CF: [2, 0]}), TEST_SET)
    own = measured.proposals.alone["first"]["ndcg@20"]
    gain = measured.generators()["first"]["best_rung_gain"]
    assert gain["mean"] == pytest.approx((measured.values["CF"]["ndcg@20"] - own).mean())


def test_a_list_that_came_from_a_lower_rung_is_counted() -> None:
    """A user of whom nothing is known gets popularity, whatever rung was requested."""
    some = evaluation_set(LOG, 10, {0: [2], 2: [1]})
    assert recommend_all(Recorded({Tier.POPULARITY: [1], Tier.CF: [2]}), some, Tier.CF).reached == 0.5


def test_a_short_list_ends_in_places_that_hold_no_row() -> None:
    found = recommend_all(Recorded({Tier.POPULARITY: [2, 3]}), TEST_SET, Tier.POPULARITY, limit=4)
    assert found.rows.tolist() == [[2, 3, -1, -1]] * 2
    assert found.hits.tolist() == [[True, False, False, False], [False] * 4]


def test_a_sample_keeps_each_case_together() -> None:
    many = evaluation_set(log_of(*((u, 7, 1) for u in range(9)), users=9), 10, {u: [u] for u in range(9)})
    part = many.sample(4)
    assert len(part) == 4
    assert [rows.tolist() for rows in part.cases.relevant] == [[u] for u in part.cases.users]
    assert part.cases.users.tolist() == many.sample(4).cases.users.tolist()
    assert many.sample(9) is many


def test_cases_left_without_relevant_items_are_dropped() -> None:
    some = TEST_SET.with_relevant([np.array([], np.int32), np.array([9], np.int32)])
    assert some.cases.users.tolist() == [1]
    assert some.n_relevant.tolist() == [1]
