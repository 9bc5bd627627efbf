"""The whole evaluation of one draft bundle: every case of the test window, through the code that serves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from offline.evaluate.beyond_accuracy import Background
from offline.evaluate.cold_start import cold_items, cold_users
from offline.evaluate.example_lists import examples
from offline.evaluate.latency import MAX_CASES as LATENCY_CASES
from offline.evaluate.latency import latency_curve
from offline.evaluate.list_ages import MAX_CASES as MAX_MOMENTS
from offline.evaluate.list_ages import NIGHT_H, active_moments, list_ages, lists_made_before, with_list
from offline.evaluate.measurement import measure, order
from offline.evaluate.recommended_lists import EvaluationSet
from offline.evaluate.segments import by_activity, by_item_age, first_events
from offline.progress import silent

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from offline.build.builder import Builder
    from offline.evaluate.recommended_lists import ServedBundle
    from offline.progress import Progress
    from offline.split.cases import Cases

MAX_REPEAT_CASES = 5_000
"""Cases that are evaluated once more with repeats allowed, at most."""
NOT_REPRODUCIBLE = ("latency", "latency_with_lists")
"""Keys of the figures that a second run gives differently, since a clock decides them."""


class KeepPerCase(Protocol):
    """Gets the values of every case, of which the figures are means."""

    def __call__(self, cases: Cases, values: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> None:
        """Rung -> metric -> [q], in the order of ``cases``."""
        ...


def evaluate(
    made: Builder,
    served: ServedBundle,
    *,
    max_cases: int | None = None,
    keep: KeepPerCase | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """All figures of a draft, as plain values ready for JSON.

    Args:
        made: the builder, for the cases, the log and the titles.
        served: its draft at the cut of the last window.
        max_cases: evaluate a sample of so many cases; None = all.
        keep: called once with the figures of each case, without repeats.
        progress: called now and then.

    Returns:
        ``split``: which cases; ``rungs``: rung -> metric -> {mean, low, high}, and what ``offline.evaluate.beyond_accuracy`` defines;
        ``differences``: each rung minus the one below, per case; ``generators``: see ``Proposals`` and
        ``Measurement.generators``; ``segments``: ``activity`` and ``item_age``; ``repeats``: the first three again where
        items that the user had may come back, None where nobody came back to one; ``cold_items``, ``cold_users``,
        ``latency``, ``list_ages``, ``examples``: see their modules; ``latency_with_lists``: the same once more where every
        user has a list of the night before; ``order``: rungs, best last. Ages of items and lists and cold starts are
        None where time means nothing. Empty where there are no cases.
    """
    cases, states, split = made.test_cases()
    if not len(cases):
        return {}
    every = EvaluationSet(cases, states)
    test_set = every if max_cases is None else every.sample(max_cases)
    log, cut = made.world.log, made.plan.test.cut
    background = Background.of(made.world, cut, served.bundle)
    measured = measure(served, test_set, progress=progress)
    if keep is not None:
        keep(test_set.cases, measured.values)
    rungs = measured.rungs(background)
    timed = made.plan.horizon_days is not None
    first_s = first_events(log, cut, made.world.n_items) if timed else None
    users, ends = test_set.cases.users, test_set.cases.ends
    moments = active_moments(made.world, made.plan.test, MAX_MOMENTS if max_cases is None else max_cases)
    return {
        "split": {**split, "allow_repeats": False, "cases": len(test_set), "of": len(every)},
        "rungs": rungs,
        "differences": measured.differences(),
        "generators": measured.generators(),
        "segments": {
            "activity": by_activity(ends - log.ptr[users], measured.values),
            "item_age": None if first_s is None else by_item_age(test_set, first_s, measured.lists),
        },
        "repeats": _repeats(made, served, every, background, progress),
        "cold_items": None if first_s is None else cold_items(served, test_set, first_s, progress=progress),
        "cold_users": cold_users(served, test_set, log, made.world.data.event_types, progress=progress)
        if timed
        else None,
        "latency": latency_curve(served, test_set, progress=progress),
        "latency_with_lists": None if moments is None else _latency_with_lists(made, served, test_set, progress),
        "list_ages": list_ages(served, made.world, moments, progress=progress),
        "examples": examples(
            served, test_set, measured.lists[measured.top], made.world.data.user_ids, made.world.data.titles
        ),
        "order": order(rungs),
    }


def _latency_with_lists(
    made: Builder, served: ServedBundle, test_set: EvaluationSet, progress: Progress
) -> list[dict[str, Any]] | None:
    """``latency_curve`` where every user has a list of the night before; None where there is no rung to make it."""
    if served.bundle.scorer is None:
        return None
    sampled = test_set.sample(LATENCY_CASES)
    lists = lists_made_before(served, made.world, sampled, NIGHT_H * 3600, progress=progress)
    return latency_curve(
        served, replace(sampled, states=list(map(with_list, sampled.states, lists))), progress=progress
    )


def _repeats(
    made: Builder, served: ServedBundle, new_only: EvaluationSet, background: Background, progress: Progress
) -> dict[str, Any] | None:
    """The test window's cases where items that the user had are relevant and may be recommended."""
    cases, states, split = made.test_cases(new_only=False)
    every = EvaluationSet(cases, states, allow_repeats=True)
    if int(every.n_relevant.sum()) == int(new_only.n_relevant.sum()):
        return None
    measured = measure(served, every.sample(MAX_REPEAT_CASES), label="with repeats:", progress=progress)
    return {
        "split": {**split, "allow_repeats": True, "cases": len(measured.test_set), "of": len(every)},
        "rungs": measured.rungs(background),
        "differences": measured.differences(),
        "generators": measured.generators(),
    }
