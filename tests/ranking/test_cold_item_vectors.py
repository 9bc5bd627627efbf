"""Vectors of items without events come from what their texts say."""

from __future__ import annotations

import numpy as np

from ranking.cold_item_vectors import project

ITEMS, TOLD, WIDTH = 300, 12, 5


def world(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Learned vectors that are a linear map of unit texts, up to noise."""
    rng = np.random.default_rng(seed)
    content = rng.normal(size=(ITEMS, TOLD)).astype(np.float32)
    content /= np.linalg.norm(content, axis=1, keepdims=True)
    vectors = content @ rng.normal(size=(TOLD, WIDTH)) + 0.05 * rng.normal(size=(ITEMS, WIDTH)) + 0.3
    return vectors.astype(np.float32), content


def test_a_cold_item_gets_the_vector_its_text_promises() -> None:
    vectors, content = world()
    known = vectors.copy()
    known[250:] = 0
    filled = project(known, content)
    np.testing.assert_array_equal(filled[:250], known[:250])
    error = np.linalg.norm(filled[250:] - vectors[250:], axis=1).mean()
    assert error < 0.3 * np.linalg.norm(vectors[250:] - vectors[:250].mean(axis=0), axis=1).mean()


def test_nothing_is_made_up_without_text_or_without_enough_to_learn_from() -> None:
    vectors, content = world()
    vectors[40:] = 0
    np.testing.assert_array_equal(project(vectors, content), vectors)
    vectors, content = world()
    vectors[250:] = 0
    content[280:] = 0
    filled = project(vectors, content)
    assert filled[250:280].any(axis=1).all()
    assert not filled[280:].any()
    np.testing.assert_array_equal(project(vectors, None), vectors)
