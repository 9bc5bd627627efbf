"""A small shop to test generators in: asymmetric in every axis, the same every time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ibis
import numpy as np
import pyarrow as pa

from candidate_gen.registry import BuildInputs
from core.catalogue import NO_FILTERS, Catalogue
from core.types import NO_HASHES, NO_ROWS, NO_SCORES, Query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from core.catalogue import Filters
    from core.types import Vector

DAY_S = 86_400
AS_OF_S = 1_700_000_000
ITEMS = 60
USERS = 40
CATEGORIES = ("garden", "kitchen", "books")
_WORDS = ("oak", "iron", "green", "small", "lamp", "chair", "mug", "rake", "novel", "atlas")

EventRow = tuple[int, int, float, int, int]
"""user, item, weight, time, session."""


def make_catalogue(
    n: int = ITEMS,
    *,
    categories: Sequence[Sequence[int]] | None = None,
    unavailable: Iterable[int] = (),
    created_at: Sequence[int] | None = None,
) -> Catalogue:
    """Items ``i0``, ``i1``, ...; row r is in category r % 3, every seventh also in the next one."""
    if categories is None:
        categories = [[r % 3] + [(r + 1) % 3] * (r % 7 == 0) for r in range(n)]
    available = np.ones(n, np.bool_)
    available[list(unavailable)] = False
    return Catalogue(
        ids=[f"i{r}" for r in range(n)],
        available=available,
        price=np.arange(1, n + 1, dtype=np.float32),
        created_at=np.zeros(n, np.int64) if created_at is None else np.array(created_at, np.int64),
        category_ptr=np.cumsum([0, *map(len, categories)], dtype=np.int32),
        category_idx=np.array([c for codes in categories for c in codes], np.int32),
        category_names=CATEGORIES,
        attributes={"colour": (np.arange(n, dtype=np.int32) % 2, ("red", "blue"))},
    )


def make_query(
    catalogue: Catalogue,
    history: Sequence[int] = (),
    *,
    ages_s: Sequence[float] | None = None,
    weights: Sequence[float] | None = None,
    exclude: Sequence[int] = (),
    seen: Sequence[int] = (),
    filters: Filters = NO_FILTERS,
    allow_repeats: bool = False,
    restrict: Sequence[int] | None = None,
    user_vector: Callable[[], Vector] | None = None,
) -> Query:
    """A query with sensible values for what a test does not speak of; ``seen`` takes rows."""
    h = len(history)
    return Query(
        user_id="u",
        history=np.array(history, np.int32) if h else NO_ROWS,
        history_age_s=np.array([DAY_S * (a + 1) for a in range(h)] if ages_s is None else ages_s, np.float32),
        history_weight=np.array([1.0] * h if weights is None else weights, np.float32) if h else NO_SCORES,
        history_type=np.ones(h, np.int8),
        exclude=np.array(exclude, np.int32) if exclude else NO_ROWS,
        seen=catalogue.hashes[list(seen)] if seen else NO_HASHES,
        filters=filters,
        catalogue=catalogue,
        limit=20,
        surface="default",
        context={},
        allow_repeats=allow_repeats,
        restrict=None if restrict is None else np.array(restrict, np.int32),
        user_vector=user_vector,
    )


def make_events(rows: Iterable[EventRow]) -> ibis.Table:
    """The event table of ``BuildInputs`` from (user, item, weight, time, session), oldest first per user."""
    rows = list(rows)
    counted: dict[int, int] = {}
    order = []
    for user, *_ in rows:
        counted[user] = counted.get(user, -1) + 1
        order.append(counted[user])
    user_, item, weight, time, session = zip(*rows, strict=True) if rows else ((),) * 5
    table = pa.table(
        {
            "user": pa.array(user_, pa.int32()),
            "item": pa.array(item, pa.int32()),
            "type": pa.array([1] * len(rows), pa.int8()),
            "weight": pa.array(weight, pa.float32()),
            "time": pa.array(time, pa.int64()),
            "session": pa.array(session, pa.int64()),
            "seq": pa.array(order, pa.int32()),
        }
    )
    connection = ibis.duckdb.connect()
    connection.con.register("arrow_events", table)
    return connection.table("arrow_events")


def random_events(seed: int = 7, users: int = USERS, items: int = ITEMS, per_user: int = 25) -> list[EventRow]:
    """Users with 1 to ``per_user`` events over half a year; item r is about 1 / (r + 1) popular; some dislike."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, items + 1)
    rows: list[EventRow] = []
    for user in range(users):
        count = int(rng.integers(1, per_user + 1))
        times = np.sort(rng.integers(AS_OF_S - 180 * DAY_S, AS_OF_S, count))
        chosen = rng.choice(items, count, p=share / share.sum())
        weights = rng.choice([1.0, 3.0, -2.0], count, p=[0.6, 0.3, 0.1])
        sessions = user * 1000 + np.cumsum(rng.random(count) < 0.4)
        rows += zip([user] * count, chosen.tolist(), weights.tolist(), times.tolist(), sessions.tolist(), strict=True)
    return rows


def make_inputs(
    rows: Iterable[EventRow] | None = None,
    catalogue: Catalogue | None = None,
) -> BuildInputs:
    """The whole world; vectors leave out the last three rows."""
    catalogue = catalogue or make_catalogue()
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(len(catalogue), 8)).astype(np.float32)
    vectors[-3:] = 0
    texts = [" ".join(rng.choice(_WORDS, 4)) + f" no{r % 5}" for r in range(len(catalogue))]
    return BuildInputs(
        make_events(random_events() if rows is None else rows), catalogue, texts, float(AS_OF_S), vectors
    )
