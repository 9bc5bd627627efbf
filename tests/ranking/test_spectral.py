"""The tower of sets: the truncated spectrum of who had what, served like any tower."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ranking.export import export_tower
from ranking.networks import ServedTower
from ranking.onnx_scorer import OnnxUserEncoder
from ranking.sequences import Sequences
from ranking.spectral import ITEM_POWER, SetTower, fit_spectral
from ranking.tower_settings import TowerCases
from tests.ranking.world import query

if TYPE_CHECKING:
    from pathlib import Path

    from core.types import Vector

N_ITEMS = 14
"""The last two are had by nobody."""


def sets(n_users: int = 30, seed: int = 3) -> Sequences:
    """Users of two tastes; one of them has an item twice."""
    rng = np.random.default_rng(seed)
    had = [np.sort(rng.choice(6, rng.integers(2, 6), replace=False)) + 6 * (user % 2) for user in range(n_users)]
    had[0] = np.append(had[0], had[0][:1])
    items = np.concatenate(had).astype(np.int32)
    ptr = np.concatenate([[0], np.cumsum([len(rows) for rows in had])]).astype(np.int64)
    n = len(items)
    return Sequences(ptr, items, np.ones(n, np.int8), np.ones(n, np.float32), np.zeros(n, np.int64))


def dense_spectrum(sequences: Sequences, width: int) -> Vector:
    """[items, items] the filter, by a dense SVD: what any user's history item says of any other item."""
    had = np.zeros((sequences.n_users, N_ITEMS))
    had[sequences.users, sequences.items] = 1
    users, items = np.maximum(had.sum(axis=1), 1), np.maximum(had.sum(axis=0), 1)
    _, _, right = np.linalg.svd(had / np.sqrt(users)[:, None] / items**ITEM_POWER)
    return right[:width].T @ right[:width]


@pytest.mark.parametrize("width", [1, 4, 12])
def test_products_of_item_vectors_are_the_low_pass_filter(width: int) -> None:
    """Up to one factor for all; a user who has an item twice has it once."""
    sequences = sets()
    vectors = fit_spectral(sequences, N_ITEMS, 1, width=width, context_length=50).item_vectors
    found, expected = vectors @ vectors.T, dense_spectrum(sequences, width)
    np.testing.assert_allclose(found / np.trace(found), expected / np.trace(expected), atol=1e-5)


def test_a_width_beyond_what_there_is_adds_nothing() -> None:
    """Directions that hold nothing stay zero, like the vectors of items that nobody had."""
    vectors = fit_spectral(sets(), N_ITEMS, 1, width=40, context_length=50).item_vectors
    assert vectors.shape == (N_ITEMS, 40)
    assert vectors.dtype == np.float32
    assert not vectors[12:].any()
    assert not vectors[:, 12:].any()
    assert vectors[:12].any(axis=1).all()


def test_two_fits_are_the_same() -> None:
    first, second = (fit_spectral(sets(), N_ITEMS, 1, width=5, context_length=50).item_vectors for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_validation_chooses_the_width() -> None:
    """Two tastes of forty equal items are two directions: what else was seen in so little data is noise."""
    rng = np.random.default_rng(5)
    n_users, taste = 200, 40
    items = np.concatenate([rng.choice(taste, 4, replace=False) + taste * (u % 2) for u in range(n_users)])
    ones = np.ones(4 * n_users, np.int8)
    ptr = np.arange(0, 4 * n_users + 1, 4)
    sequences = Sequences(ptr, items.astype(np.int32), ones, ones.astype(np.float32), 0 * ptr[:-1].repeat(4))
    likes = [np.arange(taste, dtype=np.int32) + taste * (u % 2) for u in range(n_users)]
    relevant = [np.setdiff1d(likes[u], items[4 * u : 4 * u + 4]) for u in range(n_users)]
    valid = TowerCases(sequences, np.arange(n_users), ptr[1:], relevant)
    result = fit_spectral(sequences, 2 * taste, 1, width=64, context_length=50, valid=valid)
    assert result.settings.width == result.item_vectors.shape[1] == 16
    (ndcg,) = result.metric
    assert 0.5 < ndcg <= 1


def test_nothing_to_learn_from_is_an_error() -> None:
    none = np.empty(0, np.int64)
    empty = Sequences(np.zeros(3, np.int64), none.astype(np.int32), none.astype(np.int8), none.astype(np.float32), none)
    with pytest.raises(ValueError, match="no events to learn from"):
        fit_spectral(empty, N_ITEMS, 1, width=4, context_length=50)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 11), min_size=1, max_size=9).flatmap(lambda h: st.tuples(st.just(h), st.permutations(h)))
)
def test_the_order_of_a_history_means_nothing(orders: tuple[list[int], list[int]]) -> None:
    """Any order and any ages give one user vector: the sum over the root of the length."""
    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32))
    served = ServedTower(SetTower(1, context_length=50))
    expected = vectors[orders[0]].sum(dim=0) / len(orders[0]) ** 0.5
    for history in orders:
        ages = torch.tensor(history, dtype=torch.float32)
        torch.testing.assert_close(
            served(vectors[history], torch.ones(len(history), dtype=torch.int64), ages), expected
        )


def test_what_is_exported_is_what_was_fitted(tmp_path: Path) -> None:
    """The serving encoder gives the tower's vector; events beyond its context length and unknown types are as agreed."""
    sequences = sets()
    result = fit_spectral(sequences, N_ITEMS, 1, width=4, context_length=5)
    export_tower(tmp_path / "tower.onnx", result.tower, result.item_vectors)
    encoder = OnnxUserEncoder(tmp_path / "tower.onnx", result.item_vectors)
    asked = replace(query([3, 1, 4, 1, 5, 9, 2]), history_type=np.array([1, 1, 0, 1, 99, 1, 1], np.int8))
    expected = result.item_vectors[asked.history[:5]].sum(axis=0) / np.sqrt(5)
    np.testing.assert_allclose(encoder.encode(asked), expected, rtol=1e-5)
