"""The pool against a dictionary that does the same slowly."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candidate_gen.merge import by_prior, collect, extend, is_sound, merge
from core.catalogue import Filters
from core.types import Candidates, Pool, Query, Scores
from tests.contracts.generator_world import make_catalogue, make_query

SOURCES = ("near", "trend", "again")
CATALOGUE = make_catalogue(30, unavailable=[4, 11])

proposal = st.dictionaries(st.integers(0, 29), st.floats(-5, 5, width=32), max_size=12)
some_rows = st.lists(st.integers(0, 29), unique=True, max_size=8)
proposals = st.dictionaries(st.sampled_from(SOURCES), proposal)


class ByTable:
    """Scores a row by a fixed table and remembers the pool it was shown."""

    def __init__(self, table: list[float]) -> None:
        self.table = np.array(table, np.float32)
        self.shown: Pool | None = None

    def score(self, query: Query, pool: Pool) -> Scores:
        del query
        self.shown = pool
        return self.table[pool.rows]


class BySources(ByTable):
    """The same, and what the sources say on top."""

    def score(self, query: Query, pool: Pool) -> Scores:
        return super().score(query, pool) + np.nan_to_num(pool.source_scores).sum(axis=1)


def candidates(source: str, scores: dict[int, float]) -> Candidates:
    rows = sorted(scores, key=lambda r: -scores[r])
    return Candidates(source, np.array(rows, np.int32), np.array([scores[r] for r in rows], np.float32))


@given(
    proposed=proposals,
    prior=st.lists(st.integers(0, 3), min_size=30, max_size=30),
    exclude=some_rows,
    seen=some_rows,
    restrict=st.none() | some_rows,
    filtered=st.booleans(),
)
def test_the_pool_is_the_allowed_union_with_every_source_score_in_prior_order(
    *,
    proposed: dict[str, dict[int, float]],
    prior: list[int],
    exclude: list[int],
    seen: list[int],
    restrict: list[int] | None,
    filtered: bool,
) -> None:
    """Few distinct priors make ties; restrict replaces the union and the filters."""
    filters = Filters(categories=("garden",)) if filtered else Filters()
    query = make_query(CATALOGUE, exclude=exclude, seen=seen, filters=filters, restrict=restrict)
    pool = merge([candidates(s, p) for s, p in proposed.items()], query, SOURCES, ByTable(prior))

    union = {r for p in proposed.values() for r in p}
    allowed = {r for r in union if query.allows(np.array([r], np.int32))[0]} if restrict is None else set(restrict)
    rows = sorted(allowed, key=lambda r: (-prior[r], r))
    expected = np.array([[proposed.get(s, {}).get(r, np.nan) for s in SOURCES] for r in rows], np.float32)
    assert rows == pool.rows.tolist()
    np.testing.assert_array_equal(expected.reshape(len(rows), 3), pool.source_scores)
    assert [prior[r] for r in rows] == pool.prior.tolist()
    assert (pool.rows.dtype, pool.source_scores.dtype, pool.prior.dtype) == (np.int32, np.float32, np.float32)
    assert pool.sources == SOURCES


def test_a_restricted_pool_keeps_rows_that_nobody_proposed_and_that_filters_forbid() -> None:
    query = make_query(CATALOGUE, exclude=[7], restrict=[9, 7, 4])
    pool = merge([candidates("trend", {7: 2.5, 8: 3.0})], query, SOURCES, ByTable([0.0] * 30))
    assert pool.rows.tolist() == [4, 7, 9]
    np.testing.assert_array_equal(pool.source_scores[:, 1], np.array([np.nan, 2.5, np.nan], np.float32))


def test_the_prior_sees_the_same_source_scores_as_the_ranker() -> None:
    prior = ByTable(list(range(30)))
    pool = merge([candidates("near", {3: 1.0, 5: 2.0})], make_query(CATALOGUE), SOURCES, prior)
    assert prior.shown is not None
    np.testing.assert_array_equal(prior.shown.source_scores[::-1], pool.source_scores)


def test_no_proposals_make_an_empty_pool_without_asking_the_prior() -> None:
    prior = ByTable([0.0] * 30)
    pool = merge([], make_query(CATALOGUE), SOURCES, prior)
    assert len(pool) == 0
    assert pool.source_scores.shape == (0, 3)
    assert prior.shown is None


def test_rows_that_the_prior_cannot_score_come_last() -> None:
    """A NaN of the prior must not push a row to the front."""
    pool = merge(
        [candidates("near", {2: 1.0, 6: 1.0})], make_query(CATALOGUE), SOURCES, ByTable([np.nan] * 5 + [1.0] * 25)
    )
    assert pool.rows.tolist() == [6, 2]


def test_a_source_without_a_column_is_an_error() -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        merge([candidates("stranger", {1: 1.0})], make_query(CATALOGUE), SOURCES, ByTable([0.0] * 30))


@given(proposed=proposals, known=proposals)
def test_a_row_is_scored_by_every_source_that_knows_it_whoever_proposed_it(
    proposed: dict[str, dict[int, float]], known: dict[str, dict[int, float]]
) -> None:
    """What is known but proposed by nobody is not in the pool; two merges in a row do not see each other's scores."""
    query = make_query(CATALOGUE)
    prior = ByTable([0.0] * 30)
    asked = []
    for source, rows in proposed.items():
        everything = known.get(source, {}) | rows
        pairs = np.array(list(everything), np.int32), np.array(list(everything.values()), np.float32)
        asked.append(replace(candidates(source, rows), known=pairs))
    pool = merge(asked, query, SOURCES, prior)
    again = merge([candidates(s, p) for s, p in proposed.items()], query, SOURCES, prior)
    np.testing.assert_array_equal(pool.rows, again.rows)
    for i, row in enumerate(pool.rows.tolist()):
        for column, source in enumerate(SOURCES):
            alone = proposed.get(source, {}).get(row, np.nan)
            filled = known.get(source, {}).get(row, np.nan) if source in proposed and np.isnan(alone) else alone
            np.testing.assert_equal(float(pool.source_scores[i, column]), float(np.float32(filled)))
            np.testing.assert_equal(float(again.source_scores[i, column]), float(np.float32(alone)))


