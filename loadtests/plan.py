"""The phases of a load scenario, and when each of its users calls."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

DEADLINE_MS = 50.0
"""Of every call, in both forms: a page cannot wait longer because a server got slower."""
USERS_ONLY: Mapping[str, float] = {"user": 1.0}
MIXED: Mapping[str, float] = {"user": 0.5, "prefetch": 0.3, "batch": 0.2}
PACE_S = 1.0
"""How often one user calls at the highest load of a run; several deadlines, so that a call has ended before the next."""
_JITTER = 0.9


@dataclass(frozen=True)
class Phase:
    """Some seconds of a run.

    Attributes:
        load: calls offered, as a multiple of the capacity that was measured just before.

        seconds: how long.

        short: how long in a short run.

        fault: what is broken meanwhile (``loadtests.broken.FAULTS``); empty for nothing.

        cold: share of calls for users whom nobody has seen before.
    """

    name: str
    load: float
    seconds: float
    short: float
    fault: str = ""
    cold: float = 0.0


@dataclass(frozen=True)
class Span:
    """A phase as it was run.

    Attributes:
        start_s: seconds since the run began.

        rate: calls a second.
    """

    name: str
    start_s: float
    seconds: float
    rate: float
    fault: str = ""
    cold: float = 0.0

    @property
    def end_s(self) -> float:
        """Seconds since the run began."""
        return self.start_s + self.seconds


def timeline(phases: Sequence[Phase], capacity: float, *, short: bool) -> list[Span]:
    """The phases one after the other, with the rates that ``capacity`` (DEEP answers a second) makes of their loads."""
    spans: list[Span] = []
    for phase in phases:
        start_s = spans[-1].end_s if spans else 0.0
        seconds = phase.short if short else phase.seconds
        spans.append(Span(phase.name, start_s, seconds, phase.load * capacity, phase.fault, phase.cold))
    return spans


def users_for(spans: Sequence[Span]) -> int:
    """How many users it takes for none to call more often than every ``PACE_S``."""
    return ceil(max(span.rate for span in spans) * PACE_S)


def moments(spans: Sequence[Span], n_users: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """When one user of ``n_users`` means to call, seconds since the run began, rising.

    A constant throughput with jitter: one call in each interval of ``n_users / rate``, at a random place in it. All users
    together arrive nearly as a Poisson process does; what the server does changes none of it (an open loop).
    """
    found = []
    for span in spans:
        interval_s = n_users / span.rate
        turns = np.arange(-1, ceil(span.seconds / interval_s) + 1)
        at_s = (rng.random() + turns + _JITTER * rng.random(len(turns))) * interval_s
        found.append(span.start_s + at_s[(at_s >= 0) & (at_s < span.seconds)])
    return np.concatenate(found)


def to_json(spans: Sequence[Span]) -> list[dict[str, Any]]:
    """For the process that calls, and for the report."""
    return [vars(span) for span in spans]
