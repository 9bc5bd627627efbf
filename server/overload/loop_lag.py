"""How late the event loop is: the wait that any callback meets before it runs."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY_S = 0.005
"""A tenth of a usual deadline; 200 wake-ups a second cost less than half a percent of a core."""
_FADE = 0.999
"""Of the worst lag, each time: by half in 3.5 s, so that a metric that is read every few seconds shows it."""
_GRAIN_S = 0.001
"""uvloop's timers are good to a millisecond: what is less is no lag."""


class LoopLag:
    """Wakes every few milliseconds and measures how late it is; belongs to one event loop.

    Attributes:
        worst_s: the worst lag, fading by half in 3.5 s: for a metric.
    """

    def __init__(self, observe: Callable[[float], None]) -> None:
        """Begin, on the running loop.

        Args:
            observe: called with each lag, seconds.
        """
        self.worst_s = 0.0
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self._due_s = time.monotonic() + EVERY_S
        self._timer = self._loop.call_later(EVERY_S, self._measure)

    def close(self) -> None:
        """Stop."""
        self._timer.cancel()

    def _measure(self) -> None:
        now_s = time.monotonic()
        lag_s = max(now_s - self._due_s - _GRAIN_S, 0.0)
        self.worst_s = max(lag_s, self.worst_s * _FADE)
        self._observe(lag_s)
        self._due_s = now_s + EVERY_S
        self._timer = self._loop.call_later(EVERY_S, self._measure)
