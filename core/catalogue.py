"""The items of one bundle: id <-> row, and what filters ask about a row."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from core.conditions import CategoryIndex, Flag, InCategory, PriceRange, ValueIn
from core.events import item_hashes
from core.strings import load_strings, save_strings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from core.allowed import Condition
    from core.types import Mask, Rows, Scores

_SAMPLE = 4_096
"""Prices that the share of a price range is estimated from."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What the caller wants to see; empty and None mean no wish.

    Attributes:
        categories: an item must be in at least one of these.

        exclude_categories: an item must be in none of these.

        min_price: inclusive, in the catalogue's currency; items without a price do not pass.

        max_price: inclusive, like ``min_price``.

        available_only: leave out what the catalogue says is not available.

        attributes: for each named attribute the item's value must be one of these.
    """

    categories: tuple[str, ...] = ()
    exclude_categories: tuple[str, ...] = ()
    min_price: float | None = None
    max_price: float | None = None
    available_only: bool = True
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


NO_FILTERS = Filters()


@dataclass(frozen=True)
class Catalogue:
    """The items of a bundle; item i of every array is row i.

    Attributes:
        ids: [n] unique item ids.

        available: [n] whether the item may be shown now.

        price: [n] float32, NaN = unknown.

        created_at: [n] int64 seconds since the epoch, 0 = unknown.

        category_ptr: [n + 1] int32; the categories of row i are
            ``category_idx[category_ptr[i]:category_ptr[i + 1]]``, indices into ``category_names``.

        attributes: name -> (codes [n] of a signed integer type with -1 = none, values).
    """

    ids: Sequence[str]
    available: Mask
    price: Scores
    created_at: NDArray[np.int64]
    category_ptr: NDArray[np.int32]
    category_idx: NDArray[np.int32]
    category_names: tuple[str, ...]
    attributes: Mapping[str, tuple[NDArray[np.signedinteger[Any]], tuple[str, ...]]]

    def __len__(self) -> int:
        """Number of items."""
        return len(self.ids)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Item id -> row."""
        return {item_id: row for row, item_id in enumerate(self.ids)}

    @cached_property
    def hashes(self) -> NDArray[np.uint32]:
        """[n] ``item_hash`` of every id, to hold against the hashes a user store keeps."""
        return item_hashes(self.ids)

    @cached_property
    def _by_hash(self) -> tuple[NDArray[np.uint32], Rows]:
        order = np.argsort(self.hashes, kind="stable").astype(np.int32)
        return self.hashes[order], order

    def rows_of_hashes(self, hashes: NDArray[np.uint32]) -> Rows:
        """Rows of all items whose ``item_hash`` is among ``hashes``, in no order; a row may repeat."""
        known, order = self._by_hash
        start = known.searchsorted(hashes)
        count = known.searchsorted(hashes, side="right") - start
        rows = order[start[count > 0]]
        if count.max(initial=0) < 2:
            return rows
        several = count > 1  # two ids with one hash: rare, and all of them count
        more = [order[a : a + n] for a, n in zip(start[several].tolist(), count[several].tolist(), strict=True)]
        return np.concatenate([rows, *more])

    @cached_property
    def category_code(self) -> dict[str, int]:
        """Category name -> index."""
        return {name: code for code, name in enumerate(self.category_names)}

    def rows(self, ids: Sequence[str]) -> tuple[Rows, int]:
        """Rows of the known ids, unique, in the order given; and how many ids are not known."""
        row_of = self.row_of
        found = dict.fromkeys(row_of[i] for i in ids if i in row_of)
        unknown = sum(i not in row_of for i in ids)
        return np.fromiter(found, np.int32, len(found)), unknown

    def categories_of(self, row: int) -> tuple[str, ...]:
        """Names of the categories of one row."""
        codes = self.category_idx[self.category_ptr[row] : self.category_ptr[row + 1]]
        return tuple(self.category_names[c] for c in codes)

    @cached_property
    def categories(self) -> CategoryIndex:
        """Which items are in a category, and the other way round."""
        return CategoryIndex(self.category_ptr, self.category_idx, len(self.category_names))

    @cached_property
    def _values(self) -> Mapping[str, tuple[dict[str, int], NDArray[np.int64]]]:
        """For each attribute the code of every value, and how many items have it."""
        return {
            name: (
                {value: code for code, value in enumerate(values)},
                np.bincount(codes[codes >= 0], minlength=len(values)),
            )
            for name, (codes, values) in self.attributes.items()
        }

    @cached_property
    def _some_prices(self) -> Scores:
        """Prices of evenly spaced rows in ascending order, the unknown ones last."""
        return np.sort(self.price[:: max(len(self) // _SAMPLE, 1)])

    @cached_property
    def _available_share(self) -> float:
        return float(self.available.mean()) if len(self) else 0.0

    def index_filters(self) -> None:
        """Derive what filters look things up in: about 0.1 s for 1,000,000 items, so not in the first request."""
        _ = self.categories, self._values, self._some_prices, self._available_share

    def conditions(self, filters: Filters) -> list[Condition]:
        """What a row must meet to pass the filters."""
        found: list[Condition] = []
        if filters.available_only and self._available_share < 1:
            found.append(Flag(self.available, self._available_share))
        if filters is NO_FILTERS:
            return found
        low, high = filters.min_price, filters.max_price
        if low is not None or high is not None:
            found.append(PriceRange(self.price, low, high, self._some_prices))
        if filters.categories:
            found.append(InCategory(self.categories, self._category_codes(filters.categories)))
        if filters.exclude_categories:
            found.append(InCategory(self.categories, self._category_codes(filters.exclude_categories), none=True))
        for name, values in filters.attributes.items():
            if name not in self.attributes:
                return [Flag(np.zeros(len(self), np.bool_), 0.0)]
            code_of, counts = self._values[name]
            wanted = sorted({code_of[value] for value in values if value in code_of})
            found.append(ValueIn(self.attributes[name][0], wanted, counts))
        return found

    def _category_codes(self, names: Sequence[str]) -> list[int]:
        return sorted({self.category_code[name] for name in names if name in self.category_code})

    def save(self, folder: Path) -> None:
        """Write into ``folder``, which must exist and be empty."""
        save_strings(folder / "ids", self.ids)
        arrays: dict[str, Any] = {
            "available": self.available,
            "price": self.price,
            "created_at": self.created_at,
            "category_ptr": self.category_ptr,
            "category_idx": self.category_idx,
        }
        arrays |= {f"attribute_{i}": codes for i, (codes, _) in enumerate(self.attributes.values())}
        np.savez(folder / "items.npz", **arrays)
        names = {
            "categories": self.category_names,
            "attributes": {name: values for name, (_, values) in self.attributes.items()},
        }
        (folder / "names.json").write_text(json.dumps(names), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Catalogue:
        """Read what ``save`` wrote."""
        names = json.loads((folder / "names.json").read_text(encoding="utf-8"))
        with np.load(folder / "items.npz", allow_pickle=False) as arrays:
            return cls(
                ids=load_strings(folder / "ids"),
                available=arrays["available"],
                price=arrays["price"],
                created_at=arrays["created_at"],
                category_ptr=arrays["category_ptr"],
                category_idx=arrays["category_idx"],
                category_names=tuple(names["categories"]),
                attributes={
                    name: (_narrow(arrays[f"attribute_{i}"], len(values)), tuple(values))
                    for i, (name, values) in enumerate(names["attributes"].items())
                },
            )


def _narrow(codes: NDArray[np.signedinteger[Any]], n_values: int) -> NDArray[np.signedinteger[Any]]:
    """The same codes in the fewest bytes: less memory, and filters read it in a quarter of the time."""
    for kind in (np.int8, np.int16):
        if n_values <= np.iinfo(kind).max:
            return codes.astype(kind)
    return codes
