"""The counting against plain loops over users, and the sum over a history against plain dictionaries."""

from __future__ import annotations

from collections import defaultdict
from itertools import product
from typing import TYPE_CHECKING, Any

import ibis
import numpy as np
import pytest

from candidate_gen import cooccurrence_counts
from candidate_gen.cooccurrence import CoOccurrence
from candidate_gen.cooccurrence_params import BASKETS, SEQUENCES, Params
from core.catalogue import Filters
from tests.contracts.generator_world import (
    AS_OF_S,
    DAY_S,
    ITEMS,
    make_catalogue,
    make_inputs,
    make_query,
    random_events,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contracts.generator_world import EventRow

Table = dict[int, list[tuple[int, float]]]

SETTINGS: dict[str, dict[str, Any]] = {
    "sequences": SEQUENCES | {"min_users": 1},
    "baskets": BASKETS | {"min_users": 2},
    "all at once": {
        "unit": "session",
        "window": 3,
        "same_basket": 0.6,
        "gap_power": 1.3,
        "backward": 0.25,
        "source_power": 0.5,
        "target_power": 0.4,
        "basket_power": 1.0,
        "half_life_days": 20.0,
        "count_half_life_days": 50.0,
        "shrink": 1.5,
        "min_users": 3,
        "neighbours": 7,
        "first_only": False,
        "max_basket": 4,
    },
    "both ways by event": {"unit": "event", "window": 4, "backward": 0.5, "min_users": 1, "half_life_days": 9.0},
}


def baskets_of(rows: list[EventRow], params: Params) -> dict[int, list[tuple[int, set[int]]]]:
    """user -> (time, items) of each basket, oldest first."""
    found: dict[int, dict[Any, tuple[int, list[int]]]] = defaultdict(dict)
    for position, (user, item, weight, time, session) in enumerate(rows):
        if weight > 0:
            key = position if params.unit == "event" else session
            basket = found[user].setdefault(key, (time, []))
            if item not in basket[1]:
                basket[1].append(item)
    return {u: [(t, set(items[-params.max_basket :])) for t, items in b.values()] for u, b in found.items()}


def decay(time: int, half_life: float | None) -> float:
    return 1.0 if half_life is None else 2 ** (-(AS_OF_S - time) / DAY_S / half_life)


def pairs_of(baskets: list[tuple[int, set[int]]], params: Params) -> Iterator[tuple[int, int, float]]:
    """Every (i, j, weight) that one user makes."""
    met: set[int] = set()
    for r, (time, items) in enumerate(baskets):
        new = items - met if params.first_only else items
        met |= items
        for g in range(min(r, params.window) + 1):
            before = baskets[r - g][1]
            weight = decay(time, params.half_life_days) * (len(before) * len(items)) ** (-params.basket_power / 2)
            for i, j in product(before, new):
                if g == 0:
                    yield i, j, params.same_basket * weight
                else:
                    yield i, j, weight * g**-params.gap_power
                    yield j, i, weight * g**-params.gap_power * params.backward


def expected_table(rows: list[EventRow], params: Params) -> Table:
    """The formula of the module, written as loops."""
    raw: dict[tuple[int, int], float] = defaultdict(float)
    users: dict[tuple[int, int], set[int]] = defaultdict(set)
    popularity: dict[int, float] = defaultdict(float)
    for user, baskets in baskets_of(rows, params).items():
        for time, items in baskets:
            for item in items:
                popularity[item] += decay(time, params.count_half_life_days)
        for i, j, weight in pairs_of(baskets, params):
            if i != j and weight:
                raw[i, j] += weight
                users[i, j].add(user)

    kept: dict[int, dict[int, float]] = defaultdict(dict)
    for (i, j), value in raw.items():
        if len(users[i, j]) >= params.min_users:
            kept[i][j] = value
    floor = 1.0 if params.count_half_life_days is None else 0.1
    table = {}
    for i, values in kept.items():
        total = (sum(values.values()) + params.shrink) ** params.source_power
        weights = {j: v / total / max(popularity[j], floor) ** params.target_power for j, v in values.items()}
        table[i] = sorted(weights.items(), key=lambda w: (-w[1], w[0]))[: params.neighbours]
    return table


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_table_is_what_loops_over_users_and_baskets_count(setting: str) -> None:
    """Weights of the same rank agree, within the 2**-32 steps that are counted in; equal weights may swap."""
    params = SETTINGS[setting]
    rows = random_events(seed=11, per_user=18)
    built = CoOccurrence.build(make_inputs(rows), **params)
    expected = expected_table(rows, Params(**params))
    assert len(expected) > 10
    for item in range(ITEMS):
        found, weights = built.neighbours(item)
        assert len(expected.get(item, [])) == len(found)
        if len(found):
            np.testing.assert_allclose([w for _, w in expected[item]], weights, rtol=1e-4, atol=1e-9)
        complete = dict(expected.get(item, []))
        lowest = min(complete.values(), default=0.0)
        for row, weight in zip(found.tolist(), weights.tolist(), strict=True):
            assert weight == pytest.approx(complete.get(row, lowest), rel=1e-4, abs=1e-9)


def test_parts_make_the_same_table_as_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """Part sizes are a matter of memory, not of the result: equal to the last bit."""
    whole = CoOccurrence.build(make_inputs(), **SETTINGS["all at once"]).table
    monkeypatch.setattr(cooccurrence_counts, "_PAIRS_PER_PART", 1500)
    parts = CoOccurrence.build(make_inputs(), **SETTINGS["all at once"]).table
    for name in ("ptr", "rows", "scores"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def test_the_order_in_which_events_are_stored_does_not_matter() -> None:
    rows = random_events()
    by_user_backwards = sorted(rows, key=lambda e: -e[0])
    one, other = (CoOccurrence.build(make_inputs(r), **BASKETS).table for r in (rows, by_user_backwards))
    np.testing.assert_array_equal(one.rows, other.rows)
    np.testing.assert_array_equal(one.scores, other.scores)


def test_a_pair_that_one_person_made_is_not_kept() -> None:
    """However often: user 1 goes 5 -> 9 in ten sessions; 5 -> 2 is made by two."""
    rows: list[EventRow] = [(1, i, 1.0, AS_OF_S - 900 + k, k // 2) for k, i in enumerate([5, 9] * 10)]
    rows += [(2, 5, 1.0, AS_OF_S - 50, 70), (2, 2, 1.0, AS_OF_S - 40, 70)]
    rows += [(3, 5, 1.0, AS_OF_S - 30, 80), (3, 2, 1.0, AS_OF_S - 20, 80)]
    built = CoOccurrence.build(make_inputs(rows), **(BASKETS | {"first_only": False}))
    assert built.neighbours(5)[0].tolist() == [2]
    assert built.neighbours(9)[0].tolist() == []


def test_pairs_are_directed_when_nothing_counts_backwards() -> None:
    rows: list[EventRow] = [(u, i, 1.0, AS_OF_S - 100 + k, u) for u in (1, 2) for k, i in enumerate((7, 3))]
    built = CoOccurrence.build(make_inputs(rows), **SEQUENCES)
    assert built.neighbours(7)[0].tolist() == [3]
    assert built.neighbours(3)[0].tolist() == []


def test_events_with_negative_weight_make_no_pairs() -> None:
    rows: list[EventRow] = [
        (u, i, w, AS_OF_S - 100 + k, u) for u in (1, 2) for k, (i, w) in enumerate([(7, 1.0), (4, -1.0), (3, 1.0)])
    ]
    built = CoOccurrence.build(make_inputs(rows), **(SEQUENCES | {"window": 1}))
    assert built.neighbours(7)[0].tolist() == [3]
    assert built.neighbours(4)[0].tolist() == []


def test_no_events_build_an_empty_table() -> None:
    built = CoOccurrence.build(make_inputs([]))
    assert len(built.table.rows) == 0
    assert len(built.generate(make_query(make_catalogue(), [1, 2]), 10).rows) == 0


def test_a_huge_user_and_a_huge_session_make_a_bounded_number_of_pairs() -> None:
    """Pairs grow with events x window and events x ``max_basket``, not with their square."""
    events = 20_000
    rng = np.random.default_rng(5)
    items = rng.integers(0, 50_000, events).tolist()
    rows: list[EventRow] = [(1, item, 1.0, AS_OF_S - events + k, 1) for k, item in enumerate(items)]
    table = make_inputs(rows).events
    for params, most in (
        (Params(window=10, first_only=False), events * 10),
        (Params(**(BASKETS | {"max_basket": 100, "first_only": False})), 100 * 100),
    ):
        entries = cooccurrence_counts._entries(table, params, AS_OF_S)
        pairs = cooccurrence_counts._pairs(entries, params, parts=1, part=0).count().to_pyarrow().as_py()
        assert most * 0.9 < pairs <= most


def test_the_score_is_the_faded_sum_over_distinct_items_as_a_share_of_the_best() -> None:
    """History 8, 8, 5, 2 by event: positions 0, 2 and 3 count, the repeated 8 once."""
    built = CoOccurrence.build(make_inputs(), min_users=1, decay=0.5)
    query = make_query(make_catalogue(), [8, 8, 5, 2])
    found = built.generate(query, ITEMS)
    sums: dict[int, float] = defaultdict(float)
    for row, back in ((8, 0), (5, 2), (2, 3)):
        for other, weight in zip(*built.neighbours(row), strict=True):
            sums[int(other)] += 0.5**back * float(weight)
    best = max(sums.values())
    assert sorted(sums) == sorted(found.rows.tolist())
    np.testing.assert_allclose([sums[r] / best for r in found.rows.tolist()], found.scores, rtol=1e-5)
    assert found.scores[0] == 1


def test_with_baskets_what_was_bought_together_lies_equally_far_back() -> None:
    """Ages of 1, 2 and 90 minutes: two baskets."""
    built = CoOccurrence.build(make_inputs(), **(BASKETS | {"decay": 0.5}))
    query = make_query(make_catalogue(), [4, 6, 9], ages_s=[60, 120, 5400])
    history, weights = built.newest(query)
    assert history.tolist() == [4, 6, 9]
    assert weights.tolist() == [1.0, 1.0, 0.5]


def test_only_the_newest_distinct_items_are_looked_at() -> None:
    built = CoOccurrence.build(make_inputs(), history=2)
    history, _ = built.newest(make_query(make_catalogue(), [4, 4, 6, 9]))
    assert history.tolist() == [4, 6]


def test_the_limit_is_filled_with_allowed_items_where_more_were_found() -> None:
    """A filter does not use up the limit: the best garden items come, not the garden items among the best."""
    catalogue = make_catalogue()
    built = CoOccurrence.build(make_inputs(), min_users=1)
    everything = built.generate(make_query(catalogue, [1, 2, 3]), ITEMS)
    assert len(everything.rows) > 30
    query = make_query(catalogue, [1, 2, 3], filters=Filters(categories=("garden",)), exclude=[0, 6])
    garden = everything.rows[query.allows(everything.rows)]
    assert built.generate(query, 4).rows.tolist() == garden[:4].tolist()


@pytest.mark.parametrize(
    "wrong", [{"window": -1}, {"window": 0}, {"backward": 2}, {"decay": 0}, {"unit": "week"}, {"half_life_days": 0}]
)
def test_a_parameter_out_of_range_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CoOccurrence.build(make_inputs(), **wrong)


def test_events_may_come_as_any_ibis_expression() -> None:
    """A view over a file, say: the table need not be a table of the engine."""
    inputs = make_inputs()
    view = inputs.events.mutate(extra=ibis.literal(1))
    same = make_inputs()
    one = CoOccurrence.build(inputs).table.scores
    other = CoOccurrence.build(type(same)(view, same.catalogue, same.texts, same.as_of_s)).table.scores
    np.testing.assert_array_equal(one, other)
