"""Memory and start of a server with 1,000,000 items of 64 dimensions, and what a second worker adds."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from loadtests.deadline import call
from loadtests.processes import Server, proportional_mb
from terrace.client import Client, Tier

if TYPE_CHECKING:
    from loadtests.workspace import SyntheticData, Workspace

TARGET_MB = 1_600.0
TARGET_LOAD_S = 30.0
TARGET_SECOND_WORKER = 0.35
_STARTS = 3
_CHANNELS = 16


def run(workspace: Workspace) -> dict[str, Any]:
    """Measure; the headlines are ``memory_pss_mb``, ``memory_load_s`` and ``memory_second_worker_share``."""
    data = workspace.benchmark_data() if workspace.quick else workspace.synthetic(1_000_000, 20_000)
    starts: list[float] = []
    deep = 0
    users = data.users.ids[:500]
    found: dict[str, float] = {}
    with data.store() as store_url:
        for _ in range(1 if workspace.quick else _STARTS):
            with Server(data.bundle, store_url) as server, Client(server.address) as client:
                starts.append(server.start_s)
                ready = server.memory_mb()
                deep = sum(client.recommend(user, timeout_ms=2_000).tier is Tier.DEEP for user in users)
                found = server.memory_mb()
        by_workers = {n: _after_calls(data, store_url, n, 0.5 if workspace.quick else 30.0) for n in (1, 2)}
    one, two = (by_workers[n]["Pss"] for n in (1, 2))
    return {
        "memory_pss_mb": found["Pss"],
        "memory_target_mb": TARGET_MB,
        "memory_load_s": statistics.median(starts),
        "memory_load_target_s": TARGET_LOAD_S,
        "memory_starts_s": starts,
        "memory_ready_mb": ready,
        "memory_after_requests_mb": found,
        "memory_deep_answers": f"{deep} of {len(users)}",
        "memory_second_worker_share": (two - one) / one,
        "memory_second_worker_target": TARGET_SECOND_WORKER,
        "memory_by_workers": by_workers,
        "memory_bundle_mb": sum(path.stat().st_size for path in data.bundle.rglob("*") if path.is_file()) / 1e6,
    }


def _after_calls(data: SyntheticData, store_url: str, workers: int, seconds: float) -> dict[str, Any]:
    """Memory of a server when each of its workers has answered for so long."""
    with Server(data.bundle, store_url, "--workers", f"{workers}") as server:
        called = call(server, data, "closed", 2 * workers, seconds, _CHANNELS)
        return {
            **server.memory_mb(),
            "workers_own": [proportional_mb(pid)["Private"] for pid in server.workers],
            "calls": called["sent"],
            "tiers": called["tiers"],
        }
