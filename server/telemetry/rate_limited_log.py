"""Log lines for what may happen at every call: said at once, then seldom, with how often it happened meanwhile.

A line a request would be a second outage.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY_S = 10.0


class RateLimitedLog:
    """Says each thing at most every ten seconds; safe from many threads."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing has been said.

        Args:
            log: where to.
            clock: monotonic, seconds.
        """
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._said: dict[str, tuple[float, int]] = {}

    def exception(self, what: str) -> None:
        """Say that something failed, with the error that is being handled."""
        self._tell(what, logging.ERROR, trace=True)

    def error(self, what: str) -> None:
        """Say that something is wrong."""
        self._tell(what, logging.ERROR, trace=False)

    def _tell(self, what: str, level: int, *, trace: bool) -> None:
        now_s = self._clock()
        with self._lock:
            told_s, missed = self._said.get(what, (now_s - EVERY_S, 0))
            due = now_s - told_s >= EVERY_S
            self._said[what] = (now_s, 0) if due else (told_s, missed + 1)
        if due:
            again = f" ({missed} times more since last told)" if missed else ""
            self._log.log(level, "%s%s", what, again, exc_info=trace)