@given(
    proposed=proposals,
    known=proposals,
    late=st.sets(st.sampled_from(SOURCES)),
    prior=st.lists(st.integers(0, 3), min_size=30, max_size=30),
    exclude=some_rows,
    restrict=st.none() | some_rows,
)
def test_a_pool_that_is_extended_is_the_pool_of_all_at_once(
    *,
    proposed: dict[str, dict[int, float]],
    known: dict[str, dict[int, float]],
    late: set[str],
    prior: list[int],
    exclude: list[int],
    restrict: list[int] | None,
) -> None:
    query = make_query(CATALOGUE, exclude=exclude, restrict=restrict)
    asked = []
    for source, rows in proposed.items():
        everything = known.get(source, {}) | rows
        pairs = np.array(list(everything), np.int32), np.array(list(everything.values()), np.float32)
        asked.append(replace(candidates(source, rows), known=pairs if source in known else None))
    before = [found for found in asked if found.source not in late]
    more = [found for found in asked if found.source in late]
    scored = BySources(prior)

    held = collect(before, query, SOURCES)
    pool = by_prior(extend(held, more, query, before), query, scored)

    whole = merge(asked, query, SOURCES, scored)
    for name in ("rows", "source_scores", "prior"):
        np.testing.assert_array_equal(getattr(pool, name), getattr(whole, name))


def test_extending_a_pool_leaves_it_as_it_was() -> None:
    query, before = make_query(CATALOGUE), [candidates("near", {2: 1.0, 6: 1.0})]
    pool = collect(before, query, SOURCES)
    extend(pool, [candidates("again", {6: 1.0, 9: 2.0})], query, before)
    assert pool.rows.tolist() == [2, 6]
    assert np.isnan(pool.source_scores[:, 2]).all()


def test_rows_alike_for_the_prior_are_in_the_order_of_rows() -> None:
    query, prior = make_query(CATALOGUE), ByTable([np.nan] * 10 + [0.0, -0.0] * 10)
    before = [candidates("near", dict.fromkeys((21, 3, 12), 1.0))]
    pool = by_prior(
        extend(collect(before, query, SOURCES), [candidates("again", {8: 1.0, 13: 1.0})], query, before), query, prior
    )
    assert pool.rows.tolist() == [12, 13, 21, 3, 8]


def arrays(rows: Any, scores: Any, kind: Any = np.int32) -> tuple[Any, Any]:
    return np.array(rows, kind), np.array(scores, np.float32)


FAULTS = {
    "a row after the last": arrays([2, 30], [1, 2]),
    "a row below zero": arrays([2, -1], [1, 2]),
    "the least row there can be": arrays([-(2**31)], [1]),
    "rows of another type": arrays([2, 3], [1, 2], np.int64),
    "rows that are no whole numbers": arrays([2, 3], [1, 2], np.float32),
    "more rows than scores": arrays([2, 3, 5], [1, 2]),
    "one score for all rows": arrays([2, 3], [1]),
    "a table instead of a list": arrays([[2, 3]], [[1, 2]]),
    "scores that are words": (np.array([2, 3], np.int32), np.array(["high", "low"])),
    "lists instead of arrays": ([2, 3], [1.0, 2.0]),
}


