"""Figures beyond accuracy agree with their definitions, written out pair by pair."""

from __future__ import annotations

import math
from itertools import combinations
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.catalogue import Catalogue
from offline.evaluate.beyond_accuracy import Background
from offline.split.cuts import TimeCut
from tests.offline.recorded import DAY_S, N, catalogue, log_of

KNOWN = log_of((0, 1, 1), (0, 1, 2), (0, 2, 3), (1, 1, 1), (1, 5, 50), (2, 5, 60), users=3)
CUT = TimeCut(10.0 * DAY_S)


def background(vectors: list[list[float]] | None = None, items: Catalogue | None = None) -> Background:
    plain = Background(items or catalogue(), np.arange(N), 8, np.zeros(4), None)
    if vectors is None:
        return plain
    array = np.zeros((N, len(vectors[0])), np.float16)
    array[: len(vectors)] = vectors
    return Background(plain.catalogue, plain.had_by, plain.holders, plain.usual, array)


def figures(what: Background, lists: list[list[int]], hits: list[list[bool]] | None = None) -> dict[str, Any]:
    rows = np.array(lists, np.int32)
    marked = np.zeros(rows.shape, np.bool_) if hits is None else np.array(hits)
    return what.figures(rows, marked, np.full_like(rows, -1), np.zeros(len(rows), np.int64))


def test_what_users_had_is_counted_once_a_user_and_before_the_cut_only() -> None:
    bundle: Any = SimpleNamespace(catalogue=catalogue(), generators=())
    world: Any = SimpleNamespace(log=KNOWN, targets=frozenset((1,)), n_items=N)
    found = Background.of(world, CUT, bundle)
    assert found.had_by.tolist() == [0, 2, 1] + [0] * (N - 3)
    assert found.holders == 2
    assert found.usual[:2] == pytest.approx([(math.log(3) + math.log(2)) / 2, math.log(3)])
    assert np.isnan(found.usual[2])
    assert found.vectors is None


@given(st.lists(st.sets(st.integers(0, 4), max_size=3), min_size=2, max_size=8))
def test_category_diversity_is_one_minus_jaccard_over_all_pairs(sets: list[set[int]]) -> None:
    ptr = np.concatenate([[0], np.cumsum([len(names) for names in sets])]).astype(np.int32)
    base = catalogue()
    items = Catalogue(
        ids=[str(n) for n in range(len(sets))],
        available=base.available,
        price=base.price,
        created_at=base.created_at,
        category_ptr=ptr,
        category_idx=np.array([code for names in sets for code in sorted(names)], np.int32),
        category_names=tuple("abcde"),
        attributes={},
    )
    what = Background(items, np.ones(len(sets), np.int64), 1, np.zeros(1), None)
    found = figures(what, [[*range(len(sets)), -1]])["diversity_category"]
    pairs = [1 - len(a & b) / len(a | b) for a, b in combinations(sets, 2) if a and b]
    assert found == (pytest.approx(np.mean(pairs)) if pairs else None)


def test_vector_diversity_is_one_minus_cosine_over_all_pairs_with_texts() -> None:
    what = background([[1, 0], [0, 1], [0.6, 0.8], [0, 0]])
    found = figures(what, [[0, 1, 2, 3], [0, 1, -1, -1], [3, 0, -1, -1]])["diversity_vector"]
    assert found == pytest.approx(((1 + 0.4 + 0.2) / 3 + 1) / 2, abs=1e-3)  # the third list has no pair


def test_data_without_categories_or_texts_has_no_such_figure() -> None:
    bare = catalogue()
    none = Catalogue(
        bare.ids, bare.available, bare.price, bare.created_at, np.zeros(N + 1, np.int32), bare.category_idx[:0], (), {}
    )
    found = figures(background(items=none), [[1, 2]])
    assert found["diversity_category"] is None
    assert found["diversity_vector"] is None


def test_novelty_is_the_surprise_of_somebody_having_the_item() -> None:
    """Of 8 users 4 had item 4, 1 had item 1, and none had item 0, which counts as one."""
    assert figures(background(), [[4, 1], [0, -1]])["novelty"] == pytest.approx((1 + 3 + 3) / 3)


def test_only_hits_that_popularity_does_not_hold_are_serendipity() -> None:
    rows = np.array([[4, 1, 7, 9]], np.int32)
    hits = np.array([[True, True, False, True]])
    found = background().figures(rows, hits, np.array([[1, 2, 3, 5]], np.int32), np.zeros(1, np.int64))
    assert found["serendipity"] == pytest.approx(2 / 4)


def test_popularity_bias_holds_lists_against_what_the_user_took() -> None:
    usual = np.array([math.log(3), np.nan])
    what = Background(catalogue(), np.arange(N), 8, usual, None)
    rows = np.array([[2, 5], [9, 9]], np.int32)
    found = what.figures(rows, rows < 0, rows, np.array([0, 1]))
    assert found["popularity_bias"] == pytest.approx((math.log(3) + math.log(6)) / 2 - math.log(3))


def test_empty_lists_give_no_figures_and_no_error() -> None:
    found = figures(background([[1, 0], [0, 1]]), [[-1, -1]])
    assert cast("float", found["coverage"]) == 0
    assert found["novelty"] is None
    assert found["popularity_bias"] is None
    assert found["diversity_vector"] is None
