"""The file of an hnswlib index (0.8, ``HierarchicalNSW::saveIndex``), read without hnswlib, which believes all that it says.

Head; then for every item its links on level 0, its vector and its label; then for every item the length in bytes of its
links on the levels above, and these. A search follows links without looking whether they lead anywhere: one that is out
of range, or leads to an item that is not on that level, reads memory that is not the index's.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from candidate_gen.arrays import check

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_HEAD = struct.Struct("=6QiI3QdQ")
_LENGTH = struct.Struct("=I")
_BLOCK = 1 << 16
"""Items looked at at a time."""


@dataclass(frozen=True, slots=True)
class Head:
    """What the file begins with.

    Attributes:
        count: items.

        dimension: of the vectors.

        top_level: the highest level that any item is on.

        entry_point: the item where a search begins.

        links: of an item on a level above 0, at most.

        links_below: of an item on level 0, at most.
    """

    count: int
    dimension: int
    top_level: int
    entry_point: int
    links: int
    links_below: int

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read it, and hold its parts against each other.

        Raises:
            BundleError: it is not the head of an index of float32 vectors.
        """
        with path.open("rb") as file:
            raw = file.read(_HEAD.size)
        check(len(raw) == _HEAD.size, path, "too short for an index")
        start, _, count, stride, label, data, top_level, entry_point, links, links_below, _, _, _ = _HEAD.unpack(raw)
        size = label - data
        fits = (
            start == 0
            and data == 4 + 4 * links_below
            and stride == label + 8
            and size > 0
            and size % 4 == 0
            and count > 0
        )
        check(fits, path, "not the head of an index: its offsets do not fit each other")
        whole = _HEAD.size + count * (stride + _LENGTH.size)
        check(path.stat().st_size >= whole, path, f"too short for the {count} items that it says it has")
        return cls(count, size // 4, top_level, entry_point, links, links_below)

    @property
    def item(self) -> np.dtype[np.void]:
        """What is kept of an item on level 0."""
        return np.dtype(
            [("links", "<u4", (1 + self.links_below,)), ("vector", "<f4", (self.dimension,)), ("label", "<u8")]
        )


def check_graph(path: Path) -> None:
    """Follow all that a search could follow.

    Raises:
        BundleError: a link, a level, a label or a vector is none.
    """
    head = Head.read(path)
    items = np.memmap(path, head.item, "r", _HEAD.size, (head.count,))
    upper = _upper_links(path, _HEAD.size + items.nbytes, head)
    levels = np.zeros(head.count, np.int64)
    for item, links in upper.items():
        levels[item] = len(links)
    entry = head.entry_point
    enters = entry < head.count and levels[entry] == head.top_level == levels.max(initial=0)
    check(bool(enters), path, f"its entry point {entry} is not an item of the top level {head.top_level}")

    seen = np.zeros(head.count, np.bool_)
    for start in range(0, head.count, _BLOCK):
        part = items[start : start + _BLOCK]
        check(_leads(part["links"], head.count), path, "a link leads to an item that it does not have")
        check(bool(np.isfinite(part["vector"]).all()), path, "a vector is not finite")
        check(bool((part["label"] < head.count).all()), path, "a label is none of those that were given")
        seen[part["label"].astype(np.int64)] = True
    check(bool(seen.all()), path, "two items have the same label")
    for links in upper.values():
        check(_leads(links, head.count), path, "a link leads to an item that it does not have")
        for level, row in enumerate(links, 1):
            reached = levels[row[1 : 1 + row[0]]]
            check(bool((reached >= level).all()), path, f"a link of level {level} leads to an item that is not on it")


def _leads(links: NDArray[np.uint32], count: int) -> bool:
    """Whether rows of links, each behind its number, lead to items; the upper half of that number marks deleted items."""
    number = links[:, :1]
    used = np.arange(links.shape[1] - 1) < number
    return bool((number < links.shape[1]).all() and not (used & (links[:, 1:] >= count)).any())


def _upper_links(path: Path, start: int, head: Head) -> dict[int, NDArray[np.uint32]]:
    """Item -> [levels, 1 + links] its links on the levels above 0, of the items that are there.

    Raises:
        BundleError: the lists do not fill the file.
    """
    with path.open("rb") as file:
        file.seek(start)
        raw = file.read()
    width = 4 * (1 + head.links)
    found = {}
    at = 0
    for item in range(head.count):
        check(at + _LENGTH.size <= len(raw), path, "it ends within the lists of links")
        (size,) = _LENGTH.unpack_from(raw, at)
        at += _LENGTH.size
        if size:
            check(size % width == 0 and at + size <= len(raw), path, f"the links of item {item} have no usable length")
            found[item] = np.frombuffer(raw, "<u4", size // 4, at).reshape(-1, 1 + head.links)
            at += size
    check(at == len(raw), path, "it goes on behind the lists of links")
    return found
