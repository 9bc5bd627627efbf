"""How many candidates to ask of each generator: as many as pay for the room they take in the pool.

Greedy: more candidates, as many as pay best, are given to the generator that finds most with them per row that no other
brings already.
A pool of a given size finds more so than with any fixed share, since sources overlap differently in different data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from core.bundle import Bundle
    from core.types import Query, Rows

POOL_ROWS = 500
"""Distinct rows of a pool, about: what a request can score in its time."""
DEPTH = 500
"""Candidates of one generator that are looked at, at most."""
STEP = 25
FLOORS: Mapping[str, int] = {"content": 25, "popularity": 25}
"""Candidates that a generator is asked for however little they found: what nobody had yet is found by its text alone,
and a window of the past, with hardly an answer of that kind, does not show what that is worth; and popularity has
candidates where all others have none."""
SILENT = frozenset({"buy_again"})
"""Generators that propose nothing to the questions that limits are chosen on."""


def choose_limits(
    ranked: Mapping[str, Sequence[Rows]],
    relevant: Sequence[Rows],
    *,
    rows: int = POOL_ROWS,
    floors: Mapping[str, int] = FLOORS,
) -> dict[str, int]:
    """Share out the pool by what each generator adds on questions with known answers.

    Args:
        ranked: generator -> its list of allowed rows for each question, best first.

        relevant: the answers of each question, never empty.

        rows: distinct rows of a pool, on the mean over the questions.

        floors: generator -> candidates that it is asked for anyhow.

    Returns:
        Generator -> limit, a multiple of ``STEP`` or the floor; 0 = it found nothing that others did not find cheaper.
    """
    names = list(ranked)
    limits = {name: min(floors.get(name, 0), DEPTH) for name in names}
    if not relevant:
        return limits
    rank, worth = _ranks([ranked[name] for name in names], relevant)
    inside = np.zeros(len(worth), np.bool_)
    for column, name in enumerate(names):
        inside |= rank[:, column] < limits[name]
    room = rows * len(relevant)
    while np.count_nonzero(inside) < room:
        best, best_rate, reach = 0, 0.0, 0
        for column in range(len(names)):
            new = ~inside & (rank[:, column] < DEPTH)
            added = np.bincount(rank[new, column], minlength=DEPTH).cumsum()[STEP - 1 :: STEP]
            gained = np.bincount(rank[new, column], worth[new], minlength=DEPTH).cumsum()[STEP - 1 :: STEP]
            rate = np.divide(gained, added, out=np.zeros(len(added)), where=added > 0)
            rate[1:][np.count_nonzero(inside) + added[:-1] >= room] = 0  # the pool is full before it gets there
            if rate.max() > best_rate:
                best, best_rate, reach = column, float(rate.max()), STEP * (int(rate.argmax()) + 1)
        if not reach:
            break
        limits[names[best]] = reach
        inside |= rank[:, best] < reach
    return limits


def limits_of(bundle: Bundle, asked: Sequence[Query], relevant: Sequence[Rows]) -> dict[str, int]:
    """Limits of a bundle's generators by what they find for the questions of users with history."""
    index = [i for i, query in enumerate(asked) if len(query.history)]
    ranked = {
        generator.name: [generator.generate(asked[i], DEPTH).rows for i in index]
        for generator in bundle.generators
        if generator.name not in SILENT
    }
    return choose_limits(ranked, [relevant[i] for i in index])


def _ranks(ranked: Sequence[Sequence[Rows]], relevant: Sequence[Rows]) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """For every row that anybody proposed to a question: [m, generators] its places, and [m] what it is worth.

    A generator that does not propose the row has it at place ``DEPTH``; a right row is worth its share of the answers.
    """
    ranks, worths = [], []
    for question, answers in enumerate(relevant):
        lists = [lists_of[question][:DEPTH] for lists_of in ranked]
        rows = np.unique(np.concatenate(lists))
        rank = np.full((len(rows), len(lists)), DEPTH, np.int16)
        for column, rows_of in enumerate(lists):
            rank[rows.searchsorted(rows_of), column] = np.arange(len(rows_of))
        ranks.append(rank)
        worths.append(np.isin(rows, answers) / len(answers))
    return np.concatenate(ranks), np.concatenate(worths)
