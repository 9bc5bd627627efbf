"""The index against brute force, and every way in which hnswlib would go wrong in silence."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from candidate_gen.ann import Ann, Params
from core.manifest import BundleError
from tests.contracts.generator_world import ITEMS, make_catalogue, make_inputs, make_query

if TYPE_CHECKING:
    from pathlib import Path

    from core.types import Vector

WIDTH = 32


def built_of(vectors: Vector, **params: float) -> Ann:
    inputs = make_inputs([], make_catalogue(len(vectors)))
    return Ann.build(replace(inputs, item_vectors=vectors), **params)


def learned(spread: float, unevenness: float) -> tuple[Vector, Vector]:
    """Items and queries as learned ones lie: in clusters, in few strong directions, of unequal length."""
    rng = np.random.default_rng(4)
    strength = np.arange(1, WIDTH + 1) ** -0.5
    centres = rng.normal(size=(60, WIDTH))
    items = (centres[rng.integers(0, 60, 5_000)] + spread * rng.normal(size=(5_000, WIDTH))) * strength
    items *= rng.lognormal(0, unevenness, (5_000, 1)) / np.linalg.norm(items, axis=1, keepdims=True)
    queries = (centres[:30] + 0.7 * rng.normal(size=(30, WIDTH))) * strength
    return items.astype(np.float32), queries.astype(np.float32)


def recall_at_100(built: Ann, items: Vector, queries: Vector) -> float:
    hits = 0
    for query in queries:
        product = items @ query
        found = built.search(query, 100)
        np.testing.assert_allclose(product[found.rows], found.scores, rtol=1e-3, atol=1e-3)
        hits += len(set(found.rows.tolist()) & set(np.argsort(-product)[:100].tolist()))
    return hits / (100 * len(queries))


@pytest.mark.parametrize(("spread", "unevenness"), [(0.7, 0.1), (0.3, 0.4), (0.7, 0.6)])
def test_recall_at_100_is_at_least_95_percent_of_brute_force(spread: float, unevenness: float) -> None:
    items, queries = learned(spread, unevenness)
    assert recall_at_100(built_of(items), items, queries) >= 0.95


def test_items_of_unequal_length_are_found_thanks_to_the_further_coordinate() -> None:
    """A narrow index shows it best; without the coordinate plain inner product leads the search astray."""
    items, queries = learned(0.3, 0.6)
    narrow = {"m": 8, "ef_construction": 60, "ef": 100}
    without, with_ = (recall_at_100(built_of(items, **narrow, length_quantile=q), items, queries) for q in (0, 0.98))
    assert with_ > without + 0.1


def test_items_without_a_vector_are_never_proposed() -> None:
    vectors = np.random.default_rng(2).normal(size=(50, WIDTH)).astype(np.float32)
    vectors[[4, 17, 30]] = 0
    found = built_of(vectors).search(np.ones(WIDTH, np.float32), 50)
    assert sorted(found.rows.tolist()) == sorted(set(range(50)) - {4, 17, 30})


@pytest.mark.parametrize(
    "vector",
    [
        np.ones(WIDTH - 1, np.float32),
        np.ones(WIDTH + 1, np.float32),
        np.ones((1, WIDTH), np.float32),
        np.zeros(WIDTH, np.float32),
        np.full(WIDTH, np.nan, np.float32),
        np.full(WIDTH, np.inf, np.float32),
    ],
    ids=["narrow", "wide", "two axes", "zero", "NaN", "infinite"],
)
def test_a_vector_that_means_nothing_gets_nothing(vector: Vector) -> None:
    built = built_of(np.random.default_rng(2).normal(size=(50, WIDTH)).astype(np.float32))
    assert len(built.search(vector, 10).rows) == 0


def test_a_vector_of_another_type_or_layout_gets_the_same_answer() -> None:
    rng = np.random.default_rng(2)
    built = built_of(rng.normal(size=(50, WIDTH)).astype(np.float32))
    vector = rng.normal(size=WIDTH).astype(np.float32)
    spread = np.repeat(vector.astype(np.float64), 2)[::2]
    assert built.search(vector, 10).rows.tolist() == built.search(spread, 10).rows.tolist()


def test_more_than_there_are_gets_all_there_are() -> None:
    built = built_of(np.random.default_rng(2).normal(size=(5, WIDTH)).astype(np.float32))
    assert len(built.search(np.ones(WIDTH, np.float32), 1_000).rows) == 5


def test_when_fewer_can_be_reached_than_asked_for_fewer_come() -> None:
    """Few links and many equal vectors leave islands in the graph; hnswlib raises, the generator answers."""
    vectors = np.repeat(np.random.default_rng(0).normal(size=(3, 4)), 400, axis=0).astype(np.float32)
    built = built_of(vectors, m=2, ef_construction=2, ef=2)
    with pytest.raises(RuntimeError, match="Cannot return the results"):
        built._index.knn_query(np.zeros((1, 5), np.float32), k=len(vectors))
    found = built.search(vectors[0], len(vectors))
    assert 0 < len(found.rows) < len(vectors)


def test_a_catalogue_without_any_vector_proposes_nothing_also_after_loading(tmp_path: Path) -> None:
    built = built_of(np.zeros((9, WIDTH), np.float32))
    built.save(tmp_path)
    loaded = Ann.load(tmp_path, make_catalogue(9))
    assert len(loaded.search(np.ones(WIDTH, np.float32), 3).rows) == 0


def test_a_query_without_a_user_tower_gets_nothing() -> None:
    assert len(Ann.build(make_inputs()).generate(make_query(make_catalogue(), [1, 2]), 5).rows) == 0


def test_what_the_query_forbids_does_not_use_up_the_limit() -> None:
    vector = np.random.default_rng(5).normal(size=8).astype(np.float32)
    built = Ann.build(make_inputs())
    best = built.search(vector, 8).rows.tolist()
    query = make_query(make_catalogue(), [1], exclude=best[:3], user_vector=lambda: vector)
    assert built.generate(query, 5).rows.tolist() == best[3:8]


def test_the_search_width_is_restored_after_loading(tmp_path: Path) -> None:
    """Hnswlib's file has no ``ef``: it would be 10."""
    built_of(np.ones((9, WIDTH), np.float32) * np.arange(1, 10, dtype=np.float32)[:, None], ef=77).save(tmp_path)
    loaded = Ann.load(tmp_path, make_catalogue(9))
    assert loaded._index.ef == 77


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    Ann.build(make_inputs()).save(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("field", "value"), [("dim", 4), ("dim", 16), ("count", 20), ("space", "l2")])
def test_an_index_that_is_not_what_its_description_says_is_refused(saved: Path, field: str, value: int | str) -> None:
    """Hnswlib itself would load it and answer with anything."""
    path = saved / "params.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    if field == "count":
        np.save(saved / "rows.npy", np.arange(20, dtype=np.int32))
    with pytest.raises(BundleError, match=r"index\.hnsw"):
        Ann.load(saved, make_catalogue())


def test_an_index_of_random_bytes_of_the_right_length_is_refused(saved: Path) -> None:
    path = saved / "index.hnsw"
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))
    with pytest.raises(BundleError, match=r"index\.hnsw"):
        Ann.load(saved, make_catalogue())


def test_an_index_of_another_catalogue_is_refused(saved: Path) -> None:
    with pytest.raises(BundleError, match=r"rows\.npy"):
        Ann.load(saved, make_catalogue(ITEMS - 10))


def test_vectors_that_are_missing_broken_or_too_few_are_refused_when_building() -> None:
    inputs = make_inputs()
    with pytest.raises(ValueError, match="train the model first"):
        Ann.build(replace(inputs, item_vectors=None))
    vectors = np.ones((ITEMS, 3), np.float32)
    with pytest.raises(ValueError, match="rows, the catalogue"):
        Ann.build(replace(inputs, item_vectors=vectors[1:]))
    vectors[7, 1] = np.nan
    with pytest.raises(ValueError, match="'i7'"):
        Ann.build(replace(inputs, item_vectors=vectors))


@pytest.mark.parametrize("name", ["m", "ef", "ef_construction"])
def test_a_parameter_out_of_range_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 1"):
        Params(**{name: 1})
