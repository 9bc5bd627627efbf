"""A hand-made bundle of 60 items, small enough to compute answers by hand, and parts that misbehave on order.

Items are ``item-00`` to ``item-59``; the higher the number, the more popular. Every third is a "book",
every fifth is not available, item i costs i / 2. A user who had item i is proposed i+1, i+2, i+3 by
``neighbours`` (on the event loop) and 7i, 7i+1, ... by ``far`` (on the work pool).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from core.bundle import Bundle
from core.catalogue import Catalogue
from core.manifest import Manifest
from core.types import Candidates, Stopped, UserEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from core.types import Pool, Query, Rows, Scores, StopSignal, Vector

ITEMS = 60
WIDTH = 4
HISTORY = (UserEvent("item-11", "view", 990.0), UserEvent("item-02", "purchase", 900.0))


def catalogue() -> Catalogue:
    rows = np.arange(ITEMS)
    category = np.where(rows % 3 == 0, 0, 1)  # "book", "toy"
    return Catalogue(
        ids=[f"item-{row:02}" for row in rows],
        available=rows % 5 != 0,
        price=(rows / 2).astype(np.float32),
        created_at=np.zeros(ITEMS, np.int64),
        category_ptr=np.arange(ITEMS + 1, dtype=np.int32),
        category_idx=category.astype(np.int32),
        category_names=("book", "toy"),
        attributes={"colour": ((rows % 2).astype(np.int32), ("red", "blue"))},
    )


class ToyPopularity:
    """A higher row is more popular."""

    name = "popularity"
    inline = True

    def generate(self, query: Query, limit: int) -> Candidates:
        rows = np.arange(len(query.catalogue) - 1, -1, -1, dtype=np.int32)
        rows = rows[query.allows(rows)][:limit]
        return Candidates(self.name, rows, self.score_rows(rows))

    def score_rows(self, rows: Rows) -> Scores:
        return rows.astype(np.float32)


@dataclass
class ToyGenerator:
    """Proposes ``step * row + 1 .. + 3`` for each row of the history; ``before`` runs first and may misbehave."""

    name: str
    inline: bool
    step: int
    before: Callable[[], None] = lambda: None

    def generate(self, query: Query, limit: int) -> Candidates:
        self.before()
        near = [(self.step * row + k) % len(query.catalogue) for row in query.history.tolist() for k in (1, 2, 3)]
        rows = np.fromiter(dict.fromkeys(near), np.int32)[:limit]
        return Candidates(self.name, rows, np.linspace(1, 0.5, len(rows), dtype=np.float32))


class ToyPrior:
    """Sum of what the sources say, without popularity, which breaks ties."""

    def score(self, query: Query, pool: Pool) -> Scores:  # noqa: ARG002
        said = [i for i, name in enumerate(pool.sources) if name != "popularity"]
        return (np.nansum(pool.source_scores[:, said], axis=1) + pool.rows / 1000).astype(np.float32)


@dataclass
class ToyEncoder:
    """The mean of the history; ``before`` runs first and may misbehave, ``after`` changes the vector."""

    vectors: Vector
    before: Callable[[StopSignal | None], None] = lambda stop: None  # noqa: ARG005
    after: Callable[[Vector], Vector] = lambda vector: vector

    def encode(self, query: Query, stop: StopSignal | None = None) -> Vector:
        self.before(stop)
        return self.after(self.vectors[query.history].mean(axis=0))


@dataclass
class ToyScorer:
    """Scores a row by its distance from 30; ``before`` runs first and gets what it needs to misbehave."""

    before: Callable[[StopSignal | None], None] = lambda stop: None  # noqa: ARG005
    after: Callable[[Scores], Scores] = lambda scores: scores
    scored: list[int] = field(default_factory=list)

    def score(self, query: Query, pool: Pool, stop: StopSignal | None = None) -> Scores:  # noqa: ARG002
        self.before(stop)
        self.scored.append(len(pool))
        return self.after(-np.abs(pool.rows - 30).astype(np.float32))


def hang_until_stopped(stop: StopSignal | None) -> None:
    """What a model does that never comes back by itself."""
    ended = threading.Event()
    if stop is not None:
        stop.on_stop(ended.set)
    if not ended.wait(30):
        raise TimeoutError("nobody stopped the model")
    raise Stopped


def fail(*_: object) -> None:
    raise RuntimeError("secret: hunter2")


def bundle(
    *,
    near: ToyGenerator | None = None,
    far: ToyGenerator | None = None,
    scorer: ToyScorer | None = None,
    deep: bool = True,
    items: Catalogue | None = None,
) -> Bundle:
    """A bundle of version ``toy``; with ``deep=False`` it has no model."""
    vectors = np.random.default_rng(3).normal(size=(ITEMS, WIDTH)).astype(np.float32)
    popularity = ToyPopularity()
    generators = (near or ToyGenerator("neighbours", True, 1), far or ToyGenerator("far", False, 7), popularity)
    manifest = Manifest(
        version="toy",
        built_at="2026-01-01T00:00:00Z",
        as_of_s=1000.0,
        code_version="0",
        items=ITEMS,
        event_weights={"view": 1.0, "purchase": 3.0, "dismiss": -1.0},
        seen_types=("purchase",),
        event_types=("view", "purchase"),
        generators={g.name: {"limit": 30} for g in generators},
        cf={},
    )
    whole = Bundle(
        version="toy",
        catalogue=items or catalogue(),
        generators=generators,
        limits={g.name: 30 for g in generators},
        popularity=popularity,
        prior=ToyPrior(),
        similar=ToyPrior(),
        manifest=manifest,
    )
    if not deep:
        return whole
    return replace(whole, encoder=ToyEncoder(vectors), scorer=scorer or ToyScorer(), item_vectors=vectors)
