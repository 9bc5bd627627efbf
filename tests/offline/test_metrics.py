"""Figures of merit agree with their definitions, written out for one user at a time."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline.metrics import bootstrap, coverage, every_metric, gini, hit_matrix, intervals, per_user

SHARED_EVAL = Path(__file__).resolve().parents[3] / "shared" / "eval"

rows = st.lists(st.integers(0, 30), max_size=12)
wanted = st.sets(st.integers(0, 30), min_size=1, max_size=9)


def by_definition(answer: list[int], relevant: set[int], k: int) -> dict[str, float]:
    places = [p for p, row in enumerate(answer[:k], 1) if row in relevant and row not in answer[: p - 1]]
    ideal = sum(1 / math.log2(p + 1) for p in range(1, min(k, len(relevant)) + 1))
    return {
        f"recall@{k}": len(places) / len(relevant),
        f"precision@{k}": len(places) / k,
        f"ndcg@{k}": sum(1 / math.log2(p + 1) for p in places) / ideal,
        f"map@{k}": sum(n / p for n, p in enumerate(places, 1)) / min(k, len(relevant)),
        f"mrr@{k}": 1 / places[0] if places else 0.0,
        f"hit_rate@{k}": float(bool(places)),
    }


@given(st.lists(st.tuples(rows, wanted), min_size=1, max_size=6), st.integers(1, 10))
def test_every_figure_is_its_definition(users: list[tuple[list[int], set[int]]], k: int) -> None:
    lists = [np.array(answer, np.int32) for answer, _ in users]
    relevant = [np.array(sorted(want), np.int32) for _, want in users]
    measured = per_user(hit_matrix(lists, relevant, 10), np.array([len(w) for _, w in users]), k)
    for i, (answer, want) in enumerate(users):
        expected = by_definition(answer, want, k)
        assert expected == pytest.approx({name: values[i] for name, values in measured.items()})


@pytest.mark.shared_data
def test_figures_agree_with_the_independent_evaluator() -> None:
    """The same lists give the same figures as the evaluator beside the checkout, for all that it has."""
    if not SHARED_EVAL.is_dir():
        pytest.skip("the independent evaluator is not beside this checkout")
    sys.path.insert(0, str(SHARED_EVAL))
    try:
        import recseval  # noqa: PLC0415 - there only beside some checkouts
    finally:
        sys.path.remove(str(SHARED_EVAL))
    rng = np.random.default_rng(7)
    lists = [rng.choice(50, 20, replace=False).astype(np.int32) for _ in range(40)]
    relevant = [rng.choice(50, rng.integers(1, 25), replace=False).astype(np.int32) for _ in range(40)]
    hits = hit_matrix(lists, relevant, 20)
    n_relevant = np.array([len(r) for r in relevant])
    theirs = recseval.evaluate_lists(
        np.repeat(np.arange(40), 20),
        np.concatenate(lists),
        np.tile(np.arange(20), 40),
        recseval.Interactions(np.repeat(np.arange(40), n_relevant), np.concatenate(relevant)),
    )
    for k in (10, 20):
        ours = per_user(hits, n_relevant, k)
        for mine, name in (
            ("recall", "recall"),
            ("precision", "precision"),
            ("ndcg", "ndcg"),
            ("mrr", "mrr"),
            ("hit_rate", "hr"),
        ):
            assert theirs[f"{name}@{k}"] == pytest.approx(ours[f"{mine}@{k}"].mean())


def test_the_interval_covers_the_mean_and_narrows_with_more_users() -> None:
    rng = np.random.default_rng(1)
    few, many = bootstrap(rng.random(30)), bootstrap(rng.random(3000))
    assert few.low < few.mean < few.high
    assert many.high - many.low < few.high - few.low


def test_nobody_to_judge_is_zero_and_not_an_error() -> None:
    assert bootstrap(np.empty(0)).as_dict() == {"mean": 0.0, "low": 0.0, "high": 0.0}


def test_the_interval_is_that_of_means_over_drawn_users() -> None:
    """Of ten users one has a hit: a mean is k/10 as often as a binomial says."""
    found = bootstrap(np.array([1.0] + [0.0] * 9))
    assert found.mean == pytest.approx(0.1)
    assert (found.low, found.high) == (0.0, pytest.approx(0.3))


def test_figures_are_resampled_together_and_the_same_every_time() -> None:
    """A difference of a figure with itself has no width, and a figure's interval does not depend on the others."""
    values = np.random.default_rng(3).random(50)
    found = intervals({"one": values, "other": values**2, "shifted": values + 1})
    assert found == intervals({"one": values, "other": values**2, "shifted": values + 1})
    assert found["shifted"]["low"] - found["one"]["low"] == pytest.approx(1)
    assert bootstrap(values**2).as_dict() == pytest.approx(found["other"])


def test_every_metric_comes_at_both_lengths() -> None:
    figures = every_metric(np.zeros((3, 20), np.bool_), np.ones(3, np.int64))
    assert set(figures) == {
        f"{name}@{k}" for name in ("recall", "precision", "ndcg", "map", "mrr", "hit_rate") for k in (10, 20)
    }


def test_coverage_counts_each_item_once() -> None:
    assert coverage(np.array([0, 3, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0])) == 0.25


@given(st.lists(st.integers(0, 20), min_size=1, max_size=12))
def test_gini_is_half_the_mean_difference_of_two_items_over_the_mean(exposure: list[int]) -> None:
    total = sum(exposure)
    expected = sum(abs(a - b) for a in exposure for b in exposure) / (2 * len(exposure) * total) if total else 0
    assert gini(np.array(exposure)) == pytest.approx(expected)
