"""A bundle of any size with real parts and an untrained model, and the users to ask it about.

``python -m loadtests.synthetic FOLDER --items N`` writes ``FOLDER/bundles/<version>`` and ``FOLDER/users.npz``. Items lie
around topics; what users do follows their topics and a Zipf law. Up to ``COUNTED_ITEMS`` items the neighbour lists are
counted and looked up by the real builds, above they are drawn, since there their size matters and not what is in them.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hnswlib
import ibis
import numpy as np
import pyarrow as pa
import torch

from candidate_gen.ann import Ann, Params
from candidate_gen.buy_again import BuyAgain
from candidate_gen.content import Content
from candidate_gen.content import Params as ContentParams
from candidate_gen.cooccurrence import CoOccurrence
from candidate_gen.cooccurrence_params import SEQUENCES
from candidate_gen.cooccurrence_params import Params as CoOccurrenceParams
from candidate_gen.neighbours import NeighbourTable
from candidate_gen.popularity import Popularity
from candidate_gen.random_walk import Params as WalkParams
from candidate_gen.random_walk import RandomWalk
from candidate_gen.registry import BuildInputs
from core.catalogue import Catalogue
from core.manifest import Manifest
from loadtests.users import Users, limit_for_pool
from offline.build.recipe import DEFAULT_POOL_SIZES, cf_params, similar_params
from offline.bundle_folder import open_draft, publish, seal, version_at
from ranking.cf_scorer import CfScorer
from ranking.export import save_model
from ranking.features import Features, SourceScale
from ranking.networks import Ensemble, Ranker, UserTower
from ranking.ranker import RankerSettings
from ranking.sequences import Sequences
from ranking.tower_settings import TowerSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from core.types import Rows, Vector

COUNTED_ITEMS = 200_000
POOL_ROWS = 500
"""Rows of the smallest pool of all users."""
ASKED_USERS = 1_000
HISTORY = 50
ATTRIBUTE_VALUES = 200
_VALUES = tuple(f"value-{i}" for i in range(ATTRIBUTE_VALUES))
EVENT_TYPES = ("cart", "purchase", "view")
WEIGHTS = {"cart": 2.0, "purchase": 3.0, "view": 1.0}
_TYPE_SHARE = (0.05, 0.1, 0.85)
_WIDTH = 64
_PER_TOPIC = 200
_DAYS = 180
_DAY_S = 86_400
_TREND: Mapping[str, Any] = {"half_life_days": 14.0, "first_only": True}


@dataclass(frozen=True)
class World:
    """Items around topics, and users who have some.

    Attributes:
        topic: [items] topic of each item; items of one topic are adjacent.

        items: [users, ``HISTORY``] rows, oldest first.

        types: [users, ``HISTORY``] index into ``EVENT_TYPES`` + 1.

        times: [users, ``HISTORY``] seconds since the epoch, rising.
    """

    topic: NDArray[np.int64]
    items: Rows
    types: NDArray[np.int8]
    times: NDArray[np.int64]

    @classmethod
    def draw(cls, n_items: int, n_users: int, as_of_s: int, rng: np.random.Generator) -> World:
        """Three events of four are on the user's topics, the others anywhere; in a topic few items have most."""
        topic = np.arange(n_items) // _PER_TOPIC
        n_topics = int(topic[-1]) + 1
        own = (rng.random((n_users, 3)) ** 2 * n_topics).astype(np.int64)
        shape = (n_users, HISTORY)
        chosen = np.take_along_axis(own, rng.integers(0, 3, shape), axis=1)
        chosen = np.where(rng.random(shape) < 0.75, chosen, rng.integers(0, n_topics, shape))
        rank = np.expm1(rng.random(shape) * np.log(_PER_TOPIC + 1)).astype(np.int64)  # share of rank r about 1 / r
        items = np.minimum(chosen * _PER_TOPIC + rank, n_items - 1).astype(np.int32)
        types = rng.choice(len(EVENT_TYPES), shape, p=_TYPE_SHARE) + 1
        times = as_of_s - np.sort(rng.integers(0, _DAYS * _DAY_S, shape), axis=1)[:, ::-1]
        return cls(topic, items, types.astype(np.int8), times)

    def events(self) -> ibis.Table:
        """The table that generators are built from (``BuildInputs.events``)."""
        users = np.repeat(np.arange(len(self.items), dtype=np.int32), HISTORY)
        weight = np.array([0, *WEIGHTS.values()], np.float32)[self.types]
        columns = {
            "user": users,
            "item": self.items.ravel(),
            "type": self.types.ravel(),
            "weight": weight.ravel(),
            "time": self.times.ravel(),
            "session": users.astype(np.int64) * HISTORY + self.times.ravel() % HISTORY,
            "seq": np.tile(np.arange(HISTORY, dtype=np.int32), len(self.items)),
        }
        connection: Any = ibis.duckdb.connect()
        connection.con.register("synthetic_events", pa.table(columns))
        return connection.table("synthetic_events")

    def sequences(self) -> Sequences:
        """The same events for trends and features."""
        weight = np.array([0, *WEIGHTS.values()], np.float32)[self.types]
        ptr = np.arange(len(self.items) + 1, dtype=np.int64) * HISTORY
        return Sequences(ptr, self.items.ravel(), self.types.ravel(), weight.ravel(), self.times.ravel())

    def catalogue(self, rng: np.random.Generator, attributes: int = 0) -> Catalogue:
        """Two categories an item (topic and department), a price, three of a hundred sold out, attributes of 200 values."""
        n, n_topics = len(self.topic), int(self.topic[-1]) + 1
        departments = np.arange(n_topics) // 20
        names = [f"topic-{i}" for i in range(n_topics)] + [f"department-{i}" for i in range(int(departments[-1]) + 1)]
        both = np.stack([self.topic, n_topics + departments[self.topic]], axis=1)
        return Catalogue(
            ids=[f"item-{row:07}" for row in range(n)],
            available=rng.random(n) >= 0.03,
            price=rng.lognormal(3, 1, n).astype(np.float32),
            created_at=self.times.min() - rng.integers(0, 1000 * _DAY_S, n),
            category_ptr=np.arange(n + 1, dtype=np.int32) * 2,
            category_idx=both.ravel().astype(np.int32),
            category_names=tuple(names),
            attributes={
                f"attribute-{i}": (rng.integers(0, ATTRIBUTE_VALUES, n, np.int32), _VALUES) for i in range(attributes)
            },
        )

    def vectors(self, rng: np.random.Generator) -> Vector:
        """[items, 64] around the topic's centre, of length about 1."""
        centre = rng.normal(size=(int(self.topic[-1]) + 1, _WIDTH)).astype(np.float32)
        noise = rng.normal(size=(len(self.topic), _WIDTH)).astype(np.float32)
        return ((centre[self.topic] + 0.7 * noise) / 10).astype(np.float32)

    def texts(self, rng: np.random.Generator) -> list[str]:
        """Six words of the topic's sixty, for each item."""
        words = self.topic[:, None] * 60 + rng.integers(0, 60, (len(self.topic), 6))
        return [" ".join(f"word{code}" for code in row) for row in words.tolist()]


