"""The table of neighbours: sums against a dictionary, and files that are not what they should be."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candidate_gen.neighbours import NeighbourTable, newest_distinct
from core.manifest import BundleError

if TYPE_CHECKING:
    from pathlib import Path

N = 12
lists = st.lists(st.dictionaries(st.integers(0, N - 1), st.floats(0.0625, 9, width=32)), min_size=N, max_size=N)


def table_of(lists_: list[dict[int, float]]) -> NeighbourTable:
    left = [i for i, neighbours in enumerate(lists_) for _ in neighbours]
    right = [j for neighbours in lists_ for j in neighbours]
    scores = [s for neighbours in lists_ for s in neighbours.values()]
    return NeighbourTable.of_pairs(N, np.array(left, np.int32), np.array(right, np.int32), np.array(scores, np.float32))


@given(lists, st.lists(st.integers(0, N - 1), max_size=8, unique=True))
def test_the_sum_over_a_history_is_what_a_dictionary_adds_up(
    lists_: list[dict[int, float]], history: list[int]
) -> None:
    weights = np.array([0.8**a for a in range(len(history))], np.float32)
    expected: dict[int, float] = defaultdict(float)
    for row, weight in zip(history, weights.tolist(), strict=True):
        for other, score in lists_[row].items():
            expected[other] += weight * score
    rows, sums = table_of(lists_).sum(np.array(history, np.int32), weights)
    assert sorted(rows.tolist()) == sorted(expected)
    np.testing.assert_allclose([expected[r] for r in rows.tolist()], sums, rtol=1e-5)


@given(lists, st.integers(1, 5))
def test_lists_are_best_first_and_a_cut_keeps_the_best(lists_: list[dict[int, float]], count: int) -> None:
    table = table_of(lists_)
    short = table.cut(count)
    for row, neighbours in enumerate(lists_):
        expected = sorted(neighbours, key=lambda j: (-neighbours[j], j))
        assert table.of(row)[0].tolist() == expected
        assert short.of(row)[0].tolist() == expected[:count]


def test_one_sum_does_not_leave_traces_in_the_next() -> None:
    """The scratch array is never cleared."""
    table = table_of([{j: 1.0 + j for j in range(N) if j != i} for i in range(N)])
    fresh = table_of([{j: 1.0 + j for j in range(N) if j != i} for i in range(N)])
    one = np.ones(1, np.float32)
    table.sum(np.arange(N, dtype=np.int32), np.ones(N, np.float32))
    again, expected = (t.sum(np.array([3], np.int32), one) for t in (table, fresh))
    np.testing.assert_array_equal(expected[0], again[0])
    np.testing.assert_array_equal(expected[1], again[1])


def test_the_newest_distinct_rows_are_found_by_position() -> None:
    history = np.array([7, 7, 2, 7, 9, 2, 4], np.int32)
    assert newest_distinct(history, 3).tolist() == [0, 2, 4]
    assert newest_distinct(history[:0], 3).tolist() == []


@pytest.mark.parametrize(
    ("file", "array"),
    [
        ("neighbour_ptr.npy", np.array([0, 2, 1, 3], np.int64)),
        ("neighbour_ptr.npy", np.array([1, 2, 2, 3], np.int64)),
        ("neighbour_ptr.npy", np.array([0, 1, 2, 3], np.int32)),
        ("neighbour_ptr.npy", np.array([0, 1, 2], np.int64)),
        ("neighbour_rows.npy", np.array([0, 3, 1], np.int32)),
        ("neighbour_rows.npy", np.array([0, -1, 1], np.int32)),
        ("neighbour_scores.npy", np.array([1, np.nan, 1], np.float32)),
        ("neighbour_scores.npy", np.array([1, 1], np.float32)),
    ],
)
def test_a_table_that_would_read_outside_itself_is_refused(tmp_path: Path, file: str, array: np.ndarray) -> None:
    """Its checksum may be right and it may still be another catalogue's."""
    table = NeighbourTable(
        np.array([0, 1, 2, 3], np.int64), np.array([1, 2, 0], np.int32), np.array([1, 1, 1], np.float32)
    )
    table.save(tmp_path)
    NeighbourTable.load(tmp_path, 3)
    np.save(tmp_path / file, array)
    with pytest.raises(BundleError, match=file):
        NeighbourTable.load(tmp_path, 3)
