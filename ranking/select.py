"""From the order that a rung found to the list that is answered: cut, fill up."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from core.bundle import PopularityFloor
    from core.types import Pool, Query, Rows, Scores


class Selection(NamedTuple):
    """A final list.

    Attributes:
        rows: [k] unique, best first, allowed by the query.

        scores: [k] NaN = the answering rung did not score the row.

        proposed: [k] bit i set = source i of the pool speaks for the row; 0 = filled in by popularity.
    """

    rows: Rows
    scores: Scores
    proposed: NDArray[np.uint32]


def select(query: Query, pool: Pool, scores: Scores, popularity: PopularityFloor) -> Selection:
    """The best ``query.limit`` rows of a pool, filled up with popular ones where it has fewer.

    Scored rows come first by score (ties in pool order), then the others in pool order, then the most
    popular allowed rows that are not in the list yet. So the list is empty only where the query allows
    nothing at all.

    Args:
        query: limit, filters and history.

        pool: allowed rows, best first by the prior; all that there is when the query has ``restrict``.

        scores: [m], m <= n, of the first m rows of the pool; finite.

        popularity: fills up.
    """
    scored, limit = len(scores), query.limit
    order = np.argsort(-scores)  # four times as fast as a stable sort, which only ties need
    best = scores[order[: limit + 1]]
    if (best[1:] == best[:-1]).any():
        order = np.argsort(-scores, kind="stable")
    order = order[:limit]
    if len(order) < limit:
        order = np.concatenate([order, np.arange(scored, min(len(pool), scored + limit - len(order)))])
    rows = pool.rows[order]
    final = np.full(len(rows), np.nan, np.float32)
    final[: min(scored, limit)] = scores[order[:scored]]
    proposed = _bits(pool.source_scores[order])
    if len(rows) == limit or query.restrict is not None:
        return Selection(rows, final, proposed)
    popular = popularity.generate(query, limit).rows
    popular = popular[~np.isin(popular, rows)][: limit - len(rows)]
    filled = np.concatenate([rows, popular])
    return Selection(
        filled,
        np.concatenate([final, np.full(len(popular), np.nan, np.float32)]),
        np.concatenate([proposed, np.zeros(len(popular), np.uint32)]),
    )


def by_popularity(query: Query, popularity: PopularityFloor) -> Selection:
    """The most popular allowed rows, or the rows to order by their popularity."""
    if query.restrict is None:
        best = popularity.generate(query, query.limit)
        rows, scores = best.rows, best.scores
    else:
        scores = popularity.score_rows(query.restrict)
        order = np.argsort(-scores, kind="stable")
        rows, scores = query.restrict[order], scores[order]
    return Selection(rows, scores, np.zeros(len(rows), np.uint32))


def _bits(source_scores: Scores) -> NDArray[np.uint32]:
    weights = (1 << np.arange(source_scores.shape[1])).astype(np.uint32)
    bits: NDArray[np.uint32] = ~np.isnan(source_scores) @ weights
    return bits
