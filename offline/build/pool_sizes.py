"""How many candidates each generator brings into the pool: as many as are worth the room they take.

Greedy: the next candidates go to the generator that finds most relevant items with them per row that no other generator
brings already. A pool of a given size finds more that way than with fixed shares, since sources overlap differently in
different data.
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
"""Least pool size of a generator, however little it finds. Items without events are found by their text alone, and a window
of the past, where hardly any of them is relevant, does not show what that is worth; popularity has candidates where
all others have none."""
NOT_CHOSEN = frozenset({"buy_again"})
"""Generators whose pool size is not chosen: they propose nothing for cases of new items only."""


def choose_pool_sizes(
    ranked: Mapping[str, Sequence[Rows]],
    relevant: Sequence[Rows],
    *,
    rows: int = POOL_ROWS,
    floors: Mapping[str, int] = FLOORS,
) -> dict[str, int]:
    """Divide the pool among generators by the relevant items that each adds.

    Args:
        ranked: generator -> its list of allowed rows for each case, best first.

        relevant: the relevant rows of each case, never empty.

        rows: distinct rows of a pool, on the mean over the cases.

        floors: generator -> its least pool size.

    Returns:
        Generator -> pool size, a multiple of ``STEP`` or the floor; 0 = it found nothing that others did not find cheaper.
    """
    names = list(ranked)
    sizes = {name: min(floors.get(name, 0), DEPTH) for name in names}
    if not relevant:
        return sizes
    rank, gain = _ranks([ranked[name] for name in names], relevant)
    inside = np.zeros(len(gain), np.bool_)
    for column, name in enumerate(names):
        inside |= rank[:, column] < sizes[name]
    room = rows * len(relevant)
    while np.count_nonzero(inside) < room:
        best, best_rate, best_size = 0, 0.0, 0
        for column in range(len(names)):
            new = ~inside & (rank[:, column] < DEPTH)
            added = np.bincount(rank[new, column], minlength=DEPTH).cumsum()[STEP - 1 :: STEP]
            gained = np.bincount(rank[new, column], gain[new], minlength=DEPTH).cumsum()[STEP - 1 :: STEP]
            rate = np.divide(gained, added, out=np.zeros(len(added)), where=added > 0)
            rate[1:][np.count_nonzero(inside) + added[:-1] >= room] = 0  # the pool is full before it gets there
            if rate.max() > best_rate:
                best, best_rate, best_size = column, float(rate.max()), STEP * (int(rate.argmax()) + 1)
        if not best_size:
            break
        sizes[names[best]] = best_size
        inside |= rank[:, best] < best_size
    return sizes


def pool_sizes_of(bundle: Bundle, queries: Sequence[Query], relevant: Sequence[Rows]) -> dict[str, int]:
    """Pool sizes of a bundle's generators by what they find for users with history."""
    index = [i for i, query in enumerate(queries) if len(query.history)]
    ranked = {
        generator.name: [generator.generate(queries[i], DEPTH).rows for i in index]
        for generator in bundle.generators
        if generator.name not in NOT_CHOSEN
    }
    return choose_pool_sizes(ranked, [relevant[i] for i in index])


def _ranks(ranked: Sequence[Sequence[Rows]], relevant: Sequence[Rows]) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """For every row that a generator proposed in a case: [m, generators] its ranks, and [m] its gain.

    A generator that does not propose the row has it at rank ``DEPTH``; the gain of a relevant row is one over the number
    of relevant rows of its case, that of others 0.
    """
    ranks, gains = [], []
    for case, wanted in enumerate(relevant):
        lists = [lists_of[case][:DEPTH] for lists_of in ranked]
        rows = np.unique(np.concatenate(lists))
        rank = np.full((len(rows), len(lists)), DEPTH, np.int16)
        for column, rows_of in enumerate(lists):
            rank[rows.searchsorted(rows_of), column] = np.arange(len(rows_of))
        ranks.append(rank)
        gains.append(np.isin(rows, wanted) / len(wanted))
    return np.concatenate(ranks), np.concatenate(gains)
