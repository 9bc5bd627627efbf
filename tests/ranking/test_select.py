"""The final list against its definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from core.query import Request, build_query
from core.types import NO_SCORES, Pool, Query, UserEvent, UserState
from ranking.select import by_popularity, select
from tests.server import toy

NAN = float("nan")
BUNDLE = toy.bundle()


def query(limit: int, history: tuple[str, ...] = ()) -> Query:
    events = tuple(UserEvent(item_id, "view", 1000.0 - age) for age, item_id in enumerate(history))
    return build_query(BUNDLE, Request("ada", limit), UserState(events), 1000.0)


def pool(rows: list[int], source_scores: list[list[float]] | None = None) -> Pool:
    scores = source_scores or [[1.0, NAN]] * len(rows)
    return Pool(
        np.array(rows, np.int32),
        np.array(scores, np.float32).reshape(len(rows), 2),
        ("near", "far"),
        np.linspace(1, 0, len(rows), dtype=np.float32),
    )


def test_scored_rows_come_first_then_unscored_then_popular_ones() -> None:
    """item-55 and item-50 are not available; 59 is in the pool already."""
    chosen = select(query(7), pool([3, 59, 7, 8]), np.array([0.1, 0.9], np.float32), BUNDLE.popularity)

    assert chosen.rows.tolist() == [59, 3, 7, 8, 58, 57, 56]
    np.testing.assert_allclose(chosen.scores, [0.9, 0.1, NAN, NAN, NAN, NAN, NAN], rtol=1e-6)
    assert chosen.proposed.tolist() == [1, 1, 1, 1, 0, 0, 0]


def test_equal_scores_keep_the_order_of_the_pool() -> None:
    chosen = select(query(3), pool([9, 2, 31]), np.zeros(3, np.float32), BUNDLE.popularity)

    assert chosen.rows.tolist() == [9, 2, 31]


def test_bits_say_who_speaks_for_a_row() -> None:
    sources = [[NAN, 0.0], [0.5, NAN], [1.0, 1.0], [NAN, NAN]]
    chosen = select(query(4), pool([1, 2, 3, 4], sources), np.arange(4, 0, -1).astype(np.float32), BUNDLE.popularity)

    assert chosen.proposed.tolist() == [2, 1, 3, 0]
    assert chosen.proposed.dtype == np.uint32


def test_rows_to_order_are_not_filled_up() -> None:
    asked = replace(query(5), restrict=np.array([4, 40], np.int32))

    assert select(asked, pool([4, 40]), NO_SCORES, BUNDLE.popularity).rows.tolist() == [4, 40]
    assert by_popularity(asked, BUNDLE.popularity).rows.tolist() == [40, 4]


@given(
    rows=st.lists(st.sampled_from([r for r in range(toy.ITEMS) if r % 5]), unique=True),
    scored=st.integers(0, 60),
    limit=st.integers(1, 70),
    seed=st.integers(0, 99),
)
def test_the_list_is_the_definition_written_plainly(rows: list[int], scored: int, limit: int, seed: int) -> None:
    scores = np.random.default_rng(seed).integers(0, 5, min(scored, len(rows))).astype(np.float32)

    chosen = select(query(limit), pool(rows), scores, BUNDLE.popularity)

    first = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    ordered = [rows[i] for i in first] + rows[len(scores) :]
    popular = [r for r in range(toy.ITEMS - 1, -1, -1) if r % 5 and r not in ordered]
    assert chosen.rows.tolist() == [*ordered, *popular][:limit]
    assert [s for s in chosen.scores.tolist() if s == s] == sorted(scores.tolist(), reverse=True)[:limit]  # noqa: PLR0124
