"""What each generator finds, alone and for the pool that all of them make together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from candidate_gen.merge import merge
from core.query import build_query
from core.types import NO_ROW
from offline.metrics import LONGEST, hit_matrix, intervals, per_user
from offline.progress import report_progress, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from core.bundle import Bundle
    from offline.evaluate.recommended_lists import EvaluationSet
    from offline.progress import Progress

DEPTHS = (50, 100, 200, 500)
OWN_LIST = f"ndcg@{LONGEST}"
UNION = "union"


@dataclass(frozen=True)
class Proposals:
    """Figures of the generators per case, [q] each.

    Attributes:
        alone: generator -> ``recall@50`` and so on, and ``ndcg@20`` of its own list.

        adds: generator -> share of the relevant rows that only it brings into the pool.

        union: ``recall`` of the whole pool, ``recall@50`` and so on in prior order, ``rows``.

        limits: candidates of each generator that the pool takes.
    """

    alone: dict[str, dict[str, NDArray[np.float64]]]
    adds: dict[str, NDArray[np.float64]]
    union: dict[str, NDArray[np.float64]]
    limits: dict[str, int]

    def figures(self) -> dict[str, dict[str, Any]]:
        """Means of everything, and intervals of all but ``rows`` and ``limit``."""
        found: dict[str, dict[str, Any]] = {}
        for name, values in self.alone.items():
            measured = intervals({**values, "adds": self.adds[name]})
            found[name] = {
                **{metric: entry["mean"] for metric, entry in measured.items()},
                "limit": self.limits[name],
                "intervals": measured,
            }
        rows = self.union["rows"]
        measured = intervals({name: values for name, values in self.union.items() if name != "rows"})
        found[UNION] = {
            **{metric: entry["mean"] for metric, entry in measured.items()},
            "rows": float(rows.mean()) if len(rows) else 0.0,
            "intervals": measured,
        }
        return found


def propose(
    bundle: Bundle, test_set: EvaluationSet, *, what: str = "evaluate generators", progress: Progress = silent
) -> Proposals:
    """The deepest list of every generator for every case; the pool takes what its limit allows.

    A depth counts what the generator proposed, allowed or not, as the limits of a bundle do.
    """
    names = [generator.name for generator in bundle.generators]
    q, wanted = len(test_set), test_set.n_relevant
    found = {name: np.zeros((q, len(DEPTHS))) for name in names}
    own = {name: np.full((q, LONGEST), NO_ROW, np.int32) for name in names}
    only = {name: np.zeros(q) for name in names}
    pool_hits, whole, size = np.zeros((q, len(DEPTHS))), np.zeros(q), np.zeros(q)
    for i, (state, relevant) in enumerate(zip(test_set.states, test_set.cases.relevant, strict=True)):
        query = build_query(bundle, test_set.request(i), state, float(test_set.cases.request_time_s[i]))
        pooled = []
        for generator in bundle.generators:
            name, limit = generator.name, bundle.limits[generator.name]
            proposed = generator.generate(query, max(*DEPTHS, limit))
            pooled.append(replace(proposed, rows=proposed.rows[:limit], scores=proposed.scores[:limit]))
            allowed = query.allows(proposed.rows)
            hit = np.isin(proposed.rows, relevant) & allowed
            found[name][i] = [hit[:depth].sum() for depth in DEPTHS]
            first = proposed.rows[allowed][:LONGEST]
            own[name][i, : len(first)] = first
        pool = merge(pooled, query, tuple(names), bundle.prior)
        hit = np.isin(pool.rows, relevant)
        pool_hits[i] = [hit[:depth].sum() for depth in DEPTHS]
        whole[i], size[i] = hit.sum(), len(pool)
        by = np.stack([np.isin(pool.rows[hit], candidates.rows) for candidates in pooled], axis=1)
        alone = by[by.sum(axis=1) == 1].sum(axis=0)
        for name, count in zip(names, alone, strict=True):
            only[name][i] = count
        report_progress(progress, what, i, q)
    return Proposals(
        alone={
            name: {
                **_recalls(found[name], wanted),
                OWN_LIST: per_user(hit_matrix(own[name], test_set.cases.relevant, LONGEST), wanted, LONGEST)[OWN_LIST],
            }
            for name in names
        },
        adds={name: count / wanted for name, count in only.items()},
        union={"recall": whole / wanted, **_recalls(pool_hits, wanted), "rows": size},
        limits={name: bundle.limits[name] for name in names},
    )


def _recalls(found: NDArray[np.float64], wanted: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    return {f"recall@{depth}": found[:, j] / wanted for j, depth in enumerate(DEPTHS)}
