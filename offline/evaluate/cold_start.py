"""Cold start: figures for items that hardly anybody had yet, and for users without events."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from core.catalogue import Filters
from core.query import build_query
from core.types import NO_ROW, NO_ROWS, Tier, UserEvent
from offline.evaluate.measurement import difference
from offline.evaluate.recommended_lists import available_rungs, recommend_all
from offline.evaluate.segments import METRICS, NEW, NEW_DAYS, NO_EVENTS, age_class
from offline.metrics import LONGEST, hit_matrix, intervals, per_user
from offline.progress import report_progress, silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from core.query import Request
    from core.types import Mask, Rows
    from offline.evaluate.recommended_lists import EvaluationSet, ServedBundle
    from offline.progress import Progress
    from offline.read.event_log import EventLog

DEPTH = 50
RECALL = f"recall@{DEPTH}"
MAX_CASES = 1_000
PICKS = (1, 2, 3)
_LOOK = 500


def cold_items(
    served: ServedBundle, test_set: EvaluationSet, first_s: NDArray[np.float64], *, progress: Progress = silent
) -> dict[str, Any] | None:
    """Recall of items in their first 30 days or without any event yet, among all items and among such items only.

    Args:
        served: the bundle.
        test_set: all cases of the same moment.
        first_s: [items] of ``first_events``.
        progress: called now and then.

    Returns:
        ``items``: how many such items the catalogue has; ``cases``: with such an item among the relevant ones,
        at most 1,000 out of ``of``; ``generators`` and ``rungs``: name -> recall@50 of those items, with
        intervals; ``among``: the same where nothing else can be had; ``no_events``: all of this for the items without
        any event yet, None where none of them is relevant. None where no relevant item is new.
    """
    age = age_class(first_s, float(test_set.cases.request_time_s[0]))
    found = _cold(served, test_set, np.isin(age, NEW), "new items", progress)
    if found is None:
        return None
    untouched = _cold(served, test_set, age == NO_EVENTS, "items without events", progress)
    return {"days": NEW_DAYS, **found, "no_events": untouched}


def _cold(
    served: ServedBundle, test_set: EvaluationSet, cold: Mask, what: str, progress: Progress
) -> dict[str, Any] | None:
    """Recall of the relevant rows that are ``cold`` [items]; None where there are none."""
    some = test_set.with_relevant([rows[cold[rows]] for rows in test_set.cases.relevant])
    if not len(some):
        return None
    sampled = some.sample(MAX_CASES)
    only = served.restricted(cold & served.bundle.catalogue.available)
    return {
        "items": int(cold.sum()),
        "cases": len(sampled),
        "of": len(some),
        **_recall(served, sampled, what, progress),
        "among": _recall(only, sampled, f"{what} among themselves", progress),
    }


def _recall(served: ServedBundle, test_set: EvaluationSet, what: str, progress: Progress) -> dict[str, Any]:
    """Recall@50 of every generator and rung; a generator is looked at 500 deep for 50 that are allowed."""
    relevant, n_relevant = test_set.cases.relevant, test_set.n_relevant
    bundle = served.bundle
    lists = {g.name: np.full((len(test_set), DEPTH), NO_ROW, np.int32) for g in bundle.generators}
    for i, state in enumerate(test_set.states):
        query = build_query(bundle, test_set.request(i, DEPTH), state, float(test_set.cases.request_time_s[i]))
        for generator in bundle.generators:
            rows = generator.generate(query, _LOOK).rows
            rows = rows[query.allows(rows)][:DEPTH]
            lists[generator.name][i, : len(rows)] = rows
        report_progress(progress, f"{what}: generators", i, len(test_set))
    hits = {name: hit_matrix(rows, relevant, DEPTH) for name, rows in lists.items()}
    for tier in available_rungs(served):
        hits[tier.name] = recommend_all(served, test_set, tier, limit=DEPTH, what=what, progress=progress).hits
    measured = intervals({name: per_user(found, n_relevant, DEPTH)[RECALL] for name, found in hits.items()})
    return {
        "generators": {name: {RECALL: measured[name]} for name in lists},
        "rungs": {name: {RECALL: measured[name]} for name in hits if name not in lists},
    }


def cold_users(
    served: ServedBundle, test_set: EvaluationSet, log: EventLog, types: Sequence[str], *, progress: Progress = silent
) -> dict[str, Any] | None:
    """Figures for users without events before the cut, and what knowing a little of them is worth.

    Args:
        served: the bundle.
        test_set: of the whole window.
        log: where their first items of the window stand.
        types: event types of the log.
        progress: called now and then.

    Returns:
        ``cases``: of such users, at most 1,000 out of ``of``; ``popularity``: figures of the rung that they get today;
        ``category``: popular items of the categories of their first item of the window, ``without`` and ``with`` that
        filter, both scored on their other items; ``picks``: with their first 1, 2 and 3 items given as recent
        events at the moment of the last of them, every rung scored on the others. None where there is no such user.
    """
    unknown = test_set.take(np.flatnonzero(test_set.cases.ends == log.ptr[test_set.cases.users]))
    if not len(unknown):
        return None
    sampled = unknown.sample(MAX_CASES)
    firsts = [_first_items(log, sampled, i) for i in range(len(sampled))]
    plain = _figures(served, sampled, None, Tier.POPULARITY, progress)
    return {
        "cases": len(sampled),
        "of": len(unknown),
        "popularity": intervals(plain.values),
        "category": _category(served, sampled, firsts, progress),
        "picks": [
            found
            for count in PICKS
            if (found := _picks(served, sampled, firsts, types, count, progress=progress)) is not None
        ],
    }


@dataclass(frozen=True)
class _Figures:
    """Figures per case, and how often the rung was reached."""

    values: dict[str, NDArray[np.float64]]
    reached: float


@dataclass(frozen=True)
class _Firsts:
    """A user's relevant items in the order of first turning to them, with type and time."""

    rows: Rows
    types: NDArray[np.int8]
    times: NDArray[np.int64]


