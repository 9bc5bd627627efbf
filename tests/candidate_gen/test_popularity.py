"""Popularity against sums in plain Python, and the promise that it cannot fail."""

from __future__ import annotations

from collections import defaultdict
from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candidate_gen.popularity import Popularity
from core.catalogue import Filters
from tests.contracts.filter_world import counted
from tests.contracts.generator_world import (
    AS_OF_S,
    CATEGORIES,
    DAY_S,
    ITEMS,
    EventRow,
    make_catalogue,
    make_inputs,
    make_query,
    random_events,
)

CATALOGUE = make_catalogue(unavailable=[0, 3, 8])
BUILT = Popularity.build(make_inputs(catalogue=CATALOGUE))


@pytest.mark.parametrize("first_only", [True, False])
@pytest.mark.parametrize("half_life_days", [3.0, 40.0, None])
def test_scores_are_decayed_sums_of_weights_and_never_below_zero(
    first_only: bool, half_life_days: float | None
) -> None:
    """First events count by user, item and type; the world has one type, so the first weight stands."""
    events = random_events()
    expected: dict[int, float] = defaultdict(float)
    met = set()
    for user, item, weight, time, _ in events:
        if (user, item) not in met or not first_only:
            age_days = (AS_OF_S - time) / DAY_S
            expected[item] += weight * (1.0 if half_life_days is None else 2 ** (-age_days / half_life_days))
        met.add((user, item))
    built = Popularity.build(make_inputs(events), half_life_days=half_life_days, first_only=first_only)
    everything = np.arange(ITEMS, dtype=np.int32)
    wanted = [max(expected[i], 0.0) for i in range(ITEMS)]
    np.testing.assert_allclose(wanted, built.score_rows(everything), rtol=1e-5, atol=1e-8)
    assert min(expected.values()) < 0


def test_items_without_events_follow_newest_first_then_by_row() -> None:
    created = [0, 50, 90, 50, 70]
    catalogue = make_catalogue(5, created_at=created)
    events: list[EventRow] = [(1, 3, 1.0, AS_OF_S - 5, 1)]
    built = Popularity.build(make_inputs(events, catalogue))
    found = built.generate(make_query(catalogue), 5)
    assert found.rows.tolist() == [3, 2, 4, 1, 0]
    assert found.scores.tolist()[1:] == [0, 0, 0, 0]


def test_an_event_after_the_moment_of_the_build_counts_as_now() -> None:
    events: list[EventRow] = [(1, 2, 1.0, AS_OF_S + 90 * DAY_S, 1)]
    assert Popularity.build(make_inputs(events)).score_rows(np.array([2], np.int32)).tolist() == [1.0]


@given(
    names=st.lists(st.sampled_from([*CATEGORIES, "unheard of"]), max_size=3),
    blocked=st.sets(st.integers(0, ITEMS - 1)),
    limit=st.integers(1, ITEMS),
    price=st.none() | st.floats(0, 70),
)
def test_the_list_is_the_head_of_all_allowed_items(
    names: list[str], blocked: set[int], limit: int, price: float | None
) -> None:
    """Whatever is filtered out: the same as going through the whole order."""
    query = make_query(CATALOGUE, exclude=sorted(blocked), filters=Filters(categories=tuple(names), min_price=price))
    rows = np.arange(ITEMS, dtype=np.int32)
    allowed = rows[query.allows(rows)]
    expected = allowed[np.lexsort((allowed, -BUILT.score_rows(allowed)))][:limit]
    assert BUILT.generate(query, limit).rows.tolist() == expected.tolist()


def test_the_one_allowed_item_at_the_end_of_a_long_list_is_found() -> None:
    """Past several growing looks, in the whole order and in a category's."""
    catalogue = make_catalogue(5_000)
    built = Popularity.build(make_inputs([], catalogue))
    for names in ((), ("garden",), CATEGORIES):
        filters = Filters(categories=names, min_price=4_999)
        found = built.generate(make_query(catalogue, filters=filters), 7).rows.tolist()
        assert found == [r for r in (4_998, 4_999) if not names or set(catalogue.categories_of(r)) & set(names)]


def test_a_category_is_looked_up_in_its_own_list() -> None:
    """A small category far down costs no walk through the catalogue: the query is asked about its members alone."""
    numbers = count()
    categories = [[1] if next(numbers) >= 4_990 else [0] for _ in range(5_000)]
    catalogue = make_catalogue(5_000, categories=categories, unavailable=[2])
    built = Popularity.build(make_inputs([], catalogue))
    query, conditions = counted(catalogue, Filters(categories=("kitchen",)))
    assert built.generate(query, 64).rows.tolist() == list(range(4_990, 5_000))
    assert [each.rows for each in conditions] == [10, 10]


def test_a_half_life_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="half_life_days"):
        Popularity.build(make_inputs([]), half_life_days=0)


def test_users_without_history_get_what_others_began_with() -> None:
    """Everybody's trend in shares, plus the weight times the shares of what came within a day of a user's first event."""
    events = random_events()
    began = {user: min(time for u, _, weight, time, _ in events if u == user and weight > 0) for user, *_ in events}
    begun = np.zeros(ITEMS)
    for user, item, weight, time, _ in events:
        if weight > 0 and time < began[user] + DAY_S:
            begun[item] += weight * 2 ** (-(AS_OF_S - time) / DAY_S / 9)
    built = Popularity.build(make_inputs(events), newcomer_weight=3.0, newcomer_half_life_days=9.0)
    trend = built.score_rows(np.arange(ITEMS, dtype=np.int32)).astype(np.float64)
    expected = trend / trend.sum() + 3 * begun / begun.sum()
    catalogue = make_catalogue()
    found = built.generate(make_query(catalogue), ITEMS)
    np.testing.assert_allclose(expected[found.rows], found.scores, rtol=1e-4)
    assert found.rows.tolist() != built.generate(make_query(catalogue, [1]), ITEMS).rows.tolist()
    plain = Popularity.build(make_inputs(events))
    assert (
        plain.generate(make_query(catalogue), 9).rows.tolist()
        == built.generate(make_query(catalogue, [1]), 9).rows.tolist()
    )


def test_a_weight_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="newcomer_weight is -1"):
        Popularity.build(make_inputs([]), newcomer_weight=-1)
