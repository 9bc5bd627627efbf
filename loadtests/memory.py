"""Memory and start of a server with 1,000,000 items of 64 dimensions."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from loadtests.processes import Server
from terrace.client import Client, Tier

if TYPE_CHECKING:
    from loadtests.workspace import Workspace

TARGET_MB = 1_600.0
TARGET_LOAD_S = 30.0
_STARTS = 3


def run(workspace: Workspace) -> dict[str, Any]:
    """Measure; the headlines are ``memory_pss_mb`` and ``memory_load_s``."""
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
    return {
        "memory_pss_mb": found["Pss"],
        "memory_target_mb": TARGET_MB,
        "memory_load_s": statistics.median(starts),
        "memory_load_target_s": TARGET_LOAD_S,
        "memory_starts_s": starts,
        "memory_ready_mb": ready,
        "memory_after_requests_mb": found,
        "memory_deep_answers": f"{deep} of {len(users)}",
        "memory_bundle_mb": sum(path.stat().st_size for path in data.bundle.rglob("*") if path.is_file()) / 1e6,
    }
