"""What a second worker on the same cores is worth, with callers and store there as well.

One worker and two take turns. Each is asked by as many callers at once as bring the most answers (``saturation``), then
offered 0.7 of what one worker can do for each worker (``load``). What callers cost is measured beside it: on a machine of
their own they would leave it to the workers.
"""

from __future__ import annotations

import os
from statistics import median
from typing import TYPE_CHECKING, Any

from loadtests.deadline import LOAD, call
from loadtests.processes import Server

if TYPE_CHECKING:
    from loadtests.workspace import SyntheticData, Workspace

TARGET = 1.7
CHANNELS = 16
_CALLERS = (4, 8)


def run(workspace: Workspace) -> dict[str, Any]:
    """Measure; the headlines are ``workers_ratio`` (saturation) and ``workers_load_ratio`` (at 0.7 of one for each)."""
    data = workspace.benchmark_data()
    rounds, seconds = (1, 0.5) if workspace.quick else (5, 8.0)
    with data.store() as store_url:
        found = [_round(data, store_url, seconds) for _ in range(rounds)]
    server_ms = median(each["server_ms_per_call"] for each in found)
    caller_ms = median(each["caller_ms_per_call"] for each in found)
    return {
        "workers_ratio": median(each["two_per_s"] / each["one_per_s"] for each in found),
        "workers_load_ratio": median(each["two_loaded_per_s"] / each["one_loaded_per_s"] for each in found),
        "workers_target": TARGET,
        "workers_most_per_s": len(os.sched_getaffinity(0)) * 1000 / (server_ms + caller_ms),
        "workers_caller_share": caller_ms / (server_ms + caller_ms),
        "workers_rounds": found,
    }


def _round(data: SyntheticData, store_url: str, seconds: float) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, workers in (("one", 1), ("two", 2)):
        with Server(data.bundle, store_url, "--workers", f"{workers}") as server:
            call(
                server, data, "closed", CHANNELS, seconds / 2, CHANNELS
            )  # the first seconds of a process are its slowest
            before_s, calls, caller_ms = server.cpu_s(), 0, 0.0
            for callers in _CALLERS:
                measured = call(server, data, "closed", callers * workers, seconds, CHANNELS)
                calls += measured["sent"]
                caller_ms += measured["sent"] * measured["caller_ms_per_call"]
                found[f"{name}_per_s"] = max(measured["deep_in_time_per_s"], found.get(f"{name}_per_s", 0.0))
            found["server_ms_per_call"] = (server.cpu_s() - before_s) * 1000 / max(calls, 1)
            found["caller_ms_per_call"] = caller_ms / max(calls, 1)
            offered = LOAD * workers * max(found["one_per_s"], 1.0)
            loaded = call(server, data, "open", offered, seconds, CHANNELS)
            found[f"{name}_loaded_per_s"] = max(loaded["deep_in_time_per_s"], 1 / seconds)
    return found
