"""Features against a recomputation in plain Python, row by row."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.manifest import BundleError
from core.types import Pool
from ranking.features import HALF_LIVES_DAYS, Features, SourceScale, fit_scales
from ranking.sequences import TREND_FLOOR, Sequences
from tests.ranking import world

if TYPE_CHECKING:
    from pathlib import Path

    from core.types import Query

SEQUENCES = world.sequences()
SCALES = fit_scales(world.SOURCES, np.concatenate([world.pool(seed=s).source_scores for s in range(5)]))
FEATURES = Features.build(SEQUENCES, world.CATALOGUE, as_of_s=world.AS_OF_S, scales=SCALES, content=world.CONTENT)
HISTORY = [5, 12, 5, 21, 8]


def named(query: Query, pool: Pool) -> list[dict[str, float]]:
    return [dict(zip(FEATURES.names, row, strict=True)) for row in FEATURES.compute(query, pool).tolist()]


def trend(half_life: float | None, *, first_only: bool) -> list[float]:
    total = [0.0] * world.ITEMS
    for user in range(SEQUENCES.n_users):
        met = set()
        for i in range(SEQUENCES.ptr[user], SEQUENCES.ptr[user + 1]):
            item = int(SEQUENCES.items[i])
            age_days = (world.AS_OF_S - int(SEQUENCES.times[i])) / world.DAY
            if not (first_only and item in met):
                total[item] += float(SEQUENCES.weights[i]) * (0.5 ** (age_days / half_life) if half_life else 1.0)
            met.add(item)
    mean = sum(total) / len(total)
    return [math.log(value / mean + TREND_FLOOR) for value in total]


@pytest.mark.parametrize("half_life", HALF_LIVES_DAYS)
@pytest.mark.parametrize("first_only", [False, True])
def test_trends_are_relative_sums_of_halving_weights(half_life: float | None, first_only: bool) -> None:
    name = f"{'first_' if first_only else ''}trend_{'all' if half_life is None else f'{half_life:g}d'}"
    expected = trend(half_life, first_only=first_only)
    pool = world.pool()
    found = [row[name] for row in named(world.query(HISTORY), pool)]
    np.testing.assert_allclose(found, [expected[r] for r in pool.rows], rtol=1e-4, atol=1e-5)


def test_source_scores_are_logarithms_where_all_are_positive_and_the_least_where_there_is_none() -> None:
    pool = world.pool()
    for row, scores in zip(named(world.query(HISTORY), pool), pool.source_scores.tolist(), strict=True):
        for source, score in zip(world.SOURCES, scores, strict=True):
            scale = SCALES[source]
            assert scale.logarithm == (source != "ann")
            assert row[f"known_{source}"] == (not math.isnan(score))
            expected = scale.low
            if not math.isnan(score):
                value = math.log(score) if scale.logarithm else score
                expected = min(max(value, scale.low), scale.high)
            assert row[f"score_{source}"] == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_what_relates_row_and_history() -> None:
    query, pool, catalogue = world.query(HISTORY), world.pool(), world.CATALOGUE
    weight = [float(w) * 0.95**i for i, w in enumerate(query.history_weight)]
    weight = [w / sum(weight) for w in weight]
    priced = [(w, math.log(h + 1)) for w, h in zip(weight, HISTORY, strict=True) if h % 7]
    mean_price = sum(w * p for w, p in priced) / sum(w for w, _ in priced)
    shares: Counter[str] = Counter()
    for w, h in zip(weight, HISTORY, strict=True):
        for category in catalogue.categories_of(h):
            shares[category] += w
    vectors = world.CONTENT.astype(np.float64)
    taste = sum(w * vectors[h] for w, h in zip(weight, HISTORY, strict=True))
    taste /= math.sqrt(sum(x * x for x in taste))
    for r, row in zip(pool.rows.tolist(), named(query, pool), strict=True):
        known = r % 7 != 0
        assert row["price_known"] == known
        assert row["price"] == pytest.approx(math.log(r + 1) if known else 0, abs=1e-6)
        assert row["price_to_history"] == pytest.approx(math.log(r + 1) - mean_price if known else 0, abs=1e-5)
        expected = max((shares[c] for c in catalogue.categories_of(r)), default=0)
        assert row["category_share"] == pytest.approx(expected, abs=1e-6)
        assert row["in_history"] == HISTORY.count(r)
        newest = [
            age for item, age in zip(query.history.tolist(), query.history_age_s.tolist(), strict=True) if item == r
        ]
        assert row["in_history_age"] == pytest.approx(math.log1p(min(newest) / world.DAY) if newest else 0.0, abs=1e-5)
        assert row["in_history_recency"] == pytest.approx(
            sum(w for w, h in zip(weight, HISTORY, strict=True) if h == r), abs=1e-6
        )
        assert row["content_cosine"] == pytest.approx(float(vectors[r] @ taste), abs=1e-4)


def test_age_counts_from_the_earlier_of_first_event_and_creation() -> None:
    first = dict.fromkeys(range(world.ITEMS), 10**12)
    for item, time in zip(SEQUENCES.items.tolist(), SEQUENCES.times.tolist(), strict=True):
        first[item] = min(first[item], time)
    pool = world.pool()
    for r, row in zip(pool.rows.tolist(), named(world.query(HISTORY), pool), strict=True):
        born = min(first[r], 10 * world.DAY * r or 10**12)
        assert row["item_age_known"] == 1
        assert row["item_age"] == pytest.approx(math.log1p(max(world.AS_OF_S - born, 0) / world.DAY), rel=1e-5)


def test_what_is_created_later_than_now_has_no_known_age() -> None:
    """A date still to come is a plan; an event before it says when the item really was there."""
    rows = np.arange(world.ITEMS)
    later = np.where(rows % 2 == 0, world.AS_OF_S + 10 * world.DAY * (1 + rows), world.AS_OF_S - 10 * world.DAY)
    catalogue = replace(world.CATALOGUE, created_at=later.astype(np.int64))
    met = [0, 3]
    sequences = Sequences(
        ptr=np.array([0, 2]),
        items=np.array(met, np.int32),
        types=np.ones(2, np.int8),
        weights=np.ones(2, np.float32),
        times=np.array([world.AS_OF_S - 20 * world.DAY, world.AS_OF_S - 5 * world.DAY]),
    )
    features = Features.build(sequences, catalogue, as_of_s=world.AS_OF_S, scales=SCALES)
    found = features.compute(world.query([]), world.pool(list(range(world.ITEMS))))
    known, age = (found[:, features.names.index(name)] for name in ("item_age_known", "item_age"))
    assert known.tolist() == [float(row in met or row % 2 == 1) for row in rows]
    days = [20 if row == 0 else 10 if row % 2 else 0 for row in rows]
    np.testing.assert_allclose(age, np.log1p(days), rtol=1e-5)


def test_the_history_itself_is_described() -> None:
    row = named(world.query(HISTORY), world.pool())[0]
    assert row["history_length"] == pytest.approx(math.log1p(5))
    assert row["history_age"] == pytest.approx(math.log1p(1 / 24))
    assert row["history_span"] == pytest.approx(math.log1p(24 / 24))


def test_without_history_what_relates_to_it_is_zero() -> None:
    for row in named(world.query([]), world.pool()):
        for name in ("history_length", "price_to_history", "category_share", "in_history", "content_cosine"):
            assert row[name] == 0


odd = st.sampled_from([world.NAN, float("inf"), -float("inf"), 0.0, -1.0, 1e30, 1e-38])


@given(
    scores=st.lists(st.tuples(odd, odd, odd), min_size=1, max_size=8),
    history=st.lists(st.integers(0, world.ITEMS - 1), max_size=200),
)
def test_whatever_comes_in_is_finite_when_it_comes_out(
    scores: list[tuple[float, float, float]], history: list[int]
) -> None:
    n = len(scores)
    pool = Pool(np.arange(n, dtype=np.int32), np.array(scores, np.float32), world.SOURCES, np.zeros(n, np.float32))
    assert np.isfinite(FEATURES.compute(world.query(history), pool)).all()


@given(order=st.permutations(range(20)), cut=st.integers(0, 20))
def test_a_row_does_not_depend_on_its_neighbours(order: list[int], cut: int) -> None:
    query, pool = world.query(HISTORY), world.pool()
    expected = FEATURES.compute(query, pool)[order]
    shuffled = pool.take(np.array(order))
    parts = [FEATURES.compute(query, shuffled.take(part)) for part in (slice(cut), slice(cut, None))]
    np.testing.assert_allclose(np.concatenate(parts), expected, rtol=0, atol=1e-6)


def test_a_source_that_never_knew_anything_is_harmless() -> None:
    scale = SourceScale.fit(np.full(3, np.nan, np.float32))
    assert (scale.low, scale.high) == (0.0, 0.0)


def test_save_and_load_bring_back_the_same_features(tmp_path: Path) -> None:
    FEATURES.save(tmp_path)
    loaded = Features.load(tmp_path, world.ITEMS)
    assert loaded.names == FEATURES.names
    query, pool = world.query(HISTORY), world.pool()
    np.testing.assert_array_equal(loaded.compute(query, pool), FEATURES.compute(query, pool))


def test_other_sources_than_in_training_are_refused() -> None:
    pool = world.pool()
    other = Pool(pool.rows, pool.source_scores, ("ann", "co_occurrence", "popularity"), pool.prior)
    with pytest.raises(ValueError, match="the ranker knows"):
        FEATURES.compute(world.query(HISTORY), other)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    FEATURES.save(tmp_path)
    with pytest.raises(BundleError, match=r"static\.npy: 40 items, the catalogue has 41"):
        Features.load(tmp_path, world.ITEMS + 1)
    described = json.loads((tmp_path / "features.json").read_text())
    (tmp_path / "features.json").write_text(json.dumps(described | {"names": ["height"]}))
    with pytest.raises(BundleError, match="another version"):
        Features.load(tmp_path, world.ITEMS)
    FEATURES.save(tmp_path)
    (tmp_path / "categories.npy").write_bytes(b"\x93NUMPY and then nothing")
    with pytest.raises(BundleError, match=r"categories\.npy: not readable"):
        Features.load(tmp_path, world.ITEMS)
