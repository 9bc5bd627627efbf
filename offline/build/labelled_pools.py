"""The pool of each case with a label per row: what the search for parameters and the ranker learn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from candidate_gen.merge import merge
from core.query import Request, build_query
from offline.metrics import LONGEST
from offline.progress import report_progress, silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.bundle import Bundle
    from core.types import Mask, Pool, Query, UserState
    from offline.progress import Progress
    from offline.split.cases import Cases


@dataclass(frozen=True)
class LabelledPool:
    """One case with the pool its bundle makes for it.

    Attributes:
        labels: [n] whether the user turned to the row afterwards.

        n_relevant: how many rows the user turned to, in the pool or not.
    """

    query: Query
    pool: Pool
    labels: Mask
    n_relevant: int


def build_queries(bundle: Bundle, cases: Cases, states: Sequence[UserState], *, allow_repeats: bool) -> list[Query]:
    """The queries that the serving code would send to the generators, one per case."""
    return [
        build_query(
            bundle, Request(user_id=str(user), limit=LONGEST, allow_repeats=allow_repeats), state, float(request_time_s)
        )
        for user, state, request_time_s in zip(cases.users, states, cases.request_time_s, strict=True)
    ]


def labelled_pools(
    bundle: Bundle, queries: Sequence[Query], cases: Cases, *, what: str, progress: Progress = silent
) -> list[LabelledPool]:
    """The pools of all cases whose user has a history; the others get popularity alone."""
    sources = tuple(generator.name for generator in bundle.generators)
    found = []
    for i, query in enumerate(queries):
        report_progress(progress, what, i, len(queries))
        if not len(query.history):
            continue
        candidates = [generator.generate(query, bundle.limits[generator.name]) for generator in bundle.generators]
        pool = merge(candidates, query, sources, bundle.prior)
        labels = np.isin(pool.rows, cases.relevant[i])
        found.append(LabelledPool(query, pool, labels, len(cases.relevant[i])))
    return found
