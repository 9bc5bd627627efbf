"""Gauges and counters of what the parts of a server keep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.overload.breaker import State
from server.store.user_store import RedisUserStore

if TYPE_CHECKING:
    from server.edge.accept_queue import AcceptQueueProbe
    from server.overload.admission import Admission
    from server.overload.loop_lag import LoopLag
    from server.rungs.pipeline import Pipeline
    from server.rungs.work_pool import WorkPool
    from server.start_up import Started
    from server.store.user_store import UserStore
    from server.telemetry.queued_log import QueuedLog
    from server.telemetry.recorder import Telemetry

_LEVEL = {State.CLOSED: 0.0, State.HALF_OPEN: 1.0, State.OPEN: 2.0}


def add_gauges(
    telemetry: Telemetry,
    *,
    admission: Admission,
    pipeline: Pipeline,
    work: WorkPool,
    store: UserStore,
    lag: LoopLag,
    probe: AcceptQueueProbe,
) -> None:
    """Let telemetry read what the parts keep, whenever it collects."""
    gauge = telemetry.add_observable
    breakers, deep = pipeline.breakers.values(), pipeline.deep
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
        lambda: [(_LEVEL[b.state], {"dependency": b.name}) for b in breakers],
    )
    gauge(
        "terrace.breaker.transitions",
        "{transition}",
        "How often a breaker entered a state.",
        lambda: [(n, {"dependency": b.name, "state": state}) for b in breakers for state, n in b.transitions.items()],
        "counter",
    )
    if deep is not None:
        gauge(
            "terrace.scorer.row_cost",
            "s",
            "What the model takes for one row now.",
            lambda: [(deep.cost.row_s * deep.cost.slowdown, {})],
        )
    if not isinstance(store, RedisUserStore):
        return
    gauge("terrace.store.in_use", "{connection}", "Connections to the user store in use.", lambda: [(store.in_use, {})])
    gauge(
        "terrace.store.misses",
        "{read}",
        "Reads of the user store that gave nothing, or not all that is stored, by why.",
        lambda: [(n, {"kind": kind}) for kind, n in store.misses.items()],
        "counter",
    )


def add_bundle_gauges(telemetry: Telemetry, started: Started, log: QueuedLog) -> None:
    """Export what is served, what is not and why, which stays as it is until the process ends; and lost log lines."""
    gauge = telemetry.add_observable
    bundle = started.pipeline.bundle
    served = [(1.0, {"version": bundle.version})]
    passed_over = [(1.0, {"version": each.version, "cause": each.fault.cause}) for each in started.passed_over]
    disabled = [(1.0, {"tier": tier.name, "cause": fault.cause}) for tier, fault in bundle.disabled.items()]
    gauge("terrace.bundle.info", "1", "Always 1, with the version of the bundle that is served.", lambda: served)
    gauge(
        "terrace.bundle.passed_over",
        "1",
        "1 for each bundle that is newer than the one served and cannot be used.",
        lambda: passed_over,
    )
    gauge("terrace.tier.disabled", "1", "1 for each rung of the bundle that cannot be used.", lambda: disabled)
    gauge(
        "terrace.log.dropped",
        "{line}",
        "Log lines that came faster than they could be written.",
        lambda: [(log.dropped, {})],
        "counter",
    )
