"""Quality under real deadlines: the same cases, with so many milliseconds each."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from core.types import Tier
from offline.evaluate.measurement import MAIN
from offline.evaluate.recommended_lists import available_rungs, recommend_all
from offline.metrics import LONGEST, hit_matrix, intervals, mean, per_user
from offline.progress import report_progress, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from offline.evaluate.recommended_lists import EvaluationSet, ServedBundle
    from offline.progress import Progress

DEADLINES_MS = (1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 35.0, 50.0, 100.0)
MAX_CASES = 200


def latency_curve(
    served: ServedBundle, test_set: EvaluationSet, *, progress: Progress = silent
) -> list[dict[str, Any]]:
    """Quality of the lists under each deadline, one case at a time, without network and store.

    Measured with a real clock: the figures differ between machines and between runs. PRECOMPUTED is among the rungs where
    the states of the cases have lists.

    Returns:
        For each deadline ``ndcg@20`` with its ``interval``, ``tiers`` (rung -> share of lists), ``scored_share`` (of
        the pools of DEEP lists, the part of rows that the model scored; None without one), ``p50_ms`` and
        ``p99_ms`` of the time each took, ``cases``, and ``unhurried``: rung -> its ``ndcg@20`` of the same
        cases without a deadline.
    """
    sampled = test_set.sample(MAX_CASES)
    has_lists = any(state.precomputed is not None for state in sampled.states)
    rungs = sorted({*available_rungs(served), *((Tier.PRECOMPUTED,) if has_lists else ())})
    unhurried = {
        tier.name: _main_metric(
            recommend_all(served, sampled, tier, what="unhurried", progress=progress).hits, sampled
        )["mean"]
        for tier in rungs
    }
    curve = []
    for step, deadline_ms in enumerate(DEADLINES_MS):
        served.warm_up()
        found, took_ms = [], []
        for i, state in enumerate(sampled.states):
            now_s = float(sampled.cases.request_time_s[i])
            start_s = time.perf_counter()
            found.append(served.recommend_within(sampled.request(i), state, now_s, deadline_ms / 1000))
            took_ms.append((time.perf_counter() - start_s) * 1000)
            report_progress(
                progress, "lists under deadlines", step * len(sampled) + i, len(DEADLINES_MS) * len(sampled)
            )
        hits = hit_matrix([one.rows for one in found], sampled.cases.relevant, LONGEST)
        quality = _main_metric(hits, sampled)
        tiers = Counter(one.tier for one in found)
        scored = [one.scored_rows / max(one.pool_rows, 1) for one in found if one.tier is Tier.DEEP]
        curve.append(
            {
                "deadline_ms": deadline_ms,
                MAIN: quality["mean"],
                "interval": quality,
                "tiers": {tier.name: tiers[tier] / len(sampled) for tier in rungs},
                "scored_share": mean(np.array(scored)),
                "p50_ms": float(np.percentile(took_ms, 50)),
                "p99_ms": float(np.percentile(took_ms, 99)),
                "cases": len(sampled),
                "unhurried": unhurried,
            }
        )
    return curve


def _main_metric(hits: NDArray[np.bool_], sampled: EvaluationSet) -> dict[str, float]:
    """The main metric with its interval."""
    return intervals({MAIN: per_user(hits, sampled.n_relevant, LONGEST)[MAIN]})[MAIN]
