"""A user tower for data without order: the spectrum of who had what.

Sets say nothing of what comes next, so a model of sequences has nothing to learn from them. What is left is which items
are had together, and of that the strongest directions: the ideal low-pass filter of GF-CF (Shen et al. 2021),

    N = U^-1/2 R I^-power,    N = P S Q^T (truncated),    score(user) = sum over the history of Q_i . Q_j

with R users by items (1 = had), U and I their degrees. Item vectors are the rows of Q and a user vector is the sum of
those of the history, so the tower is served like any other.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from ranking.ndcg import ndcg_of_scores
from ranking.networks import SetTower
from ranking.tower_result import TowerResult
from ranking.tower_settings import TowerSettings

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from core.types import Vector
    from ranking.sequences import Sequences
    from ranking.tower_settings import TowerCases

ITEM_POWER = 0.35
"""Of the item degrees. With 1/2, as in the paper, item vectors need degrees as weights; with less they carry them."""
_NOTHING = 1e-9
"""Directions with less than this share of the strongest one's energy are rounding errors."""
_NARROWEST = 16
_BATCH = 256
_ITERATIONS = 4
_OVERSAMPLED = 10


def fit_spectral(
    sequences: Sequences,
    n_items: int,
    n_types: int,
    *,
    width: int,
    context_length: int,
    valid: TowerCases | None = None,
) -> TowerResult:
    """The tower and the item vectors of what users had; the same every time.

    Args:
        sequences: the events; an item counts once for each user.
        n_items: rows of the catalogue.
        n_types: event types are 0 (unknown) to ``n_types``.
        width: of the vectors, at most.
        context_length: newest events of a history that the tower reads.
        valid: cases that choose the width, of ``width``, half of it and so on.

    Raises:
        ValueError: there are no events to learn from.
    """
    started = time.monotonic()
    if not len(sequences):
        raise ValueError("there are no events to learn from")
    normed = _normed(sequences, n_items)
    found = _right_vectors(normed, min(width, *normed.shape))
    metric: list[float] = []
    if valid is not None and len(valid.users):
        figures = {w: _ndcg(np.ascontiguousarray(found[:, :w]), valid, context_length) for w in _widths(width)}
        width = max(figures, key=lambda w: figures[w])
        metric = [figures[width]]
    vectors = np.zeros((n_items, width), np.float32)
    vectors[:, : found.shape[1]] = found[:, :width]
    vectors[np.bincount(sequences.items, minlength=n_items) == 0] = 0
    # Of the length of learned vectors: the longest as long as one of as many standard normal numbers.
    vectors *= np.float32(np.sqrt(width) / max(float(np.linalg.norm(vectors, axis=1).max()), 1e-12))
    tower = SetTower(n_types, context_length=context_length).eval()
    settings = TowerSettings(width=width, context_length=context_length)
    return TowerResult(tower, vectors, settings, metric, best_epoch=1, seconds=time.monotonic() - started)


def _widths(most: int) -> list[int]:
    """``most``, half of it and so on, down to 16; the narrowest first, which of equals is to be chosen."""
    widths = [most]
    while widths[0] >= 2 * _NARROWEST:
        widths.insert(0, widths[0] // 2)
    return widths


def _ndcg(vectors: Vector, valid: TowerCases, context_length: int) -> float:
    """Mean NDCG@20 over the whole catalogue without what the user had; the length of a user vector orders nothing."""
    items, starts = valid.sequences.items, valid.sequences.ptr[valid.users]
    values = []
    for first in range(0, len(valid.users), _BATCH):
        part = range(first, min(first + _BATCH, len(valid.users)))
        users = np.stack(
            [vectors[items[max(starts[i], valid.ends[i] - context_length) : valid.ends[i]]].sum(axis=0) for i in part]
        )
        for i, scores in zip(part, users @ vectors.T, strict=True):
            scores[items[starts[i] : valid.ends[i]]] = -np.inf
            values.append(ndcg_of_scores(scores, valid.relevant[i], 20))
    return float(np.mean(values))


def _normed(sequences: Sequences, n_items: int) -> csr_matrix:
    """[users with events, items] who had what, by the degrees of both."""
    from scipy.sparse import csr_matrix

    users, items = sequences.active_users[sequences.first], sequences.items[sequences.first]
    of_user, of_item = np.bincount(users), np.bincount(items, minlength=n_items)
    values = of_user[users] ** -0.5 * of_item[items] ** -ITEM_POWER
    return csr_matrix((values, (users, items)), shape=(len(of_user), n_items))


def _right_vectors(matrix: csr_matrix, rank: int) -> Vector:
    """[columns, rank] singular vectors of the largest singular values, by subspace iteration (Halko et al. 2011)."""
    from scipy.linalg import eigh, qr

    rng = np.random.default_rng(0)
    inner = min(rank + _OVERSAMPLED, *matrix.shape)
    basis = rng.normal(size=(matrix.shape[1], inner))
    for _ in range(_ITERATIONS):
        basis, _ = qr(matrix.T @ (matrix @ basis), mode="economic", overwrite_a=True, check_finite=False)
    projected = matrix @ basis
    values, turned = eigh(projected.T @ projected)
    strongest = np.argsort(-values, kind="stable")[:rank]
    strongest = strongest[values[strongest] > _NOTHING * values.max()]
    found: Vector = (basis @ turned[:, strongest]).astype(np.float32)
    return found
