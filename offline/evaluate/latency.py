"""What an answer is worth for the time it may take: the same questions under real deadlines."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from core.types import Tier
from offline.evaluate.measurement import MAIN
from offline.evaluate.recommend import ask, available_rungs, tell
from offline.metrics import LONGEST, hit_matrix, intervals, mean, per_user
from offline.progress import silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from offline.evaluate.recommend import Questions, Served
    from offline.progress import Progress

DEADLINES_MS = (1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 35.0, 50.0, 100.0)
MAX_QUESTIONS = 200


def latency_curve(served: Served, questions: Questions, *, progress: Progress = silent) -> list[dict[str, Any]]:
    """Quality of the answers under each deadline, one question at a time, without network and store.

    Measured with a real clock: the figures differ between machines and between runs.

    Returns:
        For each deadline ``ndcg@20`` with its ``interval``, ``tiers`` (rung -> share of answers), ``scored_share`` (of
        the pools of DEEP answers, the part of rows that the model scored; None without one), ``p50_ms`` and
        ``p99_ms`` of the answers' own time, ``questions``, and ``unhurried``: rung -> its ``ndcg@20`` of the same
        questions without a deadline.
    """
    asked = questions.sample(MAX_QUESTIONS)
    unhurried = {
        tier.name: _worth(ask(served, asked, tier, what="unhurried", progress=progress).hits, asked)["mean"]
        for tier in available_rungs(served)
    }
    curve = []
    for step, deadline_ms in enumerate(DEADLINES_MS):
        served.warm_up()
        answers, took_ms = [], []
        for i, state in enumerate(asked.states):
            now_s = float(asked.cases.asked_at_s[i])
            start_s = time.perf_counter()
            answers.append(served.recommend_within(asked.request(i), state, now_s, deadline_ms / 1000))
            took_ms.append((time.perf_counter() - start_s) * 1000)
            tell(progress, "answers under deadlines", step * len(asked) + i, len(DEADLINES_MS) * len(asked))
        hits = hit_matrix([answer.rows for answer in answers], asked.cases.relevant, LONGEST)
        worth = _worth(hits, asked)
        tiers = Counter(answer.tier for answer in answers)
        scored = [a.scored_rows / max(a.pool_rows, 1) for a in answers if a.tier is Tier.DEEP]
        curve.append(
            {
                "deadline_ms": deadline_ms,
                MAIN: worth["mean"],
                "interval": worth,
                "tiers": {tier.name: tiers[tier] / len(asked) for tier in available_rungs(served)},
                "scored_share": mean(np.array(scored)),
                "p50_ms": float(np.percentile(took_ms, 50)),
                "p99_ms": float(np.percentile(took_ms, 99)),
                "questions": len(asked),
                "unhurried": unhurried,
            }
        )
    return curve


def _worth(hits: NDArray[np.bool_], asked: Questions) -> dict[str, float]:
    """The main metric with its interval."""
    return intervals({MAIN: per_user(hits, asked.n_relevant, LONGEST)[MAIN]})[MAIN]
