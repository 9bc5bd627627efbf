"""Replicas as their reports show them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from server.release.replica_report import ReplicaReport

if TYPE_CHECKING:
    from server.release.release_store import ReleaseStore


def replica(replica_id: str, *loaded: str, **fields: Any) -> ReplicaReport:
    """A replica that has loaded these versions and answers from the first."""
    known = {"host": "h", "loaded": loaded, "workers_ready": 1, "answers_from": loaded[0] if loaded else None}
    return ReplicaReport(replica_id, **{**known, **fields})


async def report(store: ReleaseStore, *reports: ReplicaReport) -> None:
    for each in reports:
        await store.report(each)
