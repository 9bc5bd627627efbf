"""Log lines written by a thread of their own, so that a slow or full standard error stops no call."""

from __future__ import annotations

import logging
import queue
import threading
import time
from contextlib import contextmanager
from logging.handlers import QueueHandler
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LINES_WAITING = 1000
REPORT_EVERY_S = 10.0
_FLUSH_S = 0.5


class QueuedLog(QueueHandler):
    """A bounded queue of log records in front of other handlers. A record that finds it full is dropped and counted.

    Attributes:
        dropped: records dropped so far; a line says so once others can be written again.
    """

    def __init__(
        self,
        targets: Sequence[logging.Handler],
        size: int = LINES_WAITING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the thread.

        Args:
            targets: what writes the records.
            size: records that may wait.
            clock: monotonic, seconds.
        """
        self._records: queue.Queue[Any] = queue.Queue(size)
        super().__init__(self._records)
        self.dropped = 0
        self._targets = tuple(targets)
        self._clock = clock
        self._reported, self._reported_s = 0, clock() - REPORT_EVERY_S
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def enqueue(self, record: logging.LogRecord) -> None:
        """Add a record, or count it; called with the handler's lock held."""
        try:
            self._records.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what waits, for a second at most: whoever reads the log may have stopped reading."""
        try:
            self._records.put(None, timeout=_FLUSH_S)
        except queue.Full:
            pass
        else:
            self._thread.join(_FLUSH_S)
        super().close()

    def _write_all(self) -> None:
        while (record := self._records.get()) is not None:
            self._write(record)
            now_s = self._clock()
            if self._records.empty() or now_s - self._reported_s >= REPORT_EVERY_S:
                self._report(now_s)
        self._report(self._clock())

    def _write(self, record: logging.LogRecord) -> None:
        for target in self._targets:
            if record.levelno >= target.level:
                target.handle(record)

    def _report(self, now_s: float) -> None:
        missing = self.dropped - self._reported
        if not missing:
            return
        self._reported, self._reported_s = self.dropped, now_s
        text = f"{missing} log lines were dropped: they came faster than they could be written"
        self._write(logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None))


@contextmanager
def queued_log(logger: logging.Logger) -> Iterator[QueuedLog]:
    """Put a queue before the handlers that a logger has, until the context ends."""
    handlers = logger.handlers[:]
    queued = QueuedLog(handlers or [handler for handler in (logging.lastResort,) if handler])
    logger.handlers[:] = [queued]
    try:
        yield queued
    finally:
        logger.handlers[:] = handlers
        queued.close()
