"""Cold starts: new items are counted alone and among themselves, new users with what is learned of them bit by bit."""

from __future__ import annotations

import pytest

from core.types import Tier
from offline.evaluate.cold_start import cold_items, cold_users
from offline.evaluate.segments import first_events
from offline.split.cuts import TimeCut
from tests.offline.recorded import DAY_S, Listed, N, Recorded, evaluation_set, log_of

CUT_DAY = 210.0
ITEMS = log_of((0, 1, 5), (0, 2, 205), (1, 1, 90), (1, 3, 195), users=3)
"""Item 1 is old, 2 and 3 are in their first 30 days, all others have no event yet."""
USERS = log_of((0, 1, 5), (0, 6, 211), (1, 9, 212), (1, 4, 213), (1, 9, 214), (1, 6, 214), (2, 8, 215), users=3)
"""User 0 is known; user 1 begins with 9, 4 and 6, user 2 has one item only."""
FIRST = first_events(ITEMS, TimeCut(CUT_DAY * DAY_S), N)


def test_cold_items_are_what_hardly_anybody_had_yet() -> None:
    """User 0 wants 3 and old 1, user 1 wants 2: of these only 3 and 2 count, and user 2 is no case."""
    asked = evaluation_set(ITEMS, CUT_DAY, {0: [1, 3], 1: [2], 2: [1]})
    found = cold_items(Recorded({Tier.POPULARITY: [1, 3], Tier.CF: [2, 1]}), asked, FIRST)
    assert found is not None
    assert (found["cases"], found["items"]) == (2, N - 1)
    assert found["rungs"]["POPULARITY"]["recall@50"]["mean"] == 0.5
    assert found["generators"]["second"]["recall@50"]["mean"] == 1  # it proposes 2 and 3
    assert found["no_events"] is None


def test_items_without_any_event_are_counted_once_more_by_themselves() -> None:
    """User 0 wants 3, which has events, and 4, which has none."""
    found = cold_items(Recorded({Tier.POPULARITY: [3, 4]}), evaluation_set(ITEMS, CUT_DAY, {0: [3, 4], 1: [2]}), FIRST)
    assert found is not None
    assert found["rungs"]["POPULARITY"]["recall@50"]["mean"] == 0.5
    assert found["no_events"]["rungs"]["POPULARITY"]["recall@50"]["mean"] == 1
    assert (found["no_events"]["cases"], found["no_events"]["items"]) == (1, N - 3)


def test_among_new_items_nothing_else_takes_a_place() -> None:
    """The generator's 50 old items come first; where they cannot be had, item 3 is found."""
    days = log_of(*((0, row, 1) for row in range(10, 70)), (0, 2, 205), (1, 7, 1), users=2)
    first = first_events(days, TimeCut(CUT_DAY * DAY_S), N)
    generator = Listed("first", [*range(10, 70), 3])
    asked = evaluation_set(days, CUT_DAY, {1: [3]})
    served = Recorded({Tier.POPULARITY: generator.rows.tolist()}, generators=(generator,))
    found = cold_items(served, asked, first)
    assert found is not None
    assert found["generators"]["first"]["recall@50"]["mean"] == 0
    assert found["rungs"]["POPULARITY"]["recall@50"]["mean"] == 0
    assert found["among"]["generators"]["first"]["recall@50"]["mean"] == 1
    assert found["among"]["rungs"]["POPULARITY"]["recall@50"]["mean"] == 1


def test_without_relevant_new_items_or_new_users_there_is_nothing_to_say() -> None:
    asked = evaluation_set(ITEMS, CUT_DAY, {0: [1], 1: [1]})
    served = Recorded({Tier.POPULARITY: [1]})
    assert cold_items(served, asked, FIRST) is None
    assert cold_users(served, asked, ITEMS, ("buy",)) is None


def test_new_users_are_asked_about_with_nothing_a_category_and_their_first_picks() -> None:
    served = Recorded({Tier.POPULARITY: [6, 4, 9, 8], Tier.CF: [6]})
    asked = evaluation_set(USERS, CUT_DAY, {0: [6], 1: [4, 6, 9], 2: [8]})
    found = cold_users(served, asked, USERS, ("buy",))
    assert found is not None
    assert found["cases"] == 2
    assert found["popularity"]["recall@20"]["mean"] == 1
    assert [(entry["picks"], entry["cases"]) for entry in found["picks"]] == [(1, 1), (2, 1)]
    first, second = found["picks"]
    assert first["rungs"]["CF"]["recall@20"]["mean"] == 0.5  # of 4 and 6
    assert first["differences"]["CF - POPULARITY"]["recall@20"]["mean"] == pytest.approx(-0.5)
    assert second["rungs"]["CF"]["ndcg@20"]["mean"] == 1  # 6 is all that is left


def test_picks_are_given_newest_first_at_the_moment_of_the_last() -> None:
    served = Recorded({Tier.POPULARITY: [6], Tier.CF: [6]})
    cold_users(served, evaluation_set(USERS, CUT_DAY, {1: [4, 6, 9]}), USERS, ("buy",))
    request, now_s, _ = next(entry for entry in served.requests if len(entry[0].recent_events) == 2)
    assert [(event.item_id, event.timestamp_s / DAY_S) for event in request.recent_events] == [("i4", 213), ("i9", 212)]
    assert now_s == 213 * DAY_S


def test_the_category_is_that_of_the_first_item_which_is_not_asked_for() -> None:
    """User 1 begins with a toy, so books are filtered out: item 6 and 4 are no toys."""
    served = Recorded({Tier.POPULARITY: [6, 4, 9, 3]})
    found = cold_users(served, evaluation_set(USERS, CUT_DAY, {1: [4, 6, 9]}), USERS, ("buy",))
    assert found is not None
    assert found["category"]["without"]["recall@20"]["mean"] == 1
    assert found["category"]["with"]["recall@20"]["mean"] == 0
    assert found["category"]["difference"]["recall@20"]["mean"] == -1
    filtered = next(request for request, _, _ in served.requests if request.filters.categories)
    assert filtered.filters.categories == ("toy",)
    assert filtered.exclude == ("i9",)