def _first_items(log: EventLog, test_set: EvaluationSet, i: int) -> _Firsts:
    user, end = test_set.cases.users[i], test_set.cases.ends[i]
    after = np.arange(end, log.ptr[user + 1])
    after = after[np.isin(log.items[after], test_set.cases.relevant[i])]
    first = after[np.sort(np.unique(log.items[after], return_index=True)[1])]
    return _Firsts(log.items[first], log.types[first], log.times[first])


def _figures(
    served: ServedBundle, test_set: EvaluationSet, requests: Sequence[Request] | None, tier: Tier, progress: Progress
) -> _Figures:
    found = recommend_all(served, test_set, tier, requests=requests, what="cold users", progress=progress)
    figures = per_user(found.hits, test_set.n_relevant, LONGEST)
    return _Figures({metric: figures[metric] for metric in METRICS}, found.reached)


def _category(
    served: ServedBundle, test_set: EvaluationSet, firsts: Sequence[_Firsts], progress: Progress
) -> dict[str, Any] | None:
    catalogue = served.bundle.catalogue
    names = [catalogue.categories_of(int(first.rows[0])) for first in firsts]
    rest = [first.rows[1:] if name else NO_ROWS for first, name in zip(firsts, names, strict=True)]
    left = [i for i, rows in enumerate(rest) if len(rows)]
    if not left:
        return None
    sampled = test_set.with_relevant(rest)
    ids = catalogue.ids
    plain = [sampled.request(n, exclude=(ids[int(firsts[i].rows[0])],)) for n, i in enumerate(left)]
    wished = [replace(plain[n], filters=Filters(categories=names[i])) for n, i in enumerate(left)]
    without = _figures(served, sampled, plain, Tier.POPULARITY, progress).values
    filtered = _figures(served, sampled, wished, Tier.POPULARITY, progress).values
    return {
        "cases": len(sampled),
        "without": intervals(without),
        "with": intervals(filtered),
        "difference": difference(filtered, without),
    }


def _picks(
    served: ServedBundle,
    test_set: EvaluationSet,
    firsts: Sequence[_Firsts],
    types: Sequence[str],
    count: int,
    *,
    progress: Progress,
) -> dict[str, Any] | None:
    rest = [first.rows[count:] for first in firsts]
    left = [i for i, rows in enumerate(rest) if len(rows)]
    if not left:
        return None
    sampled = test_set.with_relevant(rest)
    at_s = np.array([firsts[i].times[count - 1] for i in left], np.float64)
    sampled = replace(sampled, cases=replace(sampled.cases, request_time_s=at_s))
    ids = served.bundle.catalogue.ids
    requests = []
    for n, i in enumerate(left):
        first = firsts[i]
        events = [
            UserEvent(ids[int(first.rows[j])], types[int(first.types[j]) - 1], float(first.times[j]))
            for j in reversed(range(count))
        ]
        requests.append(
            sampled.request(n, recent_events=tuple(events), exclude=tuple(event.item_id for event in events))
        )
    figures = {tier.name: _figures(served, sampled, requests, tier, progress) for tier in available_rungs(served)}
    popular = figures[Tier.POPULARITY.name].values
    return {
        "picks": count,
        "cases": len(sampled),
        "rungs": {rung: {**intervals(found.values), "reached": found.reached} for rung, found in figures.items()},
        "differences": {
            f"{rung} - {Tier.POPULARITY.name}": difference(found.values, popular)
            for rung, found in figures.items()
            if rung != Tier.POPULARITY.name
        },
    }
