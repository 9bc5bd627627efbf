"""Why an item was recommended, against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from core.query import Request, build_query
from core.types import NO_ROW, Query, UserEvent, UserState
from ranking.explain import explain
from tests.server import toy

BUNDLE = toy.bundle()


def query(history: tuple[str, ...] = ()) -> Query:
    events = tuple(UserEvent(item_id, "view", 1000.0 - age) for age, item_id in enumerate(history))
    return build_query(BUNDLE, Request("ada", 5), UserState(events), 1000.0)


def test_an_item_is_explained_by_the_event_with_the_largest_weighted_affinity() -> None:
    vectors = np.zeros((toy.ITEMS, 2), np.float32)
    vectors[[1, 2, 3]] = [[1, 0], [0, 1], [1, 1]]
    asked = query(("item-01", "item-02"))

    explained = explain(asked, np.array([3, 2, 1, 40], np.int32), vectors)

    assert explained.tolist() == [1, NO_ROW, NO_ROW, NO_ROW]


def test_of_two_alike_the_newer_event_explains_unless_the_older_speaks_louder() -> None:
    vectors = np.zeros((toy.ITEMS, 2), np.float32)
    vectors[[1, 2, 3, 4]] = [[1, 0], [1, 1.5], [1, 0], [0.5, 1]]
    asked = query(("item-01", "item-02"))

    assert explain(asked, np.array([3, 4], np.int32), vectors).tolist() == [1, 2]


@pytest.mark.parametrize("history", [(), ("item-01",)])
def test_nothing_is_explained_without_vectors_or_history(history: tuple[str, ...]) -> None:
    vectors = None if history else np.ones((toy.ITEMS, 2), np.float32)

    assert explain(query(history), np.array([3, 4], np.int32), vectors).tolist() == [NO_ROW, NO_ROW]
