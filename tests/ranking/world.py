"""A small world for the ranking tests: 40 items, and users whose next item follows from the last one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core.catalogue import NO_FILTERS, Catalogue
from core.types import NO_HASHES, NO_ROWS, Pool, Query
from ranking.sequences import Sequences

if TYPE_CHECKING:
    from collections.abc import Callable

    from core.types import Vector

ITEMS = 40
DAY = 86_400
AS_OF_S = 400 * DAY
SOURCES = ("co_occurrence", "ann", "popularity")
NAN = float("nan")


def catalogue() -> Catalogue:
    """Item i costs i + 1 (every seventh: no price), has i % 4 categories, and was created on day 10 i."""
    rows = np.arange(ITEMS)
    count = rows % 4
    return Catalogue(
        ids=[f"item-{row:02}" for row in rows],
        available=np.ones(ITEMS, np.bool_),
        price=np.where(rows % 7 == 0, np.nan, rows + 1).astype(np.float32),
        created_at=(10 * DAY * rows).astype(np.int64),
        category_ptr=np.concatenate([[0], np.cumsum(count)]).astype(np.int32),
        category_idx=np.concatenate([(row + np.arange(n)) % 5 for row, n in zip(rows, count, strict=True)]).astype(
            np.int32
        ),
        category_names=("garden", "kitchen", "books", "toys", "bags"),
        attributes={},
    )


CATALOGUE = catalogue()
CONTENT = np.random.default_rng(5).normal(size=(ITEMS, 8)).astype(np.float16)
CONTENT[3] = 0


def sequences(seed: int = 0, users: int = 60, events: int = 24) -> Sequences:
    """Users walk a ring: after item i comes i + 7 (or, one time in ten, anything); a low item is met more often."""
    rng = np.random.default_rng(seed)
    walks = np.empty((users, events), np.int32)
    walks[:, 0] = (ITEMS * rng.random(users) ** 2).astype(np.int32)
    for i in range(1, events):
        anything = (ITEMS * rng.random(users) ** 2).astype(np.int32)
        walks[:, i] = np.where(rng.random(users) < 0.1, anything, (walks[:, i - 1] + 7) % ITEMS)
    times = AS_OF_S - DAY * (events - np.tile(np.arange(events), users)) * 3
    return Sequences(
        ptr=np.arange(users + 1, dtype=np.int64) * events,
        items=walks.ravel(),
        types=(1 + walks.ravel() % 2).astype(np.int8),
        weights=(1 + walks.ravel() % 2).astype(np.float32),
        times=times.astype(np.int64),
    )


def query(history: list[int], user_vector: Callable[[], Vector] | None = None) -> Query:
    """Newest first; the events lie 1, 4, 9, ... hours back."""
    rows = np.array(history, np.int32)
    return Query(
        user_id="ada",
        history=rows,
        history_age_s=(3600.0 * np.arange(1, len(rows) + 1) ** 2).astype(np.float32),
        history_weight=(1.0 + rows % 3).astype(np.float32),
        history_type=(1 + rows % 2).astype(np.int8),
        exclude=NO_ROWS,
        seen=NO_HASHES,
        filters=NO_FILTERS,
        catalogue=CATALOGUE,
        limit=20,
        surface="default",
        context={},
        user_vector=user_vector,
    )


def pool(rows: list[int] | None = None, seed: int = 1) -> Pool:
    """Every source proposes about half of the rows; ``ann`` scores may be negative."""
    rng = np.random.default_rng(seed)
    chosen = np.arange(0, ITEMS, 2, dtype=np.int32) if rows is None else np.array(rows, np.int32)
    scores = np.stack(
        [rng.random(len(chosen)) + 0.1, rng.normal(size=len(chosen)), rng.random(len(chosen)) * 50 + 1], axis=1
    ).astype(np.float32)
    scores[rng.random(scores.shape) < 0.5] = NAN
    return Pool(chosen, scores, SOURCES, np.linspace(1, -1, len(chosen), dtype=np.float32))
