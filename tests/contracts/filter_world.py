"""Small random catalogues, every kind of filter over them, and what one item after the other says to a filter."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import strategies as st

import candidate_gen.first_allowed
import candidate_gen.popularity
import core.allowed
import core.conditions
from core.allowed import Allowed
from core.catalogue import NO_FILTERS, Catalogue, Filters
from tests.contracts.generator_world import make_query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.allowed import Where
    from core.types import Mask, Query

CATEGORIES = tuple(f"c{i}" for i in range(5))
VALUES = {"colour": tuple(f"v{i}" for i in range(3)), "brand": tuple(f"v{i}" for i in range(9)), "empty": ()}


def draw_catalogue(n: int, seed: int, available: float = 0.8) -> Catalogue:
    """Items with 0 to 3 categories, one price of four unknown, and an attribute that nobody has."""
    rng = np.random.default_rng(seed)
    count = rng.integers(0, 4, n)
    codes = [rng.choice(len(CATEGORIES), k, replace=False) for k in count]
    price = rng.integers(0, 20, n).astype(np.float32) / 2
    price[rng.random(n) < 0.25] = np.nan
    return Catalogue(
        ids=[f"i{row}" for row in range(n)],
        available=rng.random(n) < available,
        price=price,
        created_at=np.zeros(n, np.int64),
        category_ptr=np.concatenate([[0], np.cumsum(count)]).astype(np.int32),
        category_idx=np.concatenate([np.empty(0, np.int32), *codes]).astype(np.int32),
        category_names=CATEGORIES,
        attributes={
            name: (rng.integers(-1, len(values), n).astype(np.int8), values) for name, values in VALUES.items()
        },
    )


def _some(names: tuple[str, ...], most: int) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from([*names, "unheard of"]), max_size=most).map(tuple)


catalogues = st.builds(draw_catalogue, st.integers(0, 60), st.integers(0, 99), st.sampled_from([0.0, 0.5, 1.0]))
filters = st.just(NO_FILTERS) | st.builds(
    Filters,
    categories=_some(CATEGORIES, 3),
    exclude_categories=_some(CATEGORIES, 2),
    min_price=st.none() | st.floats(0, 10, width=32),
    max_price=st.none() | st.floats(0, 10, width=32),
    available_only=st.booleans(),
    attributes=st.dictionaries(
        st.sampled_from([*VALUES, "unheard of"]), _some(VALUES["brand"], 8).filter(len), max_size=2
    ),
)


def passes(catalogue: Catalogue, row: int, filters: Filters) -> bool:
    """Whether one item meets the filters, asked of it alone."""
    categories, price = set(catalogue.categories_of(row)), float(catalogue.price[row])
    for name, values in filters.attributes.items():
        codes, vocabulary = catalogue.attributes.get(name, (None, ()))
        if codes is None or codes[row] < 0 or vocabulary[codes[row]] not in values:
            return False
    return (
        bool(catalogue.available[row] or not filters.available_only)
        and (not filters.categories or bool(categories & set(filters.categories)))
        and not categories & set(filters.exclude_categories)
        and (filters.min_price is None or price >= filters.min_price)
        and (filters.max_price is None or price <= filters.max_price)
    )


class Counted:
    """A condition that counts the rows it is asked about and the pauses before blocks."""

    def __init__(self, inner: core.allowed.Condition) -> None:
        self._inner, self.share = inner, inner.share
        self.rows = 0

    def test(self, where: Where) -> Mask:
        found = self._inner.test(where)
        self.rows += len(found)
        return found

    def before_blocks(self) -> Iterator[None]:
        yield from self._inner.before_blocks()


def counted(catalogue: Catalogue, chosen: Filters) -> tuple[Query, list[Counted]]:
    """A query with these filters, and its conditions, which count."""
    query = make_query(catalogue, filters=chosen)
    conditions = [Counted(each) for each in catalogue.conditions(chosen)]
    query._allowed.append(Allowed(len(catalogue), conditions, query.blocked()))
    return query, conditions


@contextmanager
def small_blocks() -> Iterator[None]:
    """Blocks of a few rows, so that a small catalogue has many."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (core.allowed, core.conditions, candidate_gen.first_allowed):
            patch.setattr(module, "BLOCK", 8)
        for module in (candidate_gen.first_allowed, candidate_gen.popularity):
            patch.setattr(module, "HEAD", 4)
        patch.setattr(candidate_gen.first_allowed, "_FIRST_LOOK", 2)
        yield
