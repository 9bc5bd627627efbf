"""What an answer of each rung costs: wall time at the caller, CPU time of the server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from loadtests.figures import latency
from loadtests.processes import Server
from terrace.client import Client, Tier

if TYPE_CHECKING:
    from collections.abc import Callable

    from loadtests.workspace import Workspace
    from terrace.client import Answer

_TIMEOUT_MS = 2_000.0


def run(workspace: Workspace) -> dict[str, Any]:
    """Measure POPULARITY by unknown users, CF by similar items, DEEP by known users; one caller, 20 items. No call is exercised.

    Raises:
        RuntimeError: too many answers are of another rung.
    """
    data = workspace.benchmark_data()
    count = 50 if workspace.quick else 2_000
    users, items = data.users.ids, [data.ids[row] for row in data.users.items[:, 0].tolist()]
    found: dict[str, Any] = {}
    with data.store() as store_url, Server(data.bundle, store_url) as server, Client(server.address) as client:
        asks: dict[Tier, Callable[[int], Answer]] = {
            Tier.POPULARITY: lambda turn: client.recommend(f"nobody-{turn}", timeout_ms=_TIMEOUT_MS, exercise=False),
            Tier.CF: lambda turn: client.similar_items(
                items[turn % len(items)], timeout_ms=_TIMEOUT_MS, exercise=False
            ),
            Tier.DEEP: lambda turn: client.recommend(users[turn % len(users)], timeout_ms=_TIMEOUT_MS, exercise=False),
        }
        for tier, ask in asks.items():
            for turn in range(count // 4):
                ask(turn)
            took_ms, others, cpu_s = [], 0, server.cpu_s()
            for turn in range(count):
                start_s = time.perf_counter()
                answer = ask(turn)
                took_ms.append((time.perf_counter() - start_s) * 1000)
                others += answer.tier is not tier
            if others > count * workspace.most_others:
                raise RuntimeError(f"{others} of {count} answers were not of the rung {tier.name}")
            cost_ms = (server.cpu_s() - cpu_s) / count * 1000
            found[tier.name] = {"server_cpu_ms": cost_ms, **latency(took_ms)}
    return {"rungs": found}
