"""How long work says how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told of every bit of progress; the command line draws bars from it."""

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """``done`` of ``total`` parts of ``what`` are finished; ``note`` is a figure worth showing."""
        ...


def silent(what: str, done: int, total: int, note: str = "") -> None:
    """A ``Progress`` for programs."""
    del what, done, total, note
