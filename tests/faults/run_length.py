"""How long fault tests last. Bounds are the same for both lengths: a short test has fewer calls, not looser promises."""

from __future__ import annotations

from dataclasses import dataclass

DEADLINE_MS = 100.0
"""Of calls, where a test names no other."""


@dataclass(frozen=True)
class RunLength:
    """For how long something is kept up.

    Attributes:
        seconds: load of one kind.

        outage_s: a fault after which everything has had time to settle.

        flapping_s: a fault that comes and goes every second.
    """

    seconds: float
    outage_s: float
    flapping_s: float


SHORT = RunLength(seconds=0.5, outage_s=0.5, flapping_s=6.0)
LONG = RunLength(seconds=5.0, outage_s=30.0, flapping_s=60.0)
