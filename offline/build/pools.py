"""Questions put to the generators of a bundle in memory: the pools that choices and the ranker learn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from candidate_gen.merge import merge
from core.query import Request, build_query
from offline.progress import silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.bundle import Bundle
    from core.types import Mask, Pool, Query, UserState
    from offline.progress import Progress
    from offline.split.cases import Cases

LIST_LENGTH = 20


@dataclass(frozen=True)
class Question:
    """One case with the pool its bundle makes for it.

    Attributes:
        labels: [n] whether the user turned to the row afterwards.

        n_relevant: how many rows the user turned to, in the pool or not.
    """

    query: Query
    pool: Pool
    labels: Mask
    n_relevant: int


def queries(bundle: Bundle, cases: Cases, states: Sequence[UserState], *, allow_repeats: bool) -> list[Query]:
    """What the serving code would ask the generators, one per case."""
    return [
        build_query(
            bundle, Request(user_id=str(user), limit=LIST_LENGTH, allow_repeats=allow_repeats), state, float(asked_at_s)
        )
        for user, state, asked_at_s in zip(cases.users, states, cases.asked_at_s, strict=True)
    ]


def questions(
    bundle: Bundle, asked: Sequence[Query], cases: Cases, *, what: str, progress: Progress = silent
) -> list[Question]:
    """The pools of all cases whose user has a history; the others are answered by popularity anyway."""
    sources = tuple(generator.name for generator in bundle.generators)
    found = []
    for i, query in enumerate(asked):
        if i % 50 == 0 or i + 1 == len(asked):
            progress(what, i + 1, len(asked))
        if not len(query.history):
            continue
        candidates = [generator.generate(query, bundle.limits[generator.name]) for generator in bundle.generators]
        pool = merge(candidates, query, sources, bundle.prior)
        labels = np.isin(pool.rows, cases.relevant[i])
        found.append(Question(query, pool, labels, len(cases.relevant[i])))
    return found
