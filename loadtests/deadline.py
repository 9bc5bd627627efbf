"""The share of DEEP answers inside a deadline of 50 ms at 70 % of what the server can do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from loadtests.caller import CHANNELS
from loadtests.processes import Child, Server

if TYPE_CHECKING:
    from loadtests.workspace import SyntheticData, Workspace

TARGET = 0.999
LOAD = 0.7
_CALLERS = (2, 4, 8)


def run(workspace: Workspace) -> dict[str, Any]:
    """Measure; the headline is ``deep_in_deadline_share``."""
    data = workspace.benchmark_data()
    search_s, seconds = (0.3, 1.0) if workspace.quick else (6.0, 40.0)
    with data.store() as store_url, Server(data.bundle, store_url) as server:
        call(server, data, "closed", 4, search_s)  # the first seconds of a process are its slowest
        found = {f"{n}_callers": call(server, data, "closed", n, search_s) for n in _CALLERS}
        capacity = max(figures["deep_in_time_per_s"] for figures in found.values())
        under_load = call(server, data, "open", capacity * LOAD, seconds)
    return {
        "deep_in_deadline_share": under_load["deep_in_time_share"],
        "deep_in_deadline_target": TARGET,
        "capacity_per_s": capacity,
        "deadline_capacity": {name: figures["deep_in_time_per_s"] for name, figures in found.items()},
        "deadline_load": under_load,
    }


def call(  # noqa: PLR0917 - as on the command line of the callers
    server: Server, data: SyntheticData, kind: str, how_many: float, seconds: float, channels: int = CHANNELS
) -> dict[str, Any]:
    """What a process of callers finds; see ``loadtests.caller``."""
    given = (server.address, str(data.folder), kind, f"{how_many}", f"{seconds}", f"{channels}")
    with Child("loadtests.caller", *given) as caller:
        figures: dict[str, Any] = json.loads(caller.ready)
    return figures
