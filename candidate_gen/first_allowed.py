"""The first rows of an order that a query allows, looked for in steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from core.allowed import BLOCK, Ranked
from core.types import NO_ROWS

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from core.types import Query, Rows

    Stretches = Iterable[tuple[int, Rows]]

T = TypeVar("T")

HEAD = BLOCK // 2
"""Rows at the head of an order that are tested one by one before the whole catalogue is looked at."""
GROWTH = 4
_FIRST_LOOK = 64


def first_allowed(query: Query, order: Rows, limit: int, head: Stretches | None = None) -> Generator[int, None, Rows]:
    """The first ``limit`` rows of an order that the query allows, fewer only where there are fewer.

    As a rule they are at its head, and cost a few microseconds. Where they are not, the whole catalogue is looked at
    once (``Allowed.scan``). What was found is kept with the query, for whoever asks again.

    Args:
        query: what decides.
        order: [items] every row once.
        limit: rows wanted, at least 1.
        head: where to look first, instead of at the first rows of ``order``: parts of it in the same order, each with the
            position in ``order`` up to which nothing else is left to look at.

    Yields:
        How many were found so far, between two stretches of at most ``BLOCK`` rows each. If ``Allowed.hurry`` is set
        beyond the head, what was found is all, once it is not nothing.

    Returns:
        Unique rows in their order.
    """
    allowed = query.allowed()
    known = allowed.ranked.get(id(order))
    if known is None or known.limit < limit:
        rows = yield from _look(query, order, limit, head or stretches(order, 0, first_look(limit), HEAD))
        known = allowed.ranked[id(order)] = Ranked(order, limit, rows)
    return known.rows[:limit]


def finished(steps: Generator[object, None, T]) -> T:
    """What a generator returns, without a pause."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            value: T = end.value
            return value


def first_look(limit: int) -> int:
    """How many rows to look at first when ``limit`` are wanted."""
    return min(max(2 * limit, _FIRST_LOOK), HEAD)


def stretches(order: Rows, low: int, size: int, largest: int) -> Iterator[tuple[int, Rows]]:
    """The rows of an order from a position on in growing stretches, each with the position where it ends."""
    while low < len(order):
        high = min(low + size, len(order))
        yield high, order[low:high]
        low, size = high, min(size * GROWTH, largest)


def _look(query: Query, order: Rows, limit: int, head: Stretches) -> Generator[int, None, Rows]:
    allowed = query.allowed()
    found, count, looked, low = [NO_ROWS], 0, 0, 0
    best = True  # nothing that was not looked at can come before what was found
    for high, rows in head:
        found.append(rows[query.allows(rows)])
        count, looked, low = count + len(found[-1]), looked + len(rows), high
        yield count
        if count >= limit or looked >= HEAD:
            break
    if count < limit and low < len(order) and not (allowed.hurry and count):
        for _ in allowed.scan():
            yield max(count, allowed.found)
            if allowed.hurry and (count or allowed.found):
                break
        for high, rows in stretches(order, low, BLOCK, BLOCK):
            if count >= min(limit, allowed.found) or (allowed.hurry and count):
                break
            found.append(allowed.met(rows))
            count, low = count + len(found[-1]), high
            yield count
        best = allowed.scanned
    all_of_it = low >= len(order) or (allowed.scanned and count >= allowed.found)
    allowed.cut_short |= not (best and (count >= limit or all_of_it))
    return np.concatenate(found)[:limit]
