"""A few users to look at: what they had, what is recommended to them and why, and what they turned to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from core.types import NO_ROW, Tier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from offline.evaluate.recommended_lists import EvaluationSet, RecommendedLists, ServedBundle

HITS, MISSES = 4, 2
LENGTH = 10
HISTORY = 8
ACTIVE = 5
"""Events that a user must have to be shown, where there are such users."""


def examples(
    served: ServedBundle,
    test_set: EvaluationSet,
    best: RecommendedLists,
    user_ids: Sequence[str],
    titles: Sequence[str],
) -> list[dict[str, Any]]:
    """Four active users with a hit among the first 10 places and two without, spread evenly over all such users.

    Args:
        served: the bundle.
        test_set: to choose from.
        best: lists of the highest rung for it.
        user_ids: of the log's user numbers.
        titles: of the catalogue's rows, empty = none.
    """
    events = np.array([len(state.events) for state in test_set.states])
    active = events >= min(ACTIVE, int(events.max()))
    hit = best.hits[:, :LENGTH].any(axis=1)
    chosen = [*_spread(np.flatnonzero(active & hit), HITS), *_spread(np.flatnonzero(active & ~hit), MISSES)]
    return [_example(served, test_set, i, user_ids, titles) for i in chosen]


def _spread(index: NDArray[np.int64], count: int) -> list[int]:
    """At most ``count`` of ``index``, from the middle of equal parts."""
    count = min(count, len(index))
    return [int(index[(2 * part + 1) * len(index) // (2 * count)]) for part in range(count)]


def _example(
    served: ServedBundle, test_set: EvaluationSet, i: int, user_ids: Sequence[str], titles: Sequence[str]
) -> dict[str, Any]:
    state, relevant = test_set.states[i], set(test_set.cases.relevant[i].tolist())
    request = test_set.request(i, LENGTH)
    found = served.recommend(request, state, float(test_set.cases.request_time_s[i]), Tier.DEEP)
    catalogue = served.bundle.catalogue

    def item(row: int) -> dict[str, str]:
        return {"item_id": catalogue.ids[row], "title": titles[row]}

    newest = list(dict.fromkeys(catalogue.row_of[event.item_id] for event in state.events))[:HISTORY]
    shown = []
    for row, because, proposed in zip(
        found.rows.tolist(), found.explained_by.tolist(), found.proposed.tolist(), strict=True
    ):
        shown.append(
            {
                **item(row),
                "because": None if because == NO_ROW else titles[because] or catalogue.ids[because],
                "sources": [name for bit, name in enumerate(found.sources) if proposed >> bit & 1],
                "hit": row in relevant,
            }
        )
    return {
        "user": user_ids[int(test_set.cases.users[i])],
        "events": len(state.events),
        "history": [item(row) for row in newest],
        "recommended": shown,
        "turned_to": [item(row) for row in sorted(relevant)[:LENGTH]],
        "relevant": len(relevant),
        "tier": found.tier.name,
    }
