"""Examples show active users, with and without a hit, in the same choice every time."""

from __future__ import annotations

import pytest

from core.types import Tier
from offline.evaluate.example_lists import ACTIVE, HITS, LENGTH, MISSES, examples
from offline.evaluate.recommended_lists import recommend_all
from tests.offline.recorded import N, Recorded, evaluation_set, log_of

USERS = 20
LOG = log_of(
    *((user, item, item + 1) for user in range(USERS) for item in range(40, 40 + (ACTIVE if user else 2))), users=USERS
)
TEST_SET = evaluation_set(LOG, 100, {user: [3 if user % 2 else 30] for user in range(USERS)})
TITLES = [f"title {row}" if row != 44 else "" for row in range(N)]
SERVED = Recorded({Tier.POPULARITY: [1], Tier.CF: [5, 3]})
FOUND = examples(
    SERVED, TEST_SET, recommend_all(SERVED, TEST_SET, Tier.CF), [f"u{user}" for user in range(USERS)], TITLES
)


def test_there_are_users_with_and_without_a_hit_and_only_active_ones() -> None:
    hits = [any(item["hit"] for item in example["recommended"]) for example in FOUND]
    assert hits == [True] * HITS + [False] * MISSES
    assert "u0" not in {example["user"] for example in FOUND}
    assert len({example["user"] for example in FOUND}) == HITS + MISSES


def test_an_example_has_history_recommended_items_and_relevant_items() -> None:
    example = FOUND[0]
    assert example["history"][0] == {"item_id": "i44", "title": ""}  # newest first
    assert example["events"] == ACTIVE
    assert example["turned_to"] == [{"item_id": "i3", "title": "title 3"}]
    assert example["recommended"][1] == {
        "item_id": "i3",
        "title": "title 3",
        "because": "i44",  # an item without a title is named by its id
        "sources": ["second"],
        "hit": True,
    }
    assert example["tier"] == "CF"
    assert len(example["recommended"]) <= LENGTH


@pytest.mark.parametrize("users", [1, 3])
def test_few_users_make_few_examples(users: int) -> None:
    some = evaluation_set(LOG, 100, {user: [3] for user in range(users)})
    found = examples(SERVED, some, recommend_all(SERVED, some, Tier.CF), [f"u{u}" for u in range(users)], TITLES)
    assert len(found) == max(users - 1, 1)
