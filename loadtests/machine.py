"""Whether the machine is free and keeps its speed: what processes that do nothing but count get of it.

``python -m loadtests.machine SECONDS`` is one of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass

FREE = 0.9
"""With less than this part of the cores to be had, a run says nothing of the server. A quiet machine gives 0.98 to 1.0, and
one other busy process on two cores leaves 0.67."""
STEADY = 0.75
"""Nor where the slower of two measurements counts less than this part of the faster one: loads are multiples of a capacity
that was measured at the start, and 0.7 of it is an overload once the machine has lost three tenths of its speed."""
_SECONDS = 0.5


@dataclass(frozen=True)
class Machine:
    """What there was to be had at one moment.

    Attributes:
        free: part of all cores, 0 to 1.

        speed: steps of a count in a CPU second.
    """

    free: float
    speed: float


def measure(seconds: float = _SECONDS) -> Machine:
    """Count on every core at once, for so many seconds."""
    cores = len(os.sched_getaffinity(0))
    command = [sys.executable, "-m", "loadtests.machine", f"{seconds}"]
    counting = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(cores)]  # noqa: S603 - our own command
    found = [json.loads(each.communicate()[0]) for each in counting]
    free, speed = (sum(column) / cores for column in zip(*found, strict=True))
    return Machine(free, speed)


def trouble(before: Machine, after: Machine) -> str:
    """Why a run between these two measurements says nothing of a server; empty where it does."""
    free, speeds = min(before.free, after.free), sorted((before.speed, after.speed))
    if free < FREE:
        return f"other processes used the machine: {free:.0%} of the cores were free, at least {FREE:.0%} must be"
    if speeds[0] < STEADY * speeds[1]:
        return (
            f"the machine changed its speed: {speeds[0] / speeds[1]:.0%} of it was left, at least {STEADY:.0%} must be"
        )
    return ""


def _count(seconds: float) -> tuple[float, float]:
    """Count for so many seconds; the part of them in which this process had a core, and steps in a CPU second."""
    begun_s, begun_cpu_s, steps = time.monotonic(), time.process_time(), 0
    while (took_s := time.monotonic() - begun_s) < seconds:
        steps += 1
    cpu_s = time.process_time() - begun_cpu_s
    return cpu_s / took_s, steps / cpu_s


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_count(float(sys.argv[1]))) + "\n")
