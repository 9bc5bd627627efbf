"""Vectors for cold items (without events): predicted from their texts, in the space that was learned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from core.types import Vector

_FEWEST_ITEMS = 50
_RIDGES = (0.1, 1.0, 10.0, 100.0)
_HELD_OUT = 5
"""Every fifth item chooses the ridge."""


def project(item_vectors: Vector, content: Vector | None) -> Vector:
    """[items, d] with the zero rows of ``item_vectors`` filled from ``content`` by ridge regression.

    The regression learns from the items that have both; of the ridges tried the one is taken whose vectors are nearest
    to the learned ones of items held out. What texts do not say is missing from such a vector, so it is short, and a
    cold item has to be like the user's taste to win against a warm one (the content-to-factor map of Gantner et al. 2010).

    Args:
        item_vectors: [items, d] learned vectors, zeros where nothing was learned.
        content: [items, c] unit vectors of texts, zeros where there is none; None = no texts, nothing is filled.
    """
    warm = item_vectors.any(axis=1)
    if content is None or not content.any():
        return item_vectors
    with_text = content.any(axis=1)
    both, cold = np.flatnonzero(warm & with_text), np.flatnonzero(~warm & with_text)
    if len(both) < _FEWEST_ITEMS or not len(cold):
        return item_vectors
    check = both[::_HELD_OUT]
    learn = np.setdiff1d(both, check)
    errors = {
        ridge: float(np.square(_regress(item_vectors, content, learn, check, ridge) - item_vectors[check]).sum())
        for ridge in _RIDGES
    }
    best = min(errors, key=lambda ridge: errors[ridge])
    filled = item_vectors.copy()
    filled[cold] = _regress(item_vectors, content, both, cold, best)
    return filled


def _regress(
    item_vectors: Vector, content: Vector, learn: np.ndarray, predicted: np.ndarray, ridge: float
) -> np.ndarray:
    mean, with_text = item_vectors[learn].mean(axis=0), content[learn].mean(axis=0)
    x = (content[learn] - with_text).astype(np.float64)
    y = (item_vectors[learn] - mean).astype(np.float64)
    weights = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ y)
    found: np.ndarray = ((content[predicted] - with_text) @ weights + mean).astype(np.float32)
    return found
