"""Why an item was recommended: the event of the user's history that speaks most for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core.types import NO_ROW

if TYPE_CHECKING:
    from core.types import Query, Rows, Scores, Vector


def explain(query: Query, rows: Rows, item_vectors: Vector | None) -> Rows:
    """[k] for each answered row the row of the user's history that speaks most for it.

    That is the largest dot product of the two item vectors, times ``1 / log2(2 + position)`` for the
    event's position in the history, newest first, so that of two alike the newer one is named. -1
    where none is above zero, and everywhere without vectors or history.
    """
    history = query.history
    if item_vectors is None or not len(history) or not len(rows):
        return np.full(len(rows), NO_ROW, np.int32)
    affinity = item_vectors.take(rows, axis=0) @ item_vectors.take(history, axis=0).T
    affinity *= _recency(len(history))
    affinity[rows[:, None] == history] = 0  # an item that comes back does not explain itself
    best = affinity.argmax(axis=1)
    return np.where(affinity[np.arange(len(rows)), best] > 0, history[best], np.int32(NO_ROW))


def _recency(events: int) -> Scores:
    return (1 / np.log2(2 + np.arange(events))).astype(np.float32)
