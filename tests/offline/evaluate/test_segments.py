"""Segments hold every case once, and count only what belongs to them."""

from __future__ import annotations

import numpy as np
import pytest

from core.types import Tier
from offline.evaluate.measurement import measure
from offline.evaluate.segments import AGES, age_class, by_activity, by_item_age, first_events
from offline.split.cuts import TimeCut
from tests.offline.recorded import DAY_S, N, Recorded, evaluation_set, log_of

LOG = log_of((0, 1, 5), (0, 2, 205), (1, 1, 90), (1, 3, 195), (1, 4, 300), (2, 5, 100), users=3)
CUT_DAY = 210.0
TEST_SET = evaluation_set(LOG, CUT_DAY, {0: [3, 4], 1: [2, 5], 2: [1]})


def test_the_first_event_of_an_item_is_that_of_any_user_before_the_cut() -> None:
    first = first_events(LOG, TimeCut(CUT_DAY * DAY_S), N)
    assert first[[1, 2, 3, 5]].tolist() == [5 * DAY_S, 205 * DAY_S, 195 * DAY_S, 100 * DAY_S]
    assert np.isinf(first[4])  # its first event comes after the cut


@pytest.mark.parametrize(
    ("days", "age"),
    [(np.inf, "no events yet"), (0, "first 30 days"), (29.9, "first 30 days"), (30, "30-180 days"), (180, "older")],
)
def test_ages_begin_where_they_say(days: float, age: str) -> None:
    first = np.array([np.inf if np.isinf(days) else (1000 - days) * DAY_S])
    assert AGES[int(age_class(first, 1000.0 * DAY_S)[0])] == age


def test_activity_counts_events_before_the_cut_and_leaves_empty_segments_out() -> None:
    values = {"CF": {"ndcg@20": np.array([0.0, 0.2, 0.4, 1.0]), "recall@20": np.array([1.0, 0.0, 0.0, 1.0])}}
    found = by_activity(np.array([0, 3, 1, 51]), values)
    assert [(s["name"], s["cases"]) for s in found] == [("no events", 1), ("1-3 events", 2), ("over 50 events", 1)]
    assert found[1]["rungs"]["CF"]["ndcg@20"]["mean"] == pytest.approx(0.3)


def test_only_relevant_items_of_the_age_count() -> None:
    """User 0 wants item 3 (15 days old) and 4 (none yet), user 1 item 2 (5 days) and 5 (110 days), user 2 item 1 (old)."""
    measured = measure(Recorded({Tier.POPULARITY: [3, 5, 9]}), TEST_SET)
    first = first_events(LOG, TimeCut(CUT_DAY * DAY_S), N)
    found = {s["name"]: s for s in by_item_age(TEST_SET, first, measured.lists)}
    recall = {name: s["rungs"]["POPULARITY"]["recall@20"]["mean"] for name, s in found.items()}
    assert recall == {"no events yet": 0, "first 30 days": 0.5, "30-180 days": 1, "older": 0}
    assert {name: s["cases"] for name, s in found.items()} == {
        "no events yet": 1,
        "first 30 days": 2,
        "30-180 days": 1,
        "older": 1,
    }
