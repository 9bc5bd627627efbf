"""What a query allows is what each item says alone, row by row and block by block."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.allowed import BLOCK, Allowed
from core.catalogue import NO_FILTERS, Catalogue, Filters
from core.types import NO_ROWS
from tests.contracts.filter_world import CATEGORIES, catalogues, counted, draw_catalogue, filters, passes, small_blocks
from tests.contracts.generator_world import make_query

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True, scope="module")
def _many_blocks() -> Iterator[None]:
    with small_blocks():
        yield


@given(catalogue=catalogues, chosen=filters, blocked=st.sets(st.integers(0, 59)), data=st.data())
def test_every_combination_of_filters_allows_what_each_item_says_alone(
    catalogue: Catalogue, chosen: Filters, blocked: set[int], data: st.DataObject
) -> None:
    """Of a few rows, of the whole catalogue in steps, half-way through the steps, and after them."""
    exclude = sorted(row for row in blocked if row < len(catalogue))
    allowed = make_query(catalogue, exclude=exclude, filters=chosen).allowed()
    expected = [passes(catalogue, row, chosen) and row not in blocked for row in range(len(catalogue))]
    rows = np.array(data.draw(st.lists(st.sampled_from(range(len(catalogue)))) if len(catalogue) else st.just([])), int)
    rows = rows.astype(np.int32)
    wanted = [expected[row] for row in rows.tolist()]

    assert allowed.test(rows).tolist() == wanted
    for _ in allowed.scan():
        assert allowed.test(rows).tolist() == wanted
        assert set(allowed.met(rows).tolist()) <= {row for row, there in enumerate(expected) if there}
    assert allowed.scanned
    assert allowed.found == sum(expected)
    assert allowed.test(rows).tolist() == wanted
    assert allowed.met(rows).tolist() == rows[np.array(wanted, bool)].tolist()


def test_a_scan_that_was_left_goes_on_where_it_was() -> None:
    catalogue = draw_catalogue(50, 3)
    query, conditions = counted(catalogue, NO_FILTERS)
    for _ in range(3):
        next(query.allowed().scan())
    looked = conditions[0].rows
    assert 0 < looked < 50
    list(query.allowed().scan())
    assert conditions[0].rows == 50
    list(query.allowed().scan())
    assert conditions[0].rows == 50


def test_a_value_category_or_attribute_that_no_item_has_costs_no_look_at_any() -> None:
    catalogue = draw_catalogue(50, 3)
    for chosen in (
        Filters(categories=("unheard of",)),
        Filters(attributes={"colour": ("unheard of",)}),
        Filters(attributes={"unheard of": ("v1",)}),
        Filters(attributes={"empty": ("v1",)}),
    ):
        query, conditions = counted(catalogue, chosen)
        assert not query.allows(np.arange(50, dtype=np.int32)).any()
        assert list(query.allowed().scan()) == []
        assert sum(each.rows for each in conditions) == 0


def test_the_condition_that_fewest_items_meet_is_tested_first() -> None:
    """And the others only of what is left, so a filter with twenty parts costs little more than its narrowest part."""
    n = 400
    rare = np.arange(n, dtype=np.int32) % 40 == 0
    attributes = {f"wide{i}": (np.zeros(n, np.int8), ("yes",)) for i in range(19)}
    attributes["narrow"] = (np.where(rare, 0, 1).astype(np.int8), ("yes", "no"))
    plain = draw_catalogue(n, 1, available=1.0)
    catalogue = Catalogue(
        **{**{name: getattr(plain, name) for name in plain.__dataclass_fields__}, "attributes": attributes}
    )
    query, conditions = counted(catalogue, Filters(attributes=dict.fromkeys(attributes, ("yes",))))
    rows = np.arange(n, dtype=np.int32)
    assert query.allows(rows).tolist() == rare.tolist()
    assert sum(each.rows for each in conditions) == n + 19 * n // 40


def test_blocks_of_categories_must_be_got_ready() -> None:
    condition = draw_catalogue(50, 3).conditions(Filters(categories=CATEGORIES[:1], available_only=False))[0]
    with pytest.raises(TypeError, match="before_blocks"):
        condition.test(slice(0, 8))


def test_marking_the_members_of_categories_pauses_after_every_block_of_them() -> None:
    """Eight a block here, and no fewer pauses where one category or many make up the members."""
    catalogue = draw_catalogue(400, 3)
    for names in (CATEGORIES[:1], CATEGORIES):
        for chosen in (Filters(categories=names), Filters(exclude_categories=names)):
            (condition,) = catalogue.conditions(replace(chosen, available_only=False))
            members = sum(set(names) >= {name} for row in range(400) for name in catalogue.categories_of(row))
            assert len(list(condition.before_blocks())) >= members // 16


def test_without_conditions_all_but_the_blocked_is_allowed() -> None:
    allowed = Allowed(20, (), np.array([3, 17], np.int32))
    list(allowed.scan())
    assert np.flatnonzero(~allowed.test(np.arange(20, dtype=np.int32))).tolist() == [3, 17]
    assert allowed.found == 18
    assert Allowed(0, (), NO_ROWS).scanned


def test_a_block_is_no_larger_than_what_an_event_loop_can_spare() -> None:
    """Every row costs each condition at least half a nanosecond, and up to two where single rows are tested."""
    assert BLOCK * 22 * 2e-9 < 0.002
