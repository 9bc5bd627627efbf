"""Evaluation cases put through the code that serves, and the lists that come back, as arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from core.query import Request
from core.types import NO_ROW, Tier
from offline.metrics import LONGEST, hit_matrix
from offline.progress import report_progress, silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from core.bundle import Bundle
    from core.types import Mask, Recommendation, Rows, UserState
    from offline.progress import Progress
    from offline.split.cases import Cases

RUNGS = (Tier.POPULARITY, Tier.CF, Tier.DEEP)


class ServedBundle(Protocol):
    """The serving code as evaluation drives it: no network and no store, but the same pipeline."""

    bundle: Bundle

    def recommend(self, request: Request, user: UserState, now_s: float, max_tier: Tier) -> Recommendation:
        """What the pipeline recommends, without a deadline, from ``max_tier`` or the best rung below."""
        ...

    def warm_up(self) -> None:
        """Learn what scoring costs here, as a server does before it calls itself ready."""
        ...

    def recommend_within(self, request: Request, user: UserState, now_s: float, budget_s: float) -> Recommendation:
        """The best that the pipeline recommends within ``budget_s`` seconds of real time, to be called after ``warm_up``."""
        ...

    def restricted(self, available: Mask) -> ServedBundle:
        """The same bundle with a catalogue in which only ``available`` [items] can be had; closed with this one."""
        ...


@dataclass(frozen=True)
class EvaluationSet:
    """Cases, what the store would know of their users, and whether what they had may come back."""

    cases: Cases
    states: Sequence[UserState]
    allow_repeats: bool = False

    def __len__(self) -> int:
        """Number of cases."""
        return len(self.cases)

    @cached_property
    def n_relevant(self) -> NDArray[np.int64]:
        """[q] relevant rows of each case."""
        return np.array([len(rows) for rows in self.cases.relevant], np.int64)

    def take(self, index: NDArray[np.int64]) -> EvaluationSet:
        """The cases at ``index``, in that order."""
        cases = self.cases
        part = replace(
            cases,
            users=cases.users[index],
            ends=cases.ends[index],
            request_time_s=cases.request_time_s[index],
            relevant=tuple(cases.relevant[i] for i in index),
        )
        return EvaluationSet(part, [self.states[i] for i in index], self.allow_repeats)

    def sample(self, size: int) -> EvaluationSet:
        """At most ``size`` of the cases, always the same ones, in their order."""
        if size >= len(self):
            return self
        return self.take(np.sort(np.random.default_rng(0).choice(len(self), size, replace=False)))

    def with_relevant(self, relevant: Sequence[Rows]) -> EvaluationSet:
        """The same cases with other relevant rows; those left without any are dropped."""
        index = np.array([i for i, rows in enumerate(relevant) if len(rows)], np.int64)
        kept = self.take(index)
        return replace(kept, cases=replace(kept.cases, relevant=tuple(relevant[i] for i in index)))

    def request(self, i: int, limit: int = LONGEST, **more: Any) -> Request:
        """The request of case ``i``; ``more`` are further fields of it."""
        user = str(self.cases.users[i])
        return Request(user_id=user, limit=limit, allow_repeats=self.allow_repeats, **more)


@dataclass(frozen=True)
class RecommendedLists:
    """The lists that one rung recommended.

    Attributes:
        rows: [q, k] best first, -1 after the end of a short list.

        hits: [q, k] which places are relevant.

        reached: share of lists that really came from this rung, not from one below.
    """

    rows: NDArray[np.int32]
    hits: NDArray[np.bool_]
    reached: float


def available_rungs(served: ServedBundle) -> tuple[Tier, ...]:
    """The rungs this bundle has, lowest first."""
    return tuple(tier for tier in RUNGS if tier is not Tier.DEEP or served.bundle.scorer is not None)


def recommend_all(
    served: ServedBundle,
    test_set: EvaluationSet,
    tier: Tier,
    *,
    limit: int = LONGEST,
    requests: Sequence[Request] | None = None,
    what: str = "evaluate",
    progress: Progress = silent,
) -> RecommendedLists:
    """The list of one rung for every case; ``requests`` replace the plain ones."""
    rows = np.full((len(test_set), limit), NO_ROW, np.int32)
    reached = 0
    for i, state in enumerate(test_set.states):
        request = test_set.request(i, limit) if requests is None else requests[i]
        found = served.recommend(request, state, float(test_set.cases.request_time_s[i]), tier)
        rows[i, : len(found.rows)] = found.rows
        reached += found.tier is tier
        report_progress(progress, f"{what} {tier.name}", i, len(test_set))
    return RecommendedLists(rows, hit_matrix(rows, test_set.cases.relevant, limit), reached / max(len(test_set), 1))
