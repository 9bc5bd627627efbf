"""Log lines for what may happen at every call: written at once, then at intervals, with how often it happened meanwhile.

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
    """Logs each event at most every ten seconds; safe from many threads."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing has been logged.

        Args:
            log: where to.
            clock: monotonic, seconds.
        """
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._last: dict[str, tuple[float, int]] = {}

    def exception(self, event: str, detail: str = "") -> None:
        """Log that something failed, with the error that is being handled.

        Args:
            event: what happened; one of few texts, since each is remembered and limited for itself.
            detail: of this one time, such as an id; not part of what is limited.
        """
        self._write(event, detail, logging.ERROR, trace=True)

    def error(self, event: str, detail: str = "") -> None:
        """Log that something is wrong; arguments as for ``exception``."""
        self._write(event, detail, logging.ERROR, trace=False)

    def warning(self, event: str, detail: str = "") -> None:
        """Log that something is not right; arguments as for ``exception``."""
        self._write(event, detail, logging.WARNING, trace=False)

    def _write(self, event: str, detail: str, level: int, *, trace: bool) -> None:
        now_s = self._clock()
        with self._lock:
            last_s, omitted = self._last.get(event, (now_s - EVERY_S, 0))
            due = now_s - last_s >= EVERY_S
            self._last[event] = (now_s, 0) if due else (last_s, omitted + 1)
        if due:
            again = f" ({omitted} more since the last such line)" if omitted else ""
            self._log.log(level, "%s%s%s", event, f"; {detail}" if detail else "", again, exc_info=trace)
