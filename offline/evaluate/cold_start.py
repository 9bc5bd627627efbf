"""What the rungs are worth at the start: for items that hardly anybody had yet, and for users nobody knows yet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from core.catalogue import Filters
from core.query import build_query
from core.types import NO_ROWS, Tier, UserEvent
from offline.evaluate.measurement import difference
from offline.evaluate.recommend import NO_ROW, ask, available_rungs, tell
from offline.evaluate.segments import METRICS, NEW, NEW_DAYS, NO_EVENTS, age_class
from offline.metrics import LONGEST, hit_matrix, intervals, per_user
from offline.progress import silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from core.query import Request
    from core.types import Mask, Rows
    from offline.evaluate.recommend import Questions, Served
    from offline.progress import Progress
    from offline.read.event_log import EventLog

DEPTH = 50
RECALL = f"recall@{DEPTH}"
MAX_QUESTIONS = 1_000
PICKS = (1, 2, 3)
_LOOK = 500


def cold_items(
    served: Served, questions: Questions, first_s: NDArray[np.float64], *, progress: Progress = silent
) -> dict[str, Any] | None:
    """Recall of items in their first 30 days or without any event yet, among all items and among such items only.

    Args:
        served: the bundle.
        questions: all of the same moment.
        first_s: [items] of ``first_events``.
        progress: told how far it is.

    Returns:
        ``items``: how many such items the catalogue has; ``questions``: with such an item among the relevant ones, and
        asked here (at most 1,000, out of ``of``); ``generators`` and ``rungs``: name -> recall@50 of those items, with
        intervals; ``among``: the same where nothing else can be had; ``no_events``: all of this for the items without
        any event yet, None where none of them is relevant. None where no relevant item is new.
    """
    age = age_class(first_s, float(questions.cases.asked_at_s[0]))
    found = _cold(served, questions, np.isin(age, NEW), "new items", progress)
    if found is None:
        return None
    untouched = _cold(served, questions, age == NO_EVENTS, "items without events", progress)
    return {"days": NEW_DAYS, **found, "no_events": untouched}


def _cold(served: Served, questions: Questions, cold: Mask, what: str, progress: Progress) -> dict[str, Any] | None:
    """Recall of the relevant rows that are ``cold`` [items]; None where there are none."""
    some = questions.answered_by([rows[cold[rows]] for rows in questions.cases.relevant])
    if not len(some):
        return None
    asked = some.sample(MAX_QUESTIONS)
    only = served.restricted(cold & served.bundle.catalogue.available)
    return {
        "items": int(cold.sum()),
        "questions": len(asked),
        "of": len(some),
        **_recall(served, asked, what, progress),
        "among": _recall(only, asked, f"{what} among themselves", progress),
    }


def _recall(served: Served, questions: Questions, what: str, progress: Progress) -> dict[str, Any]:
    """Recall@50 of every generator and rung; a generator is looked at 500 deep for 50 that are allowed."""
    relevant, n_relevant = questions.cases.relevant, questions.n_relevant
    bundle = served.bundle
    lists = {g.name: np.full((len(questions), DEPTH), NO_ROW, np.int32) for g in bundle.generators}
    for i, state in enumerate(questions.states):
        query = build_query(bundle, questions.request(i, DEPTH), state, float(questions.cases.asked_at_s[i]))
        for generator in bundle.generators:
            rows = generator.generate(query, _LOOK).rows
            rows = rows[query.allows(rows)][:DEPTH]
            lists[generator.name][i, : len(rows)] = rows
        tell(progress, f"{what}: generators", i, len(questions))
    hits = {name: hit_matrix(rows, relevant, DEPTH) for name, rows in lists.items()}
    for tier in available_rungs(served):
        hits[tier.name] = ask(served, questions, tier, limit=DEPTH, what=what, progress=progress).hits
    measured = intervals({name: per_user(found, n_relevant, DEPTH)[RECALL] for name, found in hits.items()})
    return {
        "generators": {name: {RECALL: measured[name]} for name in lists},
        "rungs": {name: {RECALL: measured[name]} for name in hits if name not in lists},
    }


def cold_users(
    served: Served, questions: Questions, log: EventLog, types: Sequence[str], *, progress: Progress = silent
) -> dict[str, Any] | None:
    """What users without events before the cut are answered, and what knowing a little of them is worth.

    Args:
        served: the bundle.
        questions: of the whole window.
        log: where their first items of the window stand.
        types: event types of the log.
        progress: told how far it is.

    Returns:
        ``questions``: such users, and asked here (at most 1,000, out of ``of``); ``popularity``: what they are answered today;
        ``category``: popular items of the categories of their first item of the window, ``without`` and ``with`` that
        filter, both scored on their other items; ``picks``: with their first 1, 2 and 3 items given as recent
        events at the moment of the last of them, every rung scored on the others. None where there is no such user.
    """
    unknown = questions.take(np.flatnonzero(questions.cases.ends == log.ptr[questions.cases.users]))
    if not len(unknown):
        return None
    asked = unknown.sample(MAX_QUESTIONS)
    firsts = [_first_items(log, asked, i) for i in range(len(asked))]
    plain = _figures(served, asked, None, Tier.POPULARITY, progress)
    return {
        "questions": len(asked),
        "of": len(unknown),
        "popularity": intervals(plain.values),
        "category": _category(served, asked, firsts, progress),
        "picks": [
            found
            for count in PICKS
            if (found := _picks(served, asked, firsts, types, count, progress=progress)) is not None
        ],
    }


@dataclass(frozen=True)
class _Figures:
    """Figures per question, and how often the rung was reached."""

    values: dict[str, NDArray[np.float64]]
    reached: float


@dataclass(frozen=True)
class _Firsts:
    """A user's relevant items in the order of first turning to them, with type and time."""

    rows: Rows
    types: NDArray[np.int8]
    times: NDArray[np.int64]


