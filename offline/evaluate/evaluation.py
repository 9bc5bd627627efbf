"""The whole evaluation of one draft bundle: every question of the last window, through the code that serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from offline.evaluate.beyond_accuracy import Background
from offline.evaluate.cold_start import cold_items, cold_users
from offline.evaluate.examples import examples
from offline.evaluate.latency import latency_curve
from offline.evaluate.measurement import measure, order
from offline.evaluate.recommend import Questions
from offline.evaluate.segments import by_activity, by_item_age, first_events
from offline.progress import silent

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from offline.build.builder import Builder
    from offline.evaluate.measurement import Worth
    from offline.evaluate.recommend import Served
    from offline.progress import Progress
    from offline.split.cases import Cases

REPEAT_QUESTIONS = 5_000
"""Questions that are asked once more with repeats allowed, at most."""
NOT_REPRODUCIBLE = ("latency",)
"""Keys of the figures that a second run gives differently, since a clock decides them."""


class Keep(Protocol):
    """Given what the figures are means of."""

    def __call__(self, cases: Cases, values: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> None:
        """Rung -> metric -> [q], in the order of ``cases``."""
        ...


def judge(
    made: Builder,
    served: Served,
    *,
    max_questions: int | None = None,
    keep: Keep | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Everything that a build is worth, as plain values ready for JSON.

    Args:
        made: the builder, for the questions, the log and the titles.
        served: its draft at the cut of the last window.
        max_questions: ask a sample of so many questions; None = all.
        keep: given each question's figures, once, without repeats.
        progress: told how far it is.

    Returns:
        ``split``: what was asked; ``rungs``: rung -> metric -> {mean, low, high}, and what ``offline.evaluate.beyond_accuracy`` defines;
        ``differences``: each rung minus the one below, per question; ``generators``: see ``Proposals`` and
        ``Worth.generators``; ``segments``: ``activity`` and ``item_age``; ``repeats``: the first three again where
        items that the user had may come back, None where nobody came back to one; ``cold_items``, ``cold_users``,
        ``latency``, ``examples``: see their modules; ``order``: rungs, best last. Item ages and cold starts are
        None where time means nothing. Empty where there is nothing to ask.
    """
    cases, states, split = made.test_questions(served.bundle)
    if not len(cases):
        return {}
    every = Questions(cases, states)
    questions = every if max_questions is None else every.sample(max_questions)
    log, cut = made.world.log, made.plan.test.cut
    background = Background.of(made.world, cut, served.bundle)
    worth = measure(served, questions, progress=progress)
    if keep is not None:
        keep(questions.cases, worth.values)
    rungs = worth.rungs(background)
    timed = made.plan.horizon_days is not None
    first_s = first_events(log, cut, made.world.n_items) if timed else None
    users, ends = questions.cases.users, questions.cases.ends
    return {
        "split": {**split, "allow_repeats": False, "questions": len(questions), "of": len(every)},
        "rungs": rungs,
        "differences": worth.differences(),
        "generators": worth.generators(),
        "segments": {
            "activity": by_activity(ends - log.ptr[users], worth.values),
            "item_age": None if first_s is None else by_item_age(questions, first_s, worth.answers),
        },
        "repeats": _repeats(made, served, every, background, progress),
        "cold_items": None if first_s is None else cold_items(served, questions, first_s, progress=progress),
        "cold_users": cold_users(served, questions, log, made.world.data.event_types, progress=progress)
        if timed
        else None,
        "latency": latency_curve(served, questions, progress=progress),
        "examples": examples(
            served, questions, worth.answers[worth.top], made.world.data.user_ids, made.world.data.titles
        ),
        "order": order(rungs),
    }


def _repeats(
    made: Builder, served: Served, new_only: Questions, background: Background, progress: Progress
) -> dict[str, Any] | None:
    """The last window's questions where items that the user had count as answers and may be answered."""
    cases, states, split = made.test_questions(served.bundle, new_only=False)
    every = Questions(cases, states, allow_repeats=True)
    if int(every.n_relevant.sum()) == int(new_only.n_relevant.sum()):
        return None
    worth: Worth = measure(served, every.sample(REPEAT_QUESTIONS), label="with repeats:", progress=progress)
    return {
        "split": {**split, "allow_repeats": True, "questions": len(worth.questions), "of": len(every)},
        "rungs": worth.rungs(background),
        "differences": worth.differences(),
        "generators": worth.generators(),
    }
