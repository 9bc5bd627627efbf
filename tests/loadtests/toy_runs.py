"""Histories of load runs that one can check in one's head."""

from __future__ import annotations

import numpy as np

from core.types import Tier
from loadtests.history import CRITICALITIES, History, Run
from loadtests.plan import Span
from terrace.v1 import recommendation_pb2 as pb

CAPACITY = 100.0
SHED = 8
LATE = 4


def calls(
    start_s: float,
    seconds: float,
    rate: float,
    *,
    tier: Tier | None = Tier.DEEP,
    took_ms: float = 10.0,
    status: int = 0,
    reason: int = 0,
    who: str = "user",
    known: bool = True,
    late_ms: float = 0.5,
) -> History:
    """Equally spaced calls that all fare alike."""
    n = round(rate * seconds)
    return History(
        meant_s=start_s + np.arange(n) / rate,
        late_ms=np.full(n, late_ms, np.float32),
        took_ms=np.full(n, took_ms, np.float32),
        status=np.full(n, status, np.int8),
        tier=np.full(n, tier or 0, np.int8),
        reason=np.full(n, reason, np.int8),
        who=np.full(n, CRITICALITIES.index(who), np.int8),
        known=np.full(n, known, np.bool_),
    )


def run(*histories: History, spans: tuple[Span, ...]) -> Run:
    """A run of these calls with a capacity of 100 a second and a deadline of 50 ms."""
    columns = {name: np.concatenate([getattr(h, name) for h in histories]) for name in vars(histories[0])}
    return Run("made_up", 50.0, CAPACITY, spans, History(**columns), np.full(3, 0.25), {"items": 9})


def overload() -> Run:
    """10 s at 0.5x; 10 s at 2x where users get POPULARITY and others nothing; 10 s at 0.5x of which 2 s are not yet DEEP."""
    spans = (Span("before", 0, 10, 50), Span("2x", 10, 10, 200), Span("after", 20, 10, 50))
    overloaded = pb.REASON_OVERLOADED
    return run(
        calls(0, 10, 50),
        calls(10, 10, 100, tier=Tier.POPULARITY, took_ms=20, reason=overloaded),
        calls(10, 10, 60, tier=None, took_ms=1, status=SHED, who="prefetch"),
        calls(10, 10, 40, tier=None, took_ms=1, status=SHED, who="batch"),
        calls(20, 2, 50, tier=Tier.CF, reason=overloaded),
        calls(22, 8, 50),
        spans=spans,
    )
