"""The first allowed rows of an order: the same as going through all of it, at a bounded cost a step."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candidate_gen.first_allowed import finished, first_allowed
from candidate_gen.popularity import Ranking
from core.allowed import BLOCK
from core.catalogue import Catalogue, Filters
from tests.contracts.filter_world import catalogues, counted, draw_catalogue, filters, passes, small_blocks
from tests.contracts.generator_world import make_query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.types import Query


@pytest.fixture
def _many_blocks() -> Iterator[None]:
    with small_blocks():
        yield


def best(catalogue: Catalogue, query: Query, seed: int) -> tuple[Ranking, list[int]]:
    """A ranking with ties, and all rows that the query allows in its order."""
    score = np.random.default_rng(seed).integers(0, 9, len(catalogue)).astype(np.float32)
    allowed = [row for row in range(len(catalogue)) if passes(catalogue, row, query.filters)]
    blocked = set(query.exclude.tolist())
    return Ranking.of(score, catalogue), sorted(set(allowed) - blocked, key=lambda row: (-score[row], row))


@given(
    catalogue=catalogues,
    chosen=filters,
    exclude=st.sets(st.integers(0, 59)),
    limits=st.lists(st.integers(1, 70), min_size=1, max_size=3),
    seed=st.integers(0, 9),
)
def test_the_list_is_the_head_of_all_allowed_rows_whatever_the_filters(
    catalogue: Catalogue, chosen: Filters, exclude: set[int], limits: list[int], seed: int
) -> None:
    """Of a whole order and of the members of categories, for one limit after the other."""
    with small_blocks():
        query = make_query(catalogue, exclude=sorted(e for e in exclude if e < len(catalogue)), filters=chosen)
        ranking, expected = best(catalogue, query, seed)
        for limit in limits:
            assert finished(ranking.best(query, limit)).tolist() == expected[:limit]
            assert finished(first_allowed(query, ranking.order, limit)).tolist() == expected[:limit]
        assert not query.allowed().cut_short


@given(
    catalogue=catalogues, chosen=filters, limit=st.integers(1, 70), seed=st.integers(0, 9), patience=st.integers(0, 20)
)
def test_in_a_hurry_the_list_may_be_short_which_is_said_but_never_empty_nor_wrong(
    catalogue: Catalogue, chosen: Filters, limit: int, seed: int, patience: int
) -> None:
    with small_blocks():
        query = make_query(catalogue, filters=chosen)
        ranking, expected = best(catalogue, query, seed)
        steps, pauses = ranking.best(query, limit), 0
        while True:
            query.allowed().hurry = pauses >= patience
            try:
                next(steps)
                pauses += 1
            except StopIteration as end:
                found = end.value.tolist()
                break
        assert bool(found) == bool(expected)
        assert [row for row in expected if row in set(found)] == found
        assert found == expected[:limit] or query.allowed().cut_short
        assert not query.allowed().cut_short or pauses >= patience


@pytest.mark.usefixtures("_many_blocks")
def test_who_asks_again_for_as_many_or_fewer_costs_no_second_look() -> None:
    catalogue = draw_catalogue(60, 5)
    query, conditions = counted(catalogue, Filters(max_price=3.0))
    ranking = Ranking.of(np.zeros(60, np.float32), catalogue)
    first = finished(ranking.best(query, 30)).tolist()
    looked = [each.rows for each in conditions]
    assert finished(ranking.best(query, 30)).tolist() == first
    assert finished(ranking.best(query, 4)).tolist() == first[:4]
    assert [each.rows for each in conditions] == looked


def test_wanted_categories_of_which_every_item_has_very_many_are_looked_through_to_the_end() -> None:
    """Labels in place of categories: the lists of their members are together many times as long as the catalogue."""
    labels, items = 90, 40
    catalogue = replace(
        draw_catalogue(items, 5),
        category_ptr=np.arange(items + 1, dtype=np.int32) * labels,
        category_idx=np.tile(np.arange(labels, dtype=np.int32), items),
        category_names=tuple(f"label-{n}" for n in range(labels)),
    )
    query = make_query(catalogue, filters=Filters(categories=catalogue.category_names))
    ranking, expected = best(catalogue, query, 3)

    assert finished(ranking.best(query, 20)).tolist() == expected[:20]


def test_a_ranking_is_not_taken_for_one_that_is_gone() -> None:
    """Evaluations ask the same query of one ranking after the other, each where the last one was in memory."""
    catalogue = draw_catalogue(60, 5)
    query = make_query(catalogue)
    for seed in range(50):
        ranking, expected = best(catalogue, query, seed)
        assert finished(ranking.best(query, 10)).tolist() == expected[:10]
        del ranking


WORST = {
    "a price that none has": Filters(min_price=11.0),
    "a price that few have": Filters(min_price=9.5, attributes={"brand": ("v1",), "colour": ("v1",)}),
    "every category and a price that none has": Filters(categories=tuple(f"c{i}" for i in range(5)), min_price=11.0),
    "no category and a price that none has": Filters(exclude_categories=("c1", "c2"), min_price=11.0),
    "many values that no item has together": Filters(
        attributes={"brand": tuple(f"v{i}" for i in range(8)), "colour": ("v0", "v1")}, min_price=11.0
    ),
    "nothing but the last of the list": Filters(attributes={"brand": ("v0",)}),
}


@pytest.mark.parametrize("chosen", WORST.values(), ids=WORST)
def test_no_step_looks_at_more_than_a_block_and_all_steps_at_the_catalogue_once_whatever_its_size(
    chosen: Filters,
) -> None:
    """Rows tested by each condition between two pauses are bounded by a constant, all of them by the catalogue's size."""
    for n in (100_000, 400_000):
        catalogue = _repeated(n)
        query, conditions = counted(catalogue, chosen)
        score = (catalogue.attributes["brand"][0] != 0).astype(np.float32)
        ranking = Ranking.of(score, catalogue)
        before, most, pauses = [0] * len(conditions), 0, 0
        for _ in ranking.best(query, 500):
            now = [each.rows for each in conditions]
            most = max(most, *(b - a for a, b in zip(before, now, strict=True)))
            before, pauses = now, pauses + 1
        assert most <= BLOCK
        assert max(each.rows for each in conditions) <= n + 4 * BLOCK
        assert pauses <= 4 * n // BLOCK + 20


