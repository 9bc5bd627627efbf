"""How a build finds the parameters of its lower rungs: a short coordinate search on the validation window.

The grid comes from a study on a gift shop's orders and on film ratings: two very different starts, one for data
whose order speaks (ratings, views) and one for data that comes in baskets, then one parameter at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np

from candidate_gen.cooccurrence import BASKETS, SEQUENCES
from offline.metrics import hit_matrix, per_user
from offline.pools import LIST_LENGTH, questions
from offline.progress import silent
from ranking.cf_scorer import CfParams, CfScorer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from core.bundle import Bundle
    from core.types import Query, Rows
    from offline.pools import Question
    from offline.progress import Progress
    from offline.split import Cases
    from ranking.sequences import Sequences

HALF_LIVES_DAYS: tuple[float | None, ...] = (3.0, 7.0, 14.0, 30.0, 90.0, None)
TREND_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
STEPS: tuple[Mapping[str, Any], ...] = (
    {"target_power": 0.2},
    {"target_power": 0.4},
    {"target_power": 0.8},
    {"half_life_days": 30.0, "count_half_life_days": 60.0},
    {"half_life_days": 120.0, "count_half_life_days": 180.0},
    {"half_life_days": None, "count_half_life_days": None},
    {"basket_power": 0.0},
    {"basket_power": 1.0},
    {"window": 3},
    {"source_power": 0.6},
    {"decay": 0.7, "history": 100},
    {"neighbours": 200},
)


@dataclass
class Choice:
    """What was chosen.

    Attributes:
        co_occurrence: parameters of the generator.

        trend: ``half_life_days`` and ``first_only`` of popularity.

        trend_weight: of the CF scorer.

        untried: steps of the search that its time did not allow.
    """

    co_occurrence: dict[str, Any]
    trend: dict[str, Any]
    trend_weight: float
    untried: int = 0


def cf_params(trend: Mapping[str, Any], trend_weight: float) -> CfParams:
    """Parameters of the CF scorer for a trend."""
    return CfParams.of(
        {
            "sources": {"co_occurrence": {"weight": 1.0}},
            "trend_weight": trend_weight,
            "trend_half_life_days": trend["half_life_days"],
            "trend_first_only": trend["first_only"],
        }
    )


def similar_params(trend: Mapping[str, Any]) -> CfParams:
    """Parameters of the scorer of ``SimilarItems``: items that go with one item or are like it.

    Not chosen on data: events do not say which of two items goes better with a third. The trend only decides between
    items about which nothing else is known.
    """
    return CfParams.of(
        {
            "sources": {"co_occurrence": {"weight": 1.0}, "content": {"weight": 0.5}},
            "trend_weight": 0.1,
            "trend_half_life_days": trend["half_life_days"],
            "trend_first_only": trend["first_only"],
        }
    )


def choose_trend(
    asked: Sequence[Query], cases: Cases, sequences: Sequences, n_items: int, as_of_s: float
) -> dict[str, Any]:
    """The half-life, and whether only a user's first event with an item counts, whose list is best."""
    best: tuple[float, dict[str, Any]] | None = None
    for first_only in (True, False):
        for half_life in HALF_LIVES_DAYS:
            trend = sequences.trend(n_items, as_of_s, half_life, first_only=first_only)
            order = np.argsort(-trend, kind="stable").astype(np.int32)
            figure = ndcg([_first_allowed(query, order) for query in asked], cases.relevant)
            if best is None or figure > best[0]:
                best = (figure, {"half_life_days": half_life, "first_only": first_only})
    if best is None:
        raise ValueError("no half-lives to choose from")
    return best[1]


def choose(
    build: Callable[[dict[str, Any]], Bundle],
    asked: Sequence[Query],
    cases: Cases,
    sequences: Sequences,
    as_of_s: float,
    *,
    trend: dict[str, Any],
    budget_s: float,
    progress: Progress = silent,
) -> Choice:
    """Search the co-occurrence kernel and the trend's weight.

    Args:
        build: a bundle in memory with the co-occurrence kernel of these parameters, and popularity.

        asked: one query per case.

        cases: of the validation window.

        sequences: what the validation window knows.

        as_of_s: the moment of that window's cut.

        trend: what ``choose_trend`` chose.

        budget_s: no new trial starts after so many seconds.

        progress: told after each trial.
    """
    ends_at = monotonic() + budget_s
    choice = Choice({}, trend, 0.0)
    best = -1.0
    n_items = len(asked[0].catalogue) if asked else 0
    scorers = {w: CfScorer.build(sequences, n_items, as_of_s, cf_params(trend, w)) for w in TREND_WEIGHTS}

    def attempt(params: Mapping[str, Any]) -> None:
        nonlocal best
        pools = questions(build(dict(params)), asked, cases, what="choose: pools")
        for weight, scorer in scorers.items():
            figure = _scored(pools, scorer)
            if figure > best:
                best, choice.co_occurrence, choice.trend_weight = figure, dict(params), weight

    starts = (SEQUENCES, BASKETS)
    for done, start in enumerate(starts, 1):
        attempt(start)
        progress("choose CF parameters", done, len(starts) + len(STEPS), f"NDCG@20 {best:.4f}")
    for done, step in enumerate(STEPS, len(starts) + 1):
        changed = {**choice.co_occurrence, **step}
        if changed != choice.co_occurrence:
            if monotonic() < ends_at:
                attempt(changed)
            else:
                choice.untried += 1
        progress("choose CF parameters", done, len(starts) + len(STEPS), f"NDCG@20 {best:.4f}")
    return choice


def ndcg(lists: Sequence[Rows], relevant: Sequence[Rows]) -> float:
    """Mean NDCG@20."""
    if not lists:
        return 0.0
    counts = np.array([len(rows) for rows in relevant], np.int64)
    figures = per_user(hit_matrix(lists, relevant, LIST_LENGTH), counts, LIST_LENGTH)
    return float(figures[f"ndcg@{LIST_LENGTH}"].mean())


def _scored(pools: Sequence[Question], scorer: CfScorer) -> float:
    hits = np.zeros((len(pools), LIST_LENGTH), np.bool_)
    for i, question in enumerate(pools):
        scores = scorer.score(question.query, question.pool)
        top = np.argsort(-scores, kind="stable")[:LIST_LENGTH]
        hits[i, : len(top)] = question.labels[top]
    if not pools:
        return 0.0
    counts = np.array([question.n_relevant for question in pools], np.int64)
    return float(per_user(hits, counts, LIST_LENGTH)[f"ndcg@{LIST_LENGTH}"].mean())


def _first_allowed(query: Query, order: Rows) -> Rows:
    reach = LIST_LENGTH * 4
    while True:
        allowed = order[:reach][query.allows(order[:reach])]
        if len(allowed) >= LIST_LENGTH or reach >= len(order):
            return allowed[:LIST_LENGTH]
        reach *= 4
