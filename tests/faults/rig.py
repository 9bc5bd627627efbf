"""A server whose model costs time, and callers who keep their pace, each in a process of its own."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from loadtests.processes import Child, memory_mb
from tests.faults.callers import Closed, Phase, ask, read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.faults.callers import Calls

LATE_MS = 10.0
"""Callers whose 99th percentile is later than this did not keep their pace."""
ATTEMPTS = 2
_MODEL_MS = "3"


@dataclass(frozen=True)
class Rig:
    """A server and callers, each in a process of its own."""

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
        found = json.loads(self.callers.ask(ask(self.address, closed=Closed(4, seconds))))
        return float(found["in_time_per_s"])

    def run(self, phases: list[Phase], *, retries: bool = False) -> Calls:
        """Make the calls; skips the test when the callers cannot keep their pace."""
        out, busy = self.folder / "calls.npz", ""
        for seed in range(ATTEMPTS):
            said = json.loads(self.callers.ask(ask(self.address, phases=phases, out=out, seed=seed, retries=retries)))
            if said["late_p99_ms"] <= LATE_MS:
                return read(out)
            busy = f"{said['late_p99_ms']:.0f} ms late at the 99th percentile, load {os.getloadavg()[0]:.1f}"
        pytest.skip(f"invalid: the callers could not keep their pace in any of {ATTEMPTS} runs; {busy}")


@contextmanager
def running_rig(folder: Path) -> Iterator[Rig]:
    """Both processes, past their first calls."""
    settings = json.dumps({"port": 0, "exercise_share": 0.0})
    with Child("tests.faults.busy_server", settings, _MODEL_MS) as server, Child("tests.faults.callers") as callers:
        rig = Rig(server, callers, folder)
        rig.capacity()
        yield rig