@pytest.mark.parametrize("known", [False, True], ids=["proposed", "known"])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_source_that_breaks_its_promise_is_left_out_and_leaves_no_traces(
    fault: tuple[Any, Any], caplog: pytest.LogCaptureFixture, *, known: bool
) -> None:
    """The pool is the others', in this merge and in the next."""
    caplog.set_level(logging.CRITICAL)
    query, prior = make_query(CATALOGUE), ByTable([0.0] * 30)
    good = replace(candidates("near", {1: 1.0, 6: 2.0}), known=arrays([1, 2, 6], [1, 3, 2]))
    broken = replace(candidates("trend", {5: 9.0}), known=fault) if known else Candidates("trend", *fault)
    assert not is_sound(broken, 30)
    expected = merge([good], query, SOURCES, prior)
    whole = candidates("again", dict.fromkeys(range(20), 4.0))
    for order in ([good, broken], [broken, good]):
        found = merge(order, query, SOURCES, prior)
        np.testing.assert_array_equal(expected.rows, found.rows)
        np.testing.assert_array_equal(expected.source_scores, found.source_scores)
        after = merge([whole, candidates("trend", {7: 1.0})], query, SOURCES, prior)
        assert np.isfinite(after.source_scores).sum() == len(after) + 1


def test_a_larger_catalogue_before_does_not_widen_what_a_row_may_be(caplog: pytest.LogCaptureFixture) -> None:
    """The scratch array is as long as the largest catalogue of the thread."""
    caplog.set_level(logging.CRITICAL)
    prior = ByTable([0.0] * 60)
    merge([candidates("near", {50: 1.0})], make_query(make_catalogue(60)), SOURCES, prior)
    beyond = replace(candidates("near", {5: 1.0}), known=arrays([5, 50], [1, 7]))
    assert not len(merge([beyond], make_query(CATALOGUE), SOURCES, prior))


def test_the_source_that_is_left_out_is_named(caplog: pytest.LogCaptureFixture) -> None:
    merge([Candidates("trend", *arrays([99], [1]))], make_query(CATALOGUE), SOURCES, ByTable([0.0] * 30))
    assert "trend does not keep to" in caplog.text


@given(scores=st.lists(st.sampled_from([np.nan, np.inf, -np.inf, 1.5]), min_size=1, max_size=8))
def test_a_score_that_is_not_finite_is_no_opinion(scores: list[float]) -> None:
    odd = Candidates("near", *arrays(range(len(scores)), scores))
    assert is_sound(odd, 30)
    pool = merge([odd, candidates("trend", {0: 1.0})], make_query(CATALOGUE), SOURCES, ByTable([1.0] * 30))
    assert pool.rows.tolist() == [row for row in range(len(scores)) if row != 4]
    expected = [1.5 if scores[row] == 1.5 else np.nan for row in pool.rows.tolist()]
    np.testing.assert_array_equal(np.array(expected, np.float32), pool.source_scores[:, 0])


def test_a_row_that_is_given_twice_is_one_row_with_the_last_score() -> None:
    twice = Candidates("near", *arrays([6, 2, 6], [3, 2, 1]))
    pool = merge([twice], make_query(CATALOGUE), SOURCES, ByTable([0.0] * 30))
    assert pool.rows.tolist() == [2, 6]
    assert pool.source_scores[:, 0].tolist() == [2, 1]


def test_an_error_that_no_source_is_to_blame_for_is_raised() -> None:
    """After it the scratch array is as it was."""
    with pytest.raises(IndexError):
        merge([candidates("near", {9: 1.0})], make_query(CATALOGUE), SOURCES, ByTable([0.0]))
    pool = merge(
        [candidates("near", {3: 1.0}), candidates("trend", {9: 1.0})],
        make_query(CATALOGUE),
        SOURCES,
        ByTable([0.0] * 30),
    )
    assert np.isnan(pool.source_scores).sum() == 4


@pytest.mark.parametrize("known", [False, True], ids=["proposed", "known"])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_source_that_breaks_its_promise_is_left_out_of_an_extended_pool_too(
    fault: tuple[Any, Any], *, known: bool
) -> None:
    query = make_query(CATALOGUE)
    before = [candidates("near", {3: 1.0, 5: 2.0})]
    broken = replace(candidates("again", {8: 9.0}), known=fault) if known else Candidates("again", *fault)
    left_out: list[str] = []
    pool = collect(before, query, SOURCES)
    again = extend(pool, [broken], query, before, left_out.append)
    assert left_out == ["again"]
    np.testing.assert_array_equal(again.rows, pool.rows)
    np.testing.assert_array_equal(again.source_scores, pool.source_scores)
