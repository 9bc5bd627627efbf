"""How fast precomputed lists age: lists that were made some hours before the moment of a request, served at that moment.

A list is what the deep rung answers from what was known so many hours earlier. It is served by the code that serves: what
the user has had since is taken out, and what is missing is filled up. Beside it stand the other rungs at the moment itself,
on the same cases. The bundle is the same for all: its own age is not measured here.

The cases are moments at which their users were active (``offline.split.cases.moments_of_activity``): between a cut in time
and the hours before it most users did nothing, so that no list would age.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from core.precomputed import LIST_ROWS, PrecomputedList
from core.types import NO_ROW, Reason, Tier
from offline.evaluate.measurement import MAIN, difference
from offline.evaluate.recommended_lists import EvaluationSet, recommend_all
from offline.metrics import LONGEST, hit_matrix, intervals, per_user
from offline.progress import report_progress, silent
from offline.split.cases import moments_of_activity
from offline.split.cuts import ShareCut

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from core.types import UserState
    from offline.build.fit import World
    from offline.evaluate.recommended_lists import ServedBundle
    from offline.progress import Progress
    from offline.split.windows import Window

AGES_H = (1.0, 6.0, 24.0, 168.0)
NIGHT_H = 24.0
"""Age at which a list is held against CF: one that is renewed every night gets this old."""
MAX_CASES = 1_000
"""Moments that are asked at most: each takes nine answers without a deadline."""
MAX_CHOICE_CASES = 1_000
ENOUGH_CASES = 100
"""With fewer, only an interval wholly below zero puts the list below CF."""
METRICS = (MAIN, f"recall@{LONGEST}", f"hit_rate@{LONGEST}")
_CF, _LIST, _DEEP = Tier.CF.name, Tier.PRECOMPUTED.name, Tier.DEEP.name
_HOUR_S = 3_600.0


def active_moments(world: World, window: Window, max_cases: int) -> EvaluationSet | None:
    """At most ``max_cases`` moments of a window; None where events have no times, or nobody was active."""
    if isinstance(window.cut, ShareCut) or not world.log.ordered:
        return None
    cases = moments_of_activity(world.log, window.cut, window.until, targets=world.targets, hidden=world.hidden)
    if not len(cases):
        return None
    cases = cases.sample(max_cases, seed=0)
    return EvaluationSet(cases, world.user_states(cases))


def list_ages(
    served: ServedBundle,
    world: World,
    moments: EvaluationSet | None,
    *,
    ages_h: Sequence[float] = AGES_H,
    progress: Progress = silent,
) -> dict[str, Any] | None:
    """What lists of each age are worth beside CF and DEEP at the moment of the request.

    Args:
        served: the bundle, of a cut before the moments.
        world: what is known of users.
        moments: the cases.
        ages_h: ages of the lists, hours.
        progress: called now and then.

    Returns:
        ``cases``: how many; ``ages``, one for each age for which there are lists: ``hours``; ``cases``: those with a list;
        ``covered``: their share; ``active_since``: of these the share whose users did something after the list was made;
        ``rungs``: CF, PRECOMPUTED, DEEP -> metric -> {mean, low, high}; ``differences``: of PRECOMPUTED, case by case; and
        ``after_activity``: the last two of those alone who did something since, with their number, or None. None where
        there is no deep rung or there are no moments.
    """
    if served.bundle.scorer is None or moments is None:
        return None
    beside = {
        tier.name: recommend_all(served, moments, tier, what="moments:", progress=progress).hits
        for tier in (Tier.CF, Tier.DEEP)
    }
    found = []
    for hours in ages_h:
        lists = lists_made_before(served, world, moments, hours * _HOUR_S, progress=progress)
        index = np.flatnonzero([one is not None for one in lists])
        if not len(index):
            continue
        part = moments.take(index)
        hits = _hits_of_lists(served, part, [lists[i] for i in index], f"lists {hours:g} h old", progress)
        values = {
            name: _values(of, part.n_relevant)
            for name, of in ((_CF, beside[_CF][index]), (_LIST, hits), (_DEEP, beside[_DEEP][index]))
        }
        since = _ends_before(world, part, hours * _HOUR_S) < part.cases.ends
        found.append(
            {
                "hours": hours,
                "covered": len(index) / len(moments),
                "active_since": float(since.mean()),
                **_figures(values),
                "after_activity": _figures(_where(values, since)) if since.any() else None,
            }
        )
    return {"cases": len(moments), "ages": found}


def above_cf(figures: Mapping[str, Any] | None) -> bool:
    """Whether lists of last night belong above CF on the ladder, as far as ``list_ages`` can tell on the validation window.

    They do unless they are worse: by the mean of the paired difference, or, where the cases are few, by its whole interval.
    """
    for age in figures["ages"] if figures else ():
        if age["hours"] == NIGHT_H:
            step = age["differences"][f"{_LIST} - {_CF}"][MAIN]
            return bool(step["mean"] >= 0 or (age["cases"] < ENOUGH_CASES and step["high"] >= 0))
    return True


def lists_made_before(
    served: ServedBundle, world: World, test_set: EvaluationSet, age_s: float, *, progress: Progress = silent
) -> list[PrecomputedList | None]:
    """The list of each case's user as it would have been made ``age_s`` seconds earlier; None where there was none to make."""
    data, log = world.data, world.log
    lists: list[PrecomputedList | None] = []
    for i, end in enumerate(_ends_before(world, test_set, age_s).tolist()):
        user, made_s = int(test_set.cases.users[i]), float(test_set.cases.request_time_s[i]) - age_s
        made = None
        if end > log.ptr[user]:
            state = log.user_state(user, end, data.catalogue.ids, data.event_types, world.hidden)
            answer = served.recommend(test_set.request(i, LIST_ROWS), state, made_s, Tier.DEEP)
            made = PrecomputedList.of(answer, made_s) if answer.tier is Tier.DEEP else None
        lists.append(made)
        report_progress(progress, f"make lists {age_s / _HOUR_S:g} h before", i, len(test_set))
    return lists


