"""Gauges and counters of what the parts of a server keep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.overload.breaker import State
from server.store.user_store import RedisUserStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from core.bundle import Bundle
    from server.edge.accept_queue import AcceptQueueProbe
    from server.overload.admission import Admission
    from server.overload.loop_lag import LoopLag
    from server.rungs.versions import Versions
    from server.rungs.work_pool import WorkPool
    from server.store.user_store import UserStore
    from server.telemetry.observer import Observer
    from server.telemetry.queued_log import QueuedLog
    from server.telemetry.recorder import Telemetry
    from server.telemetry.version_counts import VersionCounts

_LEVEL = {State.CLOSED: 0.0, State.HALF_OPEN: 1.0, State.OPEN: 2.0}


def add_gauges(
    telemetry: Telemetry,
    *,
    admission: Admission,
    versions: Versions,
    work: WorkPool,
    lag: LoopLag,
    probe: AcceptQueueProbe,
) -> None:
    """Let telemetry read what the parts keep, whenever it collects."""
    gauge = telemetry.add_observable
    breakers = [
        (breaker, {"dependency": breaker.name, "version": version})
        for version, pipeline in versions.pipelines.items()
        for breaker in pipeline.breakers.values()
    ]
    costs = [(p.deep.cost, {"version": version}) for version, p in versions.pipelines.items() if p.deep is not None]
    gauge(
        "terrace.deep.in_flight",
        "{request}",
        "Requests that may reach the deep rung.",
        lambda: [(admission.in_flight, {})],
    )
    gauge(
        "terrace.pressure",
        "1",
        "Share of the last half second or so in which there was no room on the deep rung.",
        lambda: [(admission.pressure, {})],
    )
    gauge(
        "terrace.loop.lag",
        "s",
        "How late the event loop was at worst, fading by half in 3.5 s.",
        lambda: [(lag.worst_s, {})],
    )
    gauge(
        "terrace.shed",
        "{call}",
        "Calls refused under pressure.",
        lambda: [(n, {"criticality": kind}) for kind, n in admission.shed.items()],
        "counter",
    )
    gauge(
        "terrace.accept_queue.wait",
        "s",
        "How long calls wait before the server sees them.",
        lambda: [(probe.wait_s, {})],
    )
    gauge(
        "terrace.accept_queue.probe_failures",
        "{failure}",
        "How often the measurement of that wait failed and was started again.",
        lambda: [(probe.failures, {})],
        "counter",
    )
    gauge("terrace.work.free_jobs", "{job}", "Jobs that the work pool still takes.", lambda: [(work.free_jobs, {})])
    gauge("terrace.work.stuck", "{thread}", "Threads that do not come back.", lambda: [(work.stuck, {})])
    gauge(
        "terrace.breaker.state",
        "1",
        "0 closed, 1 half-open, 2 open.",
        lambda: [(_LEVEL[b.state], labels) for b, labels in breakers],
    )
    gauge(
        "terrace.breaker.transitions",
        "{transition}",
        "How often a breaker entered a state.",
        lambda: [(n, labels | {"state": state}) for b, labels in breakers for state, n in b.transitions.items()],
        "counter",
    )
    gauge(
        "terrace.list.writes",
        "{list}",
        "Precomputed lists that answers have renewed, or were to renew, by what became of it.",
        lambda: [
            (n, {"version": version, "outcome": outcome})
            for version, pipeline in versions.pipelines.items()
            for outcome, n in pipeline.refresh.writes.items()
        ],
        "counter",
    )
    if costs:
        gauge(
            "terrace.scorer.row_cost",
            "s",
            "What the model takes for one row now.",
            lambda: [(cost.row_s * cost.slowdown, labels) for cost, labels in costs],
        )
    gauge(
        "terrace.release.revision",
        "1",
        "Of the release document that is followed.",
        lambda: [(versions.release.revision, {})],
    )


def add_bundle_gauges(telemetry: Telemetry, bundles: Sequence[Bundle], log: QueuedLog) -> None:
    """Export what is loaded and what of it is disabled, which stays so until the process ends; lost log lines."""
    gauge = telemetry.add_observable
    disabled = [
        (1.0, {"version": bundle.version, "tier": tier.name, "cause": fault.cause})
        for bundle in bundles
        for tier, fault in bundle.disabled.items()
    ]
    gauge(
        "terrace.bundle.info",
        "1",
        "Always 1, with the version of each bundle that is loaded.",
        lambda: [(1.0, {"version": bundle.version}) for bundle in bundles],
    )
    gauge("terrace.tier.disabled", "1", "1 for each rung of a bundle that cannot be used.", lambda: disabled)
    gauge(
        "terrace.log.dropped",
        "{line}",
        "Log lines that came faster than they could be written.",
        lambda: [(log.dropped, {})],
        "counter",
    )


def add_store_gauges(telemetry: Telemetry, stores_by_version: Mapping[str, UserStore]) -> None:
    """Export what the user stores keep; nothing of stores in memory."""
    gauge = telemetry.add_observable
    stores = [(s, {"version": version}) for version, s in stores_by_version.items() if isinstance(s, RedisUserStore)]
    if not stores:
        return
    gauge(
        "terrace.store.in_use",
        "{connection}",
        "Connections to the user store in use.",
        lambda: [(store.in_use, labels) for store, labels in stores],
    )
    gauge(
        "terrace.store.misses",
        "{read}",
        "Reads of the user store that gave nothing, or not all that is stored, by why.",
        lambda: [(n, labels | {"kind": kind}) for store, labels in stores for kind, n in store.misses.items()],
        "counter",
    )


def add_version_gauges(telemetry: Telemetry, observer: Observer) -> None:
    """Export what is counted of each version: what a rollout compares, but for histograms."""
    metrics: tuple[tuple[str, str, str, Callable[[VersionCounts], int]], ...] = (
        ("terrace.version.calls", "{call}", "Calls by the version that was to answer.", lambda v: v.answered.calls),
        ("terrace.version.failed", "{call}", "Of these, failed or not answered in time.", lambda v: v.answered.failed),
        ("terrace.version.deep", "{answer}", "Of these, answered from the deep rung.", lambda v: v.answered.deep),
        ("terrace.version.empty", "{answer}", "Of these, answered without an item.", lambda v: v.answered.empty),
        (
            "terrace.shadow.calls",
            "{call}",
            "Calls that a candidate answered unseen.",
            lambda v: v.shadowed.unseen.calls,
        ),
        ("terrace.shadow.failed", "{call}", "Of these, failed.", lambda v: v.shadowed.unseen.failed),
        ("terrace.shadow.dropped", "{call}", "Calls chosen for that, without room.", lambda v: v.shadowed.dropped),
    )
    for name, unit, description, count in metrics:
        telemetry.add_observable(
            name,
            unit,
            description,
            lambda count=count: [(count(v), {"version": version}) for version, v in observer.counts.items()],  # type: ignore[misc]
            "counter",
        )
