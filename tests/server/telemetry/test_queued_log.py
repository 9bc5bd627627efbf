"""Log lines never wait for whoever reads them: they are queued, and what does not fit is dropped and counted."""

from __future__ import annotations

import logging
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from server.telemetry.queued_log import LINES_WAITING, REPORT_EVERY_S, QueuedLog, queued_log

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


class Gate(logging.Handler):
    """Writes into a list while it is open."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.entered, self.open = threading.Event(), threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.entered.set()
        assert self.open.wait(60)
        self.lines.append(record.getMessage())


@contextmanager
def logger(*handlers: logging.Handler) -> Iterator[logging.Logger]:
    made = logging.Logger("test")  # noqa: LOG001 - apart from every other logger
    made.handlers[:] = handlers
    yield made


def test_a_reader_that_reads_nothing_stops_nobody() -> None:
    """A pipe that is full, as standard error is when nobody reads it."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as reader, os.fdopen(writing, "w") as writer:
        with logger(logging.StreamHandler(writer)) as log, queued_log(log) as queued:
            for number in range(5 * LINES_WAITING):
                log.error("%d %s", number, "x" * 200)
            dropped_at_once = queued.dropped
            text = os.read(reader.fileno(), 100)
            read = threading.Thread(target=reader.read)
            read.start()
        writer.close()
        read.join()

    assert text.startswith(b"0 xxx")
    assert 0 < dropped_at_once < 5 * LINES_WAITING


def test_what_was_dropped_is_counted_and_reported_once_lines_are_written_again() -> None:
    gate = Gate()
    with logger(gate) as log, queued_log(log) as queued:
        log.error("first")
        assert gate.entered.wait(60)
        for number in range(LINES_WAITING + 7):
            log.error("line %d", number)
        assert queued.dropped == 7
        gate.open.set()

    assert len(gate.lines) == LINES_WAITING + 2
    assert gate.lines[0] == "first"
    assert gate.lines[1] == "7 log lines were dropped: they came faster than they could be written"


class Turnstile(logging.Handler):
    """Writes a line each time that it is let through."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._arrived, self._let = threading.Semaphore(0), threading.Semaphore(0)

    def emit(self, record: logging.LogRecord) -> None:
        self._arrived.release()
        assert self._let.acquire(timeout=60)
        self.lines.append(record.getMessage().partition(":")[0])

    def arrived(self) -> None:
        """Wait until a line waits to be let through."""
        assert self._arrived.acquire(timeout=60)

    def let_through(self) -> None:
        """Let one through, and wait for the next."""
        self._let.release()
        self.arrived()

    def open(self) -> None:
        """Let all others through."""
        self._let.release(1000)


def test_in_a_flood_without_end_losses_are_reported_every_ten_seconds() -> None:
    gate, now = Turnstile(), [0.0]
    queued = QueuedLog([gate], size=1, clock=lambda: now[0])
    with logger(queued) as log:
        log.error("0")
        gate.arrived()
        for number in range(1, 7):
            log.error("%d", number)  # waits: the queue is empty
            log.error("dropped")
            if number == 4:
                now[0] += REPORT_EVERY_S
            gate.let_through()
            if number in {1, 4}:
                gate.let_through()  # the report
    lines = gate.lines[:]
    gate.open()
    queued.close()
    reports = [line for line in lines if "dropped" in line]

    assert reports == ["1 log lines were dropped", "3 log lines were dropped"]
    assert lines == ["0", reports[0], "1", "2", "3", reports[1], "4", "5"]


def test_every_line_is_written_in_order_with_its_error_before_the_context_ends() -> None:
    gate = Gate()
    gate.open.set()
    with logger(gate) as log:
        with queued_log(log):
            try:
                _ = {}["why it failed"]
            except KeyError:
                log.exception("it failed")
            log.warning("then %s", "this")
        log.error("no longer queued")

    assert "why it failed" in gate.lines[0]
    assert gate.lines[1:] == ["then this", "no longer queued"]


def test_levels_of_handlers_are_kept() -> None:
    gate = Gate()
    gate.open.set()
    gate.setLevel(logging.ERROR)
    with logger(gate) as log, queued_log(log):
        log.warning("not this")
        log.error("this")

    assert gate.lines == ["this"]


def test_a_logger_without_handlers_still_writes_warnings(capfd: pytest.CaptureFixture[str]) -> None:
    with logger() as log, queued_log(log):
        log.warning("nobody configured this")

    assert "nobody configured this" in capfd.readouterr().err
