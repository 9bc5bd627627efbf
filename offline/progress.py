"""Progress of long work, reported to whoever wants to show it."""

from __future__ import annotations

from typing import Protocol

_REPORT_EVERY = 50


class Progress(Protocol):
    """Called with every bit of progress; the command line draws bars from it."""

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """``done`` of ``total`` parts of ``what`` are finished; ``note`` is a figure worth showing."""
        ...


def silent(what: str, done: int, total: int, note: str = "") -> None:
    """A ``Progress`` for programs."""
    del what, done, total, note


def report_progress(progress: Progress, what: str, i: int, total: int) -> None:
    """Report that part ``i`` (from 0) of ``total`` is done, for every 50th part and the last."""
    if i % _REPORT_EVERY == 0 or i + 1 == total:
        progress(what, i + 1, total)
