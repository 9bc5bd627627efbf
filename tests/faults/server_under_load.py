"""A server whose model costs time, and callers who keep their pace, each in a process and on cores of its own."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loadtests import cores
from loadtests.processes import Child, memory_mb
from tests.faults.callers import Closed, Phase, command, read
from tests.faults.machine import MachineTooBusyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.faults.callers import Calls

LATE_MS = 10.0
"""Callers whose 99th percentile is later than this did not keep their pace."""
ATTEMPTS = 2
_MODEL_MS = "3"


@dataclass(frozen=True)
class ServerUnderLoad:
    """A server and its callers."""

    server: Child
    callers: Child
    folder: Path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{json.loads(self.server.ready)['port']}"

    @property
    def rss_mb(self) -> float:
        return memory_mb(self.server.process.pid)["VmRSS"]

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.server.ask("stats"))
        return found

    def capacity(self, seconds: float = 1.2) -> float:
        """Answers a second, all in time and nearly all of them deep."""
        found = json.loads(self.callers.ask(command(self.address, closed=Closed(4, seconds))))
        return float(found["in_time_per_s"])

    def run(self, phases: list[Phase], *, retries: bool = False) -> Calls:
        """Make the calls.

        Raises:
            MachineTooBusyError: the callers could not keep their pace, again and again.
        """
        out, late = self.folder / "calls.npz", []
        for seed in range(ATTEMPTS):
            line = command(self.address, phases=phases, out=out, seed=seed, retries=retries)
            late.append(json.loads(self.callers.ask(line))["late_p99_ms"])
            if late[-1] <= LATE_MS:
                return read(out)
        raise MachineTooBusyError(
            f"machine too busy: callers sent {', '.join(f'{ms:.0f} ms' for ms in late)} late at the 99th percentile in "
            f"{ATTEMPTS} runs (at most {LATE_MS:.0f})"
        )


@contextmanager
def server_under_load(folder: Path) -> Iterator[ServerUnderLoad]:
    """Both processes, past their first calls."""
    settings = json.dumps({"port": 0, "exercise_share": 0.0})
    with (
        Child("tests.faults.busy_server", settings, _MODEL_MS, on=cores.SERVER) as server,
        Child("tests.faults.callers", on=cores.CALLERS) as callers,
    ):
        load = ServerUnderLoad(server, callers, folder)
        load.capacity()
        yield load