def with_list(state: UserState, made: PrecomputedList | None) -> UserState:
    """What the user store would give where it has that list, or none."""
    return replace(state, precomputed=made, no_list=Reason.NO_LIST)


def _ends_before(world: World, test_set: EvaluationSet, age_s: float) -> NDArray[np.int64]:
    """[q] index into the log after each case's last event that was known ``age_s`` seconds earlier."""
    log, cases = world.log, test_set.cases
    starts = log.ptr[cases.users]
    known = [
        int(np.searchsorted(log.times[start:end], at - age_s))
        for start, end, at in zip(starts, cases.ends, cases.request_time_s, strict=True)
    ]
    return starts + np.array(known, np.int64)


def _hits_of_lists(
    served: ServedBundle,
    part: EvaluationSet,
    lists: Sequence[PrecomputedList | None],
    what: str,
    progress: Progress,
) -> NDArray[np.bool_]:
    """[q, k] which places of the lists, as they are served, are relevant."""
    rows = np.full((len(part), LONGEST), NO_ROW, np.int32)
    for i, (state, made) in enumerate(zip(part.states, lists, strict=True)):
        at = float(part.cases.request_time_s[i])
        answer = served.recommend(part.request(i), with_list(state, made), at, Tier.PRECOMPUTED)
        rows[i, : len(answer.rows)] = answer.rows
        report_progress(progress, what, i, len(part))
    return hit_matrix(rows, part.cases.relevant, LONGEST)


def _values(hits: NDArray[np.bool_], n_relevant: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    values = per_user(hits, n_relevant, LONGEST)
    return {metric: values[metric] for metric in METRICS}


def _where(
    values: Mapping[str, Mapping[str, NDArray[np.float64]]], mask: NDArray[np.bool_]
) -> dict[str, dict[str, NDArray[np.float64]]]:
    return {name: {metric: each[mask] for metric, each in of.items()} for name, of in values.items()}


def _figures(values: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> dict[str, Any]:
    return {
        "cases": len(values[_LIST][MAIN]),
        "rungs": {name: intervals(dict(of)) for name, of in values.items()},
        "differences": {
            f"{_LIST} - {_CF}": difference(values[_LIST], values[_CF]),
            f"{_LIST} - {_DEEP}": difference(values[_LIST], values[_DEEP]),
        },
    }
