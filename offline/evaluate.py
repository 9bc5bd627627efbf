"""What each rung and each generator is worth, measured through the code that serves."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from core.query import Request, build_query
from core.types import Tier
from offline.metrics import bootstrap, coverage, hit_matrix, per_user
from offline.progress import silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from core.bundle import Bundle
    from core.types import Recommendation, Rows, UserState
    from offline.log import EventLog
    from offline.progress import Progress
    from offline.split import Cases

RUNGS = (Tier.POPULARITY, Tier.CF, Tier.DEEP)
GENERATOR_DEPTHS = (50, 100, 200, 500)


class Served(Protocol):
    """The serving code as evaluation drives it: no network, no clock, but the same pipeline."""

    bundle: Bundle

    def recommend(self, request: Request, user: UserState, now_s: float, max_tier: Tier) -> Recommendation:
        """The answer of the pipeline, without a deadline, from ``max_tier`` or the best rung below."""
        ...


@dataclass(frozen=True)
class Lists:
    """What one rung answered: one list per case, and how often it was really this rung."""

    rows: tuple[Rows, ...]
    reached: float


def user_states(log: EventLog, cases: Cases, bundle: Bundle, types: Sequence[str]) -> list[UserState]:
    """What the user store would know of each case's user at the moment of the question."""
    seen = frozenset(bundle.manifest.seen_types)
    ids = bundle.catalogue.ids
    return [
        log.user_state(int(user), int(end), ids, types, seen) for user, end in zip(cases.users, cases.ends, strict=True)
    ]


def evaluate(
    served: Served,
    cases: Cases,
    states: Sequence[UserState],
    *,
    ks: Sequence[int] = (10, 20),
    allow_repeats: bool = False,
    split: dict[str, Any] | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Figures of every rung and generator, as plain values ready for JSON.

    Returns:
        ``rungs``: rung -> metric -> {mean, low, high}; ``differences``: "CF - POPULARITY" -> the same of
        the paired difference per user; ``generators``: name -> recall at several depths, and ``union``;
        ``split``: what was asked.
    """
    n_relevant = np.array([len(rows) for rows in cases.relevant], np.int64)
    figures: dict[str, dict[str, NDArray[np.float64]]] = {}
    rungs: dict[str, dict[str, Any]] = {}
    available = [t for t in RUNGS if t is not Tier.DEEP or served.bundle.scorer is not None]
    for tier in available:
        lists = _ask(served, cases, states, tier, max(ks), allow_repeats=allow_repeats, progress=progress)
        hits = hit_matrix(lists.rows, cases.relevant, max(ks))
        values = {name: v for k in ks for name, v in per_user(hits, n_relevant, k).items()}
        figures[tier.name] = values
        rungs[tier.name] = {name: bootstrap(v).as_dict() for name, v in values.items()}
        rungs[tier.name]["coverage"] = coverage(lists.rows, len(served.bundle.catalogue))
        rungs[tier.name]["reached"] = lists.reached
    differences = {
        f"{high.name} - {low.name}": {
            name: bootstrap(figures[high.name][name] - figures[low.name][name]).as_dict() for name in figures[low.name]
        }
        for low, high in pairwise(available)
    }
    generators = _generators(served.bundle, cases, states, n_relevant, allow_repeats=allow_repeats, progress=progress)
    main = f"ndcg@{max(ks)}"
    return {
        "rungs": rungs,
        "differences": differences,
        "generators": generators,
        "split": {"questions": len(cases), "allow_repeats": allow_repeats, **(split or {})},
        "order": sorted(rungs, key=lambda name: float(rungs[name][main]["mean"])),
    }


def _ask(
    served: Served,
    cases: Cases,
    states: Sequence[UserState],
    tier: Tier,
    limit: int,
    *,
    allow_repeats: bool,
    progress: Progress,
) -> Lists:
    rows, reached = [], 0
    for i, state in enumerate(states):
        request = Request(user_id=str(cases.users[i]), limit=limit, allow_repeats=allow_repeats)
        answer = served.recommend(request, state, float(cases.asked_at_s[i]), tier)
        rows.append(answer.rows)
        reached += answer.tier is tier
        if i % 50 == 0 or i + 1 == len(states):
            progress(f"evaluate {tier.name}", i + 1, len(states))
    return Lists(tuple(rows), reached / max(len(states), 1))


def _generators(
    bundle: Bundle,
    cases: Cases,
    states: Sequence[UserState],
    n_relevant: NDArray[np.int64],
    *,
    allow_repeats: bool,
    progress: Progress,
) -> dict[str, dict[str, float]]:
    """Recall of each generator's allowed candidates at several depths, and of the pool they make together."""
    names = [generator.name for generator in bundle.generators]
    found = {name: np.zeros((len(cases), len(GENERATOR_DEPTHS))) for name in names}
    union = np.zeros(len(cases))
    union_rows = 0
    for i, (state, wanted) in enumerate(zip(states, cases.relevant, strict=True)):
        request = Request(user_id=str(cases.users[i]), limit=20, allow_repeats=allow_repeats)
        query = build_query(bundle, request, state, float(cases.asked_at_s[i]))
        pool = []
        for generator in bundle.generators:
            rows = generator.generate(query, 2 * max(GENERATOR_DEPTHS)).rows
            rows = rows[query.allows(rows)]
            hit = np.isin(rows, wanted)
            found[generator.name][i] = [hit[:depth].sum() for depth in GENERATOR_DEPTHS]
            pool.append(rows[: bundle.limits[generator.name]])
        together = np.unique(np.concatenate(pool))
        union[i] = np.isin(together, wanted).sum()
        union_rows += len(together)
        if i % 50 == 0 or i + 1 == len(cases):
            progress("evaluate generators", i + 1, len(cases))
    figures: dict[str, dict[str, float]] = {
        name: {
            f"recall@{depth}": float((found[name][:, j] / n_relevant).mean())
            for j, depth in enumerate(GENERATOR_DEPTHS)
        }
        for name in names
    }
    figures["union"] = {"recall": float((union / n_relevant).mean()), "rows": union_rows / max(len(cases), 1)}
    return figures
