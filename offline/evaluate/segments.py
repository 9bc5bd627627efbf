"""For whom and for what the rungs work: the same lists, by activity of the user and by age of the item."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from offline.metrics import LONGEST, intervals, per_user
from offline.split.cuts import DAY_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from offline.evaluate.recommended_lists import EvaluationSet, RecommendedLists
    from offline.read.event_log import EventLog
    from offline.split.cuts import Cut

ACTIVITY = (
    ("no events", 0, 0),
    ("1-3 events", 1, 3),
    ("4-10 events", 4, 10),
    ("11-50 events", 11, 50),
    ("over 50 events", 51, math.inf),
)
"""Events of a user before the cut: name, fewest, most."""
NEW_DAYS = 30
AGES = ("no events yet", "first 30 days", "30-180 days", "older")
"""Time between an item's first event of any user and the request, by class."""
NO_EVENTS = 0
NEW = (0, 1)
"""Indices into ``AGES``."""
_AGE_BOUNDS_S = np.array([0.0, NEW_DAYS * DAY_S, 180.0 * DAY_S])
METRICS = (f"ndcg@{LONGEST}", f"recall@{LONGEST}")


def first_events(log: EventLog, cut: Cut, n_items: int) -> NDArray[np.float64]:
    """[items] time of each item's first event before the cut, seconds since the epoch; infinity where it has none."""
    known = np.arange(len(log.items)) < np.repeat(cut.ends(log), np.diff(log.ptr))
    first = np.full(n_items, np.inf)
    np.minimum.at(first, log.items[known], log.times[known].astype(np.float64))
    return first


def age_class(first_s: NDArray[np.float64], request_time_s: float | NDArray[np.float64]) -> NDArray[np.int64]:
    """Index into ``AGES`` for items whose first event was at ``first_s``; later than the request is none yet."""
    age = request_time_s - first_s
    found: NDArray[np.int64] = np.searchsorted(_AGE_BOUNDS_S, age, side="right")
    return found


def by_activity(
    events_before: NDArray[np.int64], values: Mapping[str, Mapping[str, NDArray[np.float64]]]
) -> list[dict[str, Any]]:
    """Figures of every segment of users that has cases.

    Args:
        events_before: [q] events of each case's user before the cut.
        values: rung -> metric -> [q].
    """
    segments = []
    for name, fewest, most in ACTIVITY:
        inside = (events_before >= fewest) & (events_before <= most)
        if inside.any():
            rungs = {
                rung: intervals({metric: figures[metric][inside] for metric in METRICS})
                for rung, figures in values.items()
            }
            segments.append({"name": name, "cases": int(inside.sum()), "rungs": rungs})
    return segments


def by_item_age(
    test_set: EvaluationSet, first_s: NDArray[np.float64], lists: Mapping[str, RecommendedLists]
) -> list[dict[str, Any]]:
    """Figures where only relevant items of one age count, for every age that is relevant to anybody.

    Args:
        test_set: with the moment of each request.
        first_s: [items] of ``first_events``.
        lists: of each rung.
    """
    cases = test_set.cases
    relevant = np.stack(
        [
            np.bincount(age_class(first_s[rows], float(at)), minlength=len(AGES))
            for rows, at in zip(cases.relevant, cases.request_time_s, strict=True)
        ]
    )
    age_of_rows = {rung: age_class(first_s[found.rows], cases.request_time_s[:, None]) for rung, found in lists.items()}
    segments = []
    for code, name in enumerate(AGES):
        inside = relevant[:, code] > 0
        if not inside.any():
            continue
        rungs = {}
        for rung, found in lists.items():
            hits = found.hits[inside] & (age_of_rows[rung][inside] == code)
            figures = per_user(hits, relevant[inside, code], LONGEST)
            rungs[rung] = intervals({metric: figures[metric] for metric in METRICS})
        segments.append({"name": name, "cases": int(inside.sum()), "rungs": rungs})
    return segments
