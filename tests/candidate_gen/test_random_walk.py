"""The walk against plain loops over users."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from candidate_gen import random_walk
from candidate_gen.random_walk import Params, RandomWalk
from tests.contracts.generator_world import (
    ITEMS,
    EventRow,
    make_catalogue,
    make_inputs,
    make_query,
    random_events,
)


def expected_weights(rows: list[EventRow], params: Params) -> dict[int, dict[int, float]]:
    """The formula of the module, written as loops: every pair that enough users made."""
    newest: dict[int, list[int]] = defaultdict(list)
    for user, item, weight, *_ in rows:
        if weight > 0:
            newest[user] = [item, *(i for i in newest[user] if i != item)]
    had = {user: items[: params.max_items] for user, items in newest.items()}
    users = np.bincount([i for items in had.values() for i in items], minlength=ITEMS)
    walks: dict[tuple[int, int], list[float]] = defaultdict(list)
    for items in had.values():
        for i in items:
            for j in items:
                if i != j:
                    walks[i, j].append(1 / len(items))
    found: dict[int, dict[int, float]] = defaultdict(dict)
    for (i, j), parts in walks.items():
        if len(parts) >= params.min_users:
            found[i][j] = float(sum(parts) / users[i] ** params.source_power / users[j] ** params.target_power)
    return found


@pytest.mark.parametrize("min_users", [1, 2, 3])
def test_the_table_is_what_loops_over_users_count(min_users: int) -> None:
    params = Params(min_users=min_users, max_items=9, neighbours=7, source_power=0.3, target_power=0.8)
    rows = random_events(seed=5)
    built = RandomWalk.build(
        make_inputs(rows), min_users=min_users, max_items=9, neighbours=7, source_power=0.3, target_power=0.8
    )
    expected = expected_weights(rows, params)
    assert len(expected) > 10
    for item in range(ITEMS):
        found, weights = built.neighbours(item)
        best = sorted(expected[item].values(), reverse=True)[:7]
        np.testing.assert_allclose(best, weights, rtol=1e-5)
        np.testing.assert_allclose([expected[item][row] for row in found.tolist()], weights, rtol=1e-5)


def test_blocks_make_the_same_table_as_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """Block sizes are a matter of memory, not of the result."""
    whole = RandomWalk.build(make_inputs()).table
    monkeypatch.setattr(random_walk, "_PATHS_PER_BLOCK", 50)
    parts = RandomWalk.build(make_inputs()).table
    for name in ("ptr", "rows", "scores"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def test_a_user_gets_the_sums_over_the_newest_distinct_items() -> None:
    """Item 7 is older than the three that count; repeats count once, and scores are shares of the best."""
    built = RandomWalk.build(make_inputs(), history=3)
    sums: dict[int, float] = defaultdict(float)
    for row in (2, 5, 1):
        for target, weight in zip(*(part.tolist() for part in built.neighbours(row)), strict=True):
            sums[target] += weight
    found = built.generate(make_query(make_catalogue(), [2, 5, 2, 1, 7], seen=[2, 5, 1, 7]), 100)
    allowed = {row: total for row, total in sums.items() if row not in {1, 2, 5, 7}}
    assert set(found.rows.tolist()) == set(allowed)
    expected = [allowed[row] / max(sums.values()) for row in found.rows.tolist()]
    np.testing.assert_allclose(expected, found.scores, rtol=1e-5)


def test_a_parameter_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="history is 0"):
        RandomWalk.build(make_inputs([]), history=0)