def test_a_category_whose_items_lie_close_in_the_order_is_looked_at_in_stretches_too() -> None:
    n, first, end = 400_000, 60_000, 260_000
    inside = (np.arange(n) >= first) & (np.arange(n) < end)
    catalogue = replace(
        _repeated(n),
        category_ptr=np.concatenate([[0], np.cumsum(inside)]).astype(np.int32),
        category_idx=np.zeros(end - first, np.int32),
    )
    query, conditions = counted(catalogue, Filters(categories=("c0",), min_price=11.0))
    ranking = Ranking.of(-np.arange(n, dtype=np.float32), catalogue)
    before, most = 0, 0
    for _ in ranking.best(query, 500):
        now = sum(each.rows for each in conditions)
        most, before = max(most, now - before), now
    assert most <= len(conditions) * BLOCK


def _repeated(n: int) -> Catalogue:
    """A small catalogue over and over, since drawing a large one takes a while."""
    small = draw_catalogue(500, 8)
    times = n // 500
    count = np.tile(np.diff(small.category_ptr), times)
    return Catalogue(
        ids=range(n),  # type: ignore[arg-type] - nobody asks for ids
        available=np.tile(small.available, times),
        price=np.tile(small.price, times),
        created_at=np.tile(small.created_at, times),
        category_ptr=np.concatenate([[0], np.cumsum(count)]).astype(np.int32),
        category_idx=np.tile(small.category_idx, times),
        category_names=small.category_names,
        attributes={name: (np.tile(codes, times), values) for name, (codes, values) in small.attributes.items()},
    )
