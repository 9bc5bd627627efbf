"""A run second by second."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from core.types import Tier

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from loadtests.history import History, Run

OUTCOMES = (*(tier.name for tier in (Tier.POPULARITY, Tier.CF, Tier.PRECOMPUTED, Tier.DEEP)), "shed", "failed")
"""What may become of a call: a tier answers in time, it is refused, or anything else, which counts as failed."""


@dataclass(frozen=True)
class Series:
    """Figures of each second; ``user`` and ``other`` (prefetch and batch) apart, ``all`` together.

    Attributes:
        p50_ms: [s] of answers; NaN in seconds without any.

        p99_ms: [s] the same.

        calls: kind -> [s] calls meant to be sent.

        outcomes: kind -> outcome -> [s] calls.
    """

    p50_ms: NDArray[np.float64]
    p99_ms: NDArray[np.float64]
    calls: Mapping[str, NDArray[np.int64]]
    outcomes: Mapping[str, Mapping[str, NDArray[np.int64]]]

    def __len__(self) -> int:
        """Seconds."""
        return len(self.p50_ms)


def of_run(run: Run) -> Series:
    """The seconds of a run; the last one may be a part of one."""
    seconds = ceil(run.spans[-1].end_s)
    history = run.history
    at = history.meant_s.astype(np.int64)
    took = [history.took_ms[history.answered & (at == second)] for second in range(seconds)]
    p50, p99 = (np.array([np.quantile(t, q) if len(t) else np.nan for t in took]) for q in (0.5, 0.99))
    kinds = {
        "user": history.of_criticality("user"),
        "other": history.of_criticality("prefetch", "batch"),
        "all": history,
    }
    return Series(
        p50,
        p99,
        {kind: _count(calls, np.ones(len(calls), np.bool_), seconds) for kind, calls in kinds.items()},
        {
            kind: {name: _count(calls, outcomes(calls, run.deadline_ms) == name, seconds) for name in OUTCOMES}
            for kind, calls in kinds.items()
        },
    )


def outcomes(calls: History, deadline_ms: float) -> NDArray[np.str_]:
    """[n] one of ``OUTCOMES`` for each call."""
    names = np.array(["", *(tier.name for tier in Tier)])[calls.tier]
    found: NDArray[np.str_] = np.where(calls.in_time(deadline_ms), names, np.where(calls.shed, "shed", "failed"))
    return found


def _count(calls: History, mask: NDArray[np.bool_], seconds: int) -> NDArray[np.int64]:
    return np.bincount(calls.meant_s[mask].astype(np.int64), minlength=seconds)[:seconds]
