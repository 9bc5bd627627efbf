"""What people read of a release."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from core.release import Slot
from core.release_values import percent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.release import Release
    from server.release.operations import Status
    from server.release.replica_report import ReplicaReport


def change_line(release: Release) -> str:
    """One line on a change that was made."""
    return escape(f"revision {release.revision}: {release.note}")


def status_parts(status: Status, namespace: str) -> Iterator[str | Table]:
    """The release, then the replicas: lines of markup, and tables."""
    release = status.release
    if release is None:
        yield escape(f"No release in namespace {namespace}; begin one with `terrace release stage VERSION`")
    else:
        yield escape(f"Release of namespace {namespace}, revision {release.revision}")
        yield escape(f"last change: {release.note}; by {release.changed_by} at {release.changed_at}")
        yield escape(f"to roll back to: {release.previous or 'nothing'}")
        yield _slot_table(release)
    ready = len(status.replicas) - len(status.not_ready)
    yield f"Replicas: {ready} of {len(status.replicas)} ready"
    for replica_id, why in status.not_ready.items():
        yield escape(f"{replica_id}: {why}")
    if status.replicas:
        yield _replica_table(status)


def _slot_table(release: Release) -> Table:
    table = Table("slot", "version", "role", box=SIMPLE_HEAD)
    for slot in Slot:
        table.add_row(slot, escape(release.slots[slot] or "empty"), escape(_role(release, slot)))
    for version, reason in release.frozen.items():
        table.add_row("frozen", escape(version), escape(reason))
    return table


def _role(release: Release, slot: Slot) -> str:
    if slot is release.live:
        return "live"
    if release.candidate is None:
        return ""
    if release.staged is None:
        return "live before; `terrace release rollback` goes back to it"
    shadow = f", shadows {percent(release.shadow_share)} of the calls" if release.shadow_share else ""
    return f"candidate, {percent(release.candidate_share)} of the users{shadow}"


def _replica_table(status: Status) -> Table:
    table = Table("replica", "host", "revision", "answers from", "loaded", "refused", "workers", box=SIMPLE_HEAD)
    for replica in status.replicas:
        table.add_row(*map(escape, _cells(replica, status.release)))
    return table


def _cells(replica: ReplicaReport, release: Release | None) -> tuple[str, ...]:
    lost = release is not None and replica.revision > release.revision
    return (
        replica.replica_id,
        replica.host,
        f"{replica.revision} (the store has lost changes)" if lost else str(replica.revision),
        replica.answers_from or "nothing",
        ", ".join(replica.loaded),
        "; ".join(f"{version}: {why}" for version, why in replica.rejected.items()),
        f"{replica.workers_ready} of {replica.workers_wanted}",
    )
