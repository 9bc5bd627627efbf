"""Whether the machine had time for a test, as a process tells that does nothing (``tests.faults.idle_process``).

Nothing is subtracted from what is measured and no bound depends on it. A test that fails on a busy machine fails all the
same, and says so first: such a run is not valid, neither for the server nor against it.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

from loadtests.processes import Child

if TYPE_CHECKING:
    from collections.abc import Iterator

INVALID = 75
"""Exit status of a run in which all that failed was not valid, since the machine had no time: it is to be made again."""
MOST_LATE_SHARE = 0.005
"""Of the time, on a machine that nobody else uses while server, callers and store work."""
MOST_LATE_MS = 5.0
"""At once."""


class MachineTooBusyError(AssertionError):
    """The run is not valid."""


class Machine:
    """How long an idle process is kept waiting; a context manager's value, see ``watched_machine``."""

    def __init__(self, idle: Child) -> None:
        self._idle = idle

    def start(self) -> None:
        """Measure from now on."""
        self._idle.ask("start")

    def late(self) -> tuple[float, float]:
        """Share of the time since ``start`` that the idle process was kept waiting, and its longest wait in milliseconds."""
        found = json.loads(self._idle.ask("report"))
        return found["late_s"] / found["seconds"], found["longest_ms"]

    def busy(self) -> str:
        """What was measured since ``start`` in words; empty where the machine had time."""
        share, longest_ms = self.late()
        if share <= MOST_LATE_SHARE and longest_ms <= MOST_LATE_MS:
            return ""
        return (
            f"machine too busy: a process that does nothing was kept waiting {share:.1%} of the time (at most "
            f"{MOST_LATE_SHARE:.1%}) and {longest_ms:.0f} ms at once (at most {MOST_LATE_MS:.0f})"
        )

    @contextmanager
    def judging(self) -> Iterator[None]:
        """Say of what fails inside whether the machine had time.

        Raises:
            MachineTooBusyError: something failed, and the machine was busy since ``start``.
        """
        try:
            yield
        except MachineTooBusyError:
            raise
        except Exception as failure:
            if busy := self.busy():
                raise MachineTooBusyError(f"{busy}; run it again alone. It failed with: {failure}") from failure
            raise


@contextmanager
def watched_machine() -> Iterator[Machine]:
    """Start the idle process, and end it."""
    with Child("tests.faults.idle_process") as idle:
        yield Machine(idle)
