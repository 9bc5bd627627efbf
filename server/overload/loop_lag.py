"""How late the event loop is: the wait that any callback meets before it runs."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY_S = 0.005
_FORGET = 0.5
_FADE = 0.999
_COARSE_S = 0.001  # timers of uvloop are good to a millisecond


class LoopLag:
    """Wakes every few milliseconds and looks how late it is; belongs to one event loop.

    Attributes:
        worst_s: the worst of late, fading by half in 3.5 s: what a metric shows.
    """

    def __init__(self, told: Callable[[float], None]) -> None:
        """Begin, on the running loop.

        Args:
            told: called with the lag in seconds: the last one, or what is left of a longer one before it.
        """
        self.worst_s = 0.0
        self._told = told
        self._lag_s = 0.0
        self._loop = asyncio.get_running_loop()
        self._due_s = time.monotonic() + EVERY_S
        self._timer = self._loop.call_later(EVERY_S, self._look)

    def close(self) -> None:
        """Stop."""
        self._timer.cancel()

    def _look(self) -> None:
        now_s = time.monotonic()
        lag_s = max(now_s - self._due_s - _COARSE_S, 0.0)
        self._lag_s = max(lag_s, self._lag_s * _FORGET)
        self.worst_s = max(lag_s, self.worst_s * _FADE)
        self._told(self._lag_s)
        self._due_s = now_s + EVERY_S
        self._timer = self._loop.call_later(EVERY_S, self._look)