def _first_items(log: EventLog, questions: Questions, i: int) -> _Firsts:
    user, end = questions.cases.users[i], questions.cases.ends[i]
    after = np.arange(end, log.ptr[user + 1])
    after = after[np.isin(log.items[after], questions.cases.relevant[i])]
    first = after[np.sort(np.unique(log.items[after], return_index=True)[1])]
    return _Firsts(log.items[first], log.types[first], log.times[first])


def _figures(
    served: Served, questions: Questions, requests: Sequence[Request] | None, tier: Tier, progress: Progress
) -> _Figures:
    found = ask(served, questions, tier, requests=requests, what="cold users", progress=progress)
    figures = per_user(found.hits, questions.n_relevant, LONGEST)
    return _Figures({metric: figures[metric] for metric in METRICS}, found.reached)


def _category(
    served: Served, questions: Questions, firsts: Sequence[_Firsts], progress: Progress
) -> dict[str, Any] | None:
    catalogue = served.bundle.catalogue
    names = [catalogue.categories_of(int(first.rows[0])) for first in firsts]
    rest = [first.rows[1:] if name else NO_ROWS for first, name in zip(firsts, names, strict=True)]
    left = [i for i, rows in enumerate(rest) if len(rows)]
    if not left:
        return None
    asked = questions.answered_by(rest)
    ids = catalogue.ids
    plain = [asked.request(n, exclude=(ids[int(firsts[i].rows[0])],)) for n, i in enumerate(left)]
    wished = [replace(plain[n], filters=Filters(categories=names[i])) for n, i in enumerate(left)]
    without = _figures(served, asked, plain, Tier.POPULARITY, progress).values
    filtered = _figures(served, asked, wished, Tier.POPULARITY, progress).values
    return {
        "questions": len(asked),
        "without": intervals(without),
        "with": intervals(filtered),
        "difference": difference(filtered, without),
    }


def _picks(
    served: Served,
    questions: Questions,
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
    asked = questions.answered_by(rest)
    at_s = np.array([firsts[i].times[count - 1] for i in left], np.float64)
    asked = replace(asked, cases=replace(asked.cases, asked_at_s=at_s))
    ids = served.bundle.catalogue.ids
    requests = []
    for n, i in enumerate(left):
        first = firsts[i]
        events = [
            UserEvent(ids[int(first.rows[j])], types[int(first.types[j]) - 1], float(first.times[j]))
            for j in reversed(range(count))
        ]
        requests.append(asked.request(n, recent_events=tuple(events)))
    figures = {tier.name: _figures(served, asked, requests, tier, progress) for tier in available_rungs(served)}
    popular = figures[Tier.POPULARITY.name].values
    return {
        "picks": count,
        "questions": len(asked),
        "rungs": {rung: {**intervals(found.values), "reached": found.reached} for rung, found in figures.items()},
        "differences": {
            f"{rung} - {Tier.POPULARITY.name}": difference(found.values, popular)
            for rung, found in figures.items()
            if rung != Tier.POPULARITY.name
        },
    }
