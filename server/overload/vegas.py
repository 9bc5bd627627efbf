"""How many calls may be in flight: the arithmetic of a Vegas limit, apart from its enforcement.

The idea is TCP Vegas (Brakmo, O'Malley, Peterson: "TCP Vegas: New Techniques for Congestion Detection
and Avoidance", SIGCOMM 1994); the laws are those of ``VegasLimit`` in Netflix' concurrency-limits.
"""

from __future__ import annotations

import math
import random
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_PROBE_WINDOWS = 30


class Vegas:
    """A limit that follows the queue which the times of calls show; belongs to one event loop.

    The queue is ``limit * (1 - rtt_noload / rtt)``; once per window a short one lets the limit grow and
    a long one, or a drop, makes it shrink. The ``rtt`` of a window is the median of its calls: on a busy
    machine single calls take many times their share, and the minimum gets smaller with the number of
    calls, so that windows could not be compared.

    ``rtt_noload`` is the smallest ``rtt`` of a window. It is learnt at first, and anew from time to time,
    from quiet windows only: those whose median call found at most half of ``lowest`` in flight, itself
    included. Calls in flight stand at the limit under overload, so that queueing is never learnt as
    normal however long it lasts; and without a quiet window yet the limit does not grow.

    Attributes:
        limit: a call may be admitted while fewer than this are in flight.
    """

    def __init__(
        self,
        *,
        initial: float,
        lowest: float,
        highest: float,
        smoothing: float = 1.0,
        window_s: float = 0.1,
        min_samples: int = 10,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        """Start without a sample.

        Args:
            initial: the limit to start from.
            lowest: bound of the limit, >= 1; give twice the calls that can be served at once.
            highest: bound of the limit.
            smoothing: share of a change that is made at once, above 0 and up to 1.
            window_s: shortest time between changes, seconds.
            min_samples: fewest calls between changes.
            clock: monotonic, seconds.
            rng: uniform in [0, 1).

        Raises:
            ValueError: a number is out of its bounds.
        """
        if not (1 <= lowest <= initial <= highest and 0 < smoothing <= 1 and window_s >= 0 and min_samples >= 1):
            raise ValueError(f"out of bounds: {initial=} {lowest=} {highest=} {smoothing=} {window_s=} {min_samples=}")
        self.limit = initial
        self._lowest, self._highest = lowest, highest
        self._quiet = max(1.0, lowest / 2)
        self._smoothing, self._window_s, self._min_samples = smoothing, window_s, min_samples
        self._clock, self._rng = clock, rng
        self._noload_s = 0.0
        self._windows_to_probe = 0.0
        self._rtts_s: list[float] = []
        self._in_flight: list[int] = []
        self._dropped = False
        self._opened_s = 0.0

    def observe(self, rtt_s: float, in_flight: int, *, dropped: bool = False) -> None:
        """Learn from a call that ended.

        Args:
            rtt_s: from admission to the end, seconds, > 0; of no matter when ``dropped``.
            in_flight: calls in flight when it was admitted, itself included.
            dropped: our own deadline cut it off. Calls whose caller went away are not to be told.
        """
        now_s = self._clock()
        if not self._in_flight:
            self._opened_s = now_s
        self._in_flight.append(in_flight)
        if dropped:
            self._dropped = True
        else:
            self._rtts_s.append(rtt_s)
        if len(self._in_flight) >= self._min_samples and now_s - self._opened_s >= self._window_s:
            self.limit += self._smoothing * (min(max(self._wanted(), self._lowest), self._highest) - self.limit)
            self._rtts_s, self._in_flight, self._dropped = [], [], False

    def _wanted(self) -> float:
        """The limit that the window asks for."""
        limit, step = self.limit, max(1.0, math.log10(self.limit))
        self._windows_to_probe -= 1
        if self._dropped:
            return limit - step
        rtt_s = sorted(self._rtts_s)[len(self._rtts_s) // 2]
        quiet = sorted(self._in_flight)[len(self._in_flight) // 2] <= self._quiet
        if quiet and self._windows_to_probe <= 0:
            self._noload_s = rtt_s
            self._windows_to_probe = _PROBE_WINDOWS * limit * (0.5 + 0.5 * self._rng())
        self._noload_s = min(self._noload_s, rtt_s)  # 0 while nothing is known
        if max(self._in_flight) * 2 < limit or not self._noload_s:
            return limit
        queue = math.ceil(limit * (1 - self._noload_s / rtt_s))
        if queue <= step:
            return limit + 6 * step
        if queue < 3 * step:
            return limit + step
        if queue > 6 * step:
            return limit - step
        return limit