def write(
    folder: Path, n_items: int, n_users: int, pool_rows: int = POOL_ROWS, *, attributes: int = 0, ann: bool = True
) -> None:
    """Write bundle and users into a folder, which is made.

    Args:
        folder: for both.
        n_items: catalogue rows.
        n_users: who did something; ``HISTORY`` events each.
        pool_rows: rows of the smallest pool; reached by what popularity is asked for.
        attributes: how many each item has.
        ann: whether nearest vectors are among the generators; indexing a million takes minutes.
    """
    rng = np.random.default_rng(11)
    as_of_s = int(time.time())
    world = World.draw(n_items, n_users, as_of_s, rng)
    catalogue, vectors = world.catalogue(rng, attributes), world.vectors(rng)
    texts = world.texts(rng) if n_items <= COUNTED_ITEMS else []
    inputs = BuildInputs(world.events(), catalogue, texts, float(as_of_s), vectors)
    generators = _counted(inputs) if n_items <= COUNTED_ITEMS else _drawn(inputs, vectors, rng, ann=ann)
    if not ann:
        del generators["ann"]
    limits = {**DEFAULT_POOL_SIZES, "popularity": pool_rows}
    version = version_at(as_of_s)
    draft = open_draft(folder / "bundles", version)
    for name in ("catalogue", "cf", "similar", "generators", "model"):
        (draft / name).mkdir()
    catalogue.save(draft / "catalogue")
    for name, generator in generators.items():
        (draft / "generators" / name).mkdir()
        generator.save(draft / "generators" / name)
    sequences = world.sequences()
    prior = CfScorer.build(sequences, n_items, as_of_s, cf_params(_TREND, 0.5))
    prior.save(draft / "cf")
    CfScorer(similar_params(_TREND), prior.trend).save(draft / "similar")
    CfScorer.build(sequences, n_items, as_of_s, similar_params(_TREND)).save(draft / "similar")
    _write_model(draft / "model", generators, sequences, inputs, vectors)
    manifest = seal(
        draft,
        Manifest(
            version=version,
            built_at="",
            as_of_s=float(as_of_s),
            code_version=importlib.metadata.version("terrace"),
            items=n_items,
            event_weights=WEIGHTS,
            seen_types=("purchase",),
            event_types=EVENT_TYPES,
            generators={name: {"limit": limits[name]} for name in generators},
            cf={},
            model={"width": _WIDTH},
        ),
    )
    part = slice(min(ASKED_USERS, n_users))
    users = Users(world.items[part], world.types[part], world.times[part], EVENT_TYPES)
    limits["popularity"] = limit_for_pool(draft, users, pool_rows)
    seal(draft, replace(manifest, generators={name: {"limit": limits[name]} for name in generators}))
    users.save(folder)
    publish(draft, folder / "bundles", version)


