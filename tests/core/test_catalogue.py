"""Filters mean the same on arrays as item by item, and a catalogue comes back from disk as it was."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.allowed import Allowed
from core.catalogue import Catalogue, Filters
from core.types import NO_ROWS

if TYPE_CHECKING:
    from pathlib import Path

CATEGORIES = ("books", "music", "toys")
COLOURS = ("blue", "red")
# id, available, price, categories, colour
ITEMS = [
    ("a", True, 3.0, ("books",), "red"),
    ("b", False, 8.0, ("books", "toys"), None),
    ("ç-1", True, math.nan, (), "blue"),
    ("d", True, 5.5, ("toys",), "red"),
    ("e", True, 0.0, ("music", "toys", "books"), None),
]


def shop() -> Catalogue:
    lengths = [len(i[3]) for i in ITEMS]
    return Catalogue(
        ids=[i[0] for i in ITEMS],
        available=np.array([i[1] for i in ITEMS]),
        price=np.array([i[2] for i in ITEMS], np.float32),
        created_at=np.array([7, 0, 3, 0, 9], np.int64),
        category_ptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        category_idx=np.array([CATEGORIES.index(c) for i in ITEMS for c in i[3]], np.int32),
        category_names=CATEGORIES,
        attributes={
            "colour": (np.array([-1 if i[4] is None else COLOURS.index(i[4]) for i in ITEMS], np.int32), COLOURS)
        },
    )


SHOP = shop()
names = st.lists(st.sampled_from([*CATEGORIES, "unheard-of"]), unique=True, max_size=3).map(tuple)
prices = st.none() | st.floats(0, 10, width=32)
colours = st.dictionaries(
    st.sampled_from(["colour", "size"]),
    st.lists(st.sampled_from([*COLOURS, "pink"]), min_size=1, max_size=2).map(tuple),
)


@given(names, names, prices, prices, st.booleans(), colours, st.lists(st.integers(0, 4), max_size=6))
def test_filters_pass_what_they_say(  # noqa: PLR0917 - one argument per filter
    wanted: tuple[str, ...],
    unwanted: tuple[str, ...],
    low: float | None,
    high: float | None,
    available_only: bool,
    attributes: dict[str, tuple[str, ...]],
    rows: list[int],
) -> None:
    """Every combination of filters agrees with asking each item in turn."""
    filters = Filters(wanted, unwanted, low, high, available_only, attributes)

    def passes(row: int) -> bool:
        _, available, price, categories, colour = ITEMS[row]
        has = {"colour": colour}
        return (
            (available or not available_only)
            and (not wanted or any(c in wanted for c in categories))
            and not any(c in unwanted for c in categories)
            and (low is None or price >= low)
            and (high is None or price <= high)
            and all(has.get(name) in values for name, values in attributes.items())
        )

    allowed = Allowed(len(SHOP), SHOP.conditions(filters), NO_ROWS)
    assert [passes(row) for row in rows] == allowed.test(np.array(rows, np.int32)).tolist()


def test_a_catalogue_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    SHOP.save(tmp_path)
    back = Catalogue.load(tmp_path)
    assert list(back.ids) == list(SHOP.ids)
    assert back.category_names == SHOP.category_names
    assert [back.categories_of(row) for row in range(5)] == [i[3] for i in ITEMS]
    np.testing.assert_array_equal(back.price, SHOP.price)
    np.testing.assert_array_equal(back.created_at, SHOP.created_at)
    np.testing.assert_array_equal(back.attributes["colour"][0], SHOP.attributes["colour"][0])
    assert back.attributes["colour"][1] == COLOURS


@pytest.mark.parametrize(("values", "kind"), [(127, np.int8), (128, np.int16), (32_768, np.int32)])
def test_attribute_codes_are_kept_in_the_fewest_bytes(
    tmp_path: Path, values: int, kind: type[np.signedinteger]
) -> None:
    codes = np.array([-1, 0, values - 1, 1, 1], np.int32)
    replace(SHOP, attributes={"brand": (codes, tuple(map(str, range(values))))}).save(tmp_path)
    back = Catalogue.load(tmp_path)
    assert back.attributes["brand"][0].dtype == kind
    np.testing.assert_array_equal(back.attributes["brand"][0], codes)
    wanted = Filters(attributes={"brand": (str(values - 1),)})
    assert Allowed(5, back.conditions(wanted), NO_ROWS).test(np.arange(5, dtype=np.int32)).tolist() == [
        False,
        False,
        True,
        False,
        False,
    ]


def test_ids_become_unique_rows_and_unknown_ones_are_counted() -> None:
    rows, unknown = SHOP.rows(["d", "nothing", "a", "d"])
    assert rows.tolist() == [3, 0]
    assert unknown == 1
