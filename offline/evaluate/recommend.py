"""Questions as they are put to the code that serves, and its answers as arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from core.query import Request
from core.types import Tier
from offline.metrics import LONGEST, hit_matrix
from offline.progress import silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from core.bundle import Bundle
    from core.types import Mask, Recommendation, Rows, UserState
    from offline.progress import Progress
    from offline.split.cases import Cases

RUNGS = (Tier.POPULARITY, Tier.CF, Tier.DEEP)
NO_ROW = -1
_TELL_EVERY = 50


class Served(Protocol):
    """The serving code as evaluation drives it: no network and no store, but the same pipeline."""

    bundle: Bundle

    def recommend(self, request: Request, user: UserState, now_s: float, max_tier: Tier) -> Recommendation:
        """The answer of the pipeline, without a deadline, from ``max_tier`` or the best rung below."""
        ...

    def warm_up(self) -> None:
        """Learn what scoring costs here, as a server does before it calls itself ready."""
        ...

    def recommend_within(self, request: Request, user: UserState, now_s: float, budget_s: float) -> Recommendation:
        """The best answer within ``budget_s`` seconds of real time, to be called after ``warm_up``."""
        ...

    def restricted(self, available: Mask) -> Served:
        """The same bundle with a catalogue in which only ``available`` [items] can be had; closed with this one."""
        ...


@dataclass(frozen=True)
class Questions:
    """Cases, what the store would know of their users, and whether what they had may come back."""

    cases: Cases
    states: Sequence[UserState]
    allow_repeats: bool = False

    def __len__(self) -> int:
        """Number of questions."""
        return len(self.cases)

    @cached_property
    def n_relevant(self) -> NDArray[np.int64]:
        """[q] relevant rows of each question."""
        return np.array([len(rows) for rows in self.cases.relevant], np.int64)

    def take(self, index: NDArray[np.int64]) -> Questions:
        """The questions at ``index``, in that order."""
        cases = self.cases
        part = replace(
            cases,
            users=cases.users[index],
            ends=cases.ends[index],
            asked_at_s=cases.asked_at_s[index],
            relevant=tuple(cases.relevant[i] for i in index),
        )
        return Questions(part, [self.states[i] for i in index], self.allow_repeats)

    def sample(self, size: int) -> Questions:
        """At most ``size`` of the questions, always the same ones, in their order."""
        if size >= len(self):
            return self
        return self.take(np.sort(np.random.default_rng(0).choice(len(self), size, replace=False)))

    def answered_by(self, relevant: Sequence[Rows]) -> Questions:
        """The same questions with other relevant rows; those left without any are no question."""
        index = np.array([i for i, rows in enumerate(relevant) if len(rows)], np.int64)
        kept = self.take(index)
        return replace(kept, cases=replace(kept.cases, relevant=tuple(relevant[i] for i in index)))

    def request(self, i: int, limit: int = LONGEST, **more: Any) -> Request:
        """What question ``i`` asks; ``more`` are further fields of the request."""
        user = str(self.cases.users[i])
        return Request(user_id=user, limit=limit, allow_repeats=self.allow_repeats, **more)


@dataclass(frozen=True)
class Answers:
    """What one rung answered.

    Attributes:
        rows: [q, k] best first, -1 after the end of a short list.

        hits: [q, k] which places are relevant.

        reached: share of answers that really came from this rung, not from one below.
    """

    rows: NDArray[np.int32]
    hits: NDArray[np.bool_]
    reached: float


def available_rungs(served: Served) -> tuple[Tier, ...]:
    """The rungs this bundle has, lowest first."""
    return tuple(tier for tier in RUNGS if tier is not Tier.DEEP or served.bundle.scorer is not None)


def ask(
    served: Served,
    questions: Questions,
    tier: Tier,
    *,
    limit: int = LONGEST,
    requests: Sequence[Request] | None = None,
    what: str = "evaluate",
    progress: Progress = silent,
) -> Answers:
    """Put every question to one rung; ``requests`` replace the plain ones."""
    rows = np.full((len(questions), limit), NO_ROW, np.int32)
    reached = 0
    for i, state in enumerate(questions.states):
        request = questions.request(i, limit) if requests is None else requests[i]
        answer = served.recommend(request, state, float(questions.cases.asked_at_s[i]), tier)
        rows[i, : len(answer.rows)] = answer.rows
        reached += answer.tier is tier
        tell(progress, f"{what} {tier.name}", i, len(questions))
    return Answers(rows, hit_matrix(rows, questions.cases.relevant, limit), reached / max(len(questions), 1))


def tell(progress: Progress, what: str, i: int, total: int) -> None:
    """Tell of part ``i`` of ``total``, now and then."""
    if i % _TELL_EVERY == 0 or i + 1 == total:
        progress(what, i + 1, total)