def _counted(inputs: BuildInputs) -> dict[str, Any]:
    return {
        "co_occurrence": CoOccurrence.build(inputs, **SEQUENCES),
        "random_walk": RandomWalk.build(inputs),
        "ann": Ann.build(inputs),
        "content": Content.build(inputs),
        "buy_again": BuyAgain.build(inputs),
        "popularity": Popularity.build(inputs, **_TREND),
    }


def _drawn(inputs: BuildInputs, vectors: Vector, rng: np.random.Generator, *, ann: bool) -> dict[str, Any]:
    """Neighbours for nine of ten items, and an index made quickly: all of the size that a build makes."""
    n = len(vectors)
    params = Params(ef_construction=40)
    index = hnswlib.Index(space="ip", dim=_WIDTH + 1)
    index.init_index(n, M=params.m, ef_construction=params.ef_construction, random_seed=7)
    if ann:
        index.add_items(np.pad(vectors, ((0, 0), (0, 1))), np.arange(n))
    return {
        "co_occurrence": CoOccurrence(_random_table(n, rng), CoOccurrenceParams(neighbours=50)),
        "random_walk": RandomWalk(_random_table(n, rng, WalkParams().neighbours), WalkParams()),
        "ann": Ann(index, np.arange(n, dtype=np.int32), _WIDTH, params),
        "content": Content(_random_table(n, rng), vectors.astype(np.float16), ContentParams()),
        "buy_again": BuyAgain.build(inputs),
        "popularity": Popularity.build(inputs, **_TREND),
    }


def _random_table(n: int, rng: np.random.Generator, count: int = 50) -> NeighbourTable:
    """Neighbours at random steps of 1 to 40 rows from each other, so unique and mostly of the same topics."""
    steps = np.cumsum(rng.integers(1, 40, count))
    has = rng.random(n) < 0.9
    ptr = np.zeros(n + 1, np.int64)
    np.cumsum(np.where(has, count, 0), out=ptr[1:])
    rows = (np.flatnonzero(has)[:, None] + steps).astype(np.int32) % np.int32(n)
    scores = np.linspace(1, 0.1, count, dtype=np.float32)
    return NeighbourTable(ptr, rows.ravel(), np.tile(scores, int(has.sum())))


def _write_model(
    folder: Path,
    generators: Mapping[str, Any],
    sequences: Sequences,
    inputs: BuildInputs,
    vectors: Vector,
) -> None:
    """The networks that a build trains, with the weights they start from."""
    torch.manual_seed(0)
    scales = {name: SourceScale(logarithm=True, low=-8.0, high=2.0) for name in generators}
    content = generators["content"].vectors
    features = Features.build(sequences, inputs.catalogue, as_of_s=inputs.as_of_s, scales=scales, content=content)
    settings = TowerSettings()
    tower = UserTower(len(EVENT_TYPES), _WIDTH, blocks=settings.blocks, heads=settings.heads)
    rankers = [Ranker(len(features.names), RankerSettings().hidden) for _ in range(RankerSettings().seeds)]
    save_model(
        folder, tower=tower, ensemble=Ensemble(rankers, len(features.names)), item_vectors=vectors, features=features
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--items", type=int, required=True)
    parser.add_argument("--users", type=int, required=True)
    parser.add_argument("--attributes", type=int, default=0)
    parser.add_argument("--without-ann", action="store_true")
    asked = parser.parse_args()
    write(asked.folder, asked.items, asked.users, attributes=asked.attributes, ann=not asked.without_ann)
