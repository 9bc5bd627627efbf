"""The facts of every call on metrics and spans, all from one object; knows OpenTelemetry's interface only.

A metric's attributes have few values, whatever callers send: no user, no item, no text from outside. The facts of
one call (its recommendation id, the bundle) are on its span.

Adding to a counter of OpenTelemetry's costs 5 to 7 us, to a dictionary 0.2 us. So totals are kept here, and
OpenTelemetry reads them when it collects; only times, which need a histogram, go through it one by one.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from opentelemetry.context import Context
from opentelemetry.metrics import Observation
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from core.types import Tier
from server.telemetry.rate_limited_log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider
    from opentelemetry.trace import Tracer, TracerProvider

    from core.types import Recommendation

SCOPE = "terrace"
NO_TIER = "NONE"
"""The tier of a call that ended without an answer."""
OTHER = "_OTHER"
"""Stands for a value outside its closed list, as in OpenTelemetry's semantic conventions."""
METHODS = frozenset({"Recommend", "SimilarItems", "RankItems"})
CRITICALITIES = frozenset({"user", "prefetch", "batch"})
SERVER_FAULTS = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"},
)
"""gRPC statuses that make a server's span an error (semantic conventions for gRPC)."""
STATUSES = SERVER_FAULTS | {
    *("OK", "CANCELLED", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED"),
    *("RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNAUTHENTICATED"),
}
CALL_BOUNDS_S = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03),
    *(0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0),
)
STAGE_BOUNDS_S = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)
_RPC_METHODS = {method: f"terrace.v1.RecommendationService/{method}" for method in METHODS}
_TIERS = {tier: tier.name for tier in Tier}
_LONGEST_PARENT = 512
"""Anything longer OpenTelemetry would log, at the caller's pleasure."""
_NO_PARENT = Context()
_PROPAGATOR = TraceContextTextMapPropagator()
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """One call that has ended.

    Attributes:
        method: name without its service, such as ``Recommend``.

        criticality: ``user``, ``prefetch`` or ``batch``.

        status: name of the gRPC status, such as ``OK``.

        started_ns: wall clock, nanoseconds since the Unix epoch.

        duration_s: from arrival to end by a monotonic clock, seconds.

        deadline_ms: budget the call had when it came.

        answer: None when the call ended without one.

        parent: the caller's ``traceparent`` (W3C Trace Context), as it came; malformed counts as none.

        bundle_version: of the bundle that was to answer; empty where the call ended before it was chosen.
    """

    method: str
    criticality: str
    status: str
    started_ns: int
    duration_s: float
    recommendation_id: str
    deadline_ms: float
    answer: Recommendation | None
    parent: str = ""
    bundle_version: str = ""


class Telemetry:
    """Puts finished calls on metrics and spans, and exports numbers that other parts keep."""

    def __init__(
        self, meter_provider: MeterProvider | None = None, tracer_provider: TracerProvider | None = None
    ) -> None:
        """Name the metrics.

        Args:
            meter_provider: where metrics go; None = nowhere, at no cost.
            tracer_provider: where spans go, and which; None = nowhere, at no cost.
        """
        self._meter = None if meter_provider is None else meter_provider.get_meter(SCOPE)
        self._metrics = None if self._meter is None else _Metrics(self._meter)
        self._tracer = None if tracer_provider is None else tracer_provider.get_tracer(SCOPE)
        self._limited_log = RateLimitedLog(_log)

    def record(self, call: Call) -> None:
        """Count a call and, when it is sampled, trace it; never raises. For one thread: the event loop's."""
        try:
            if self._metrics is not None:
                self._metrics.add(call)
            if self._tracer is not None:
                _trace(self._tracer, call)
        except Exception:  # noqa: BLE001 - whatever goes wrong here, the call has been answered
            self._limited_log.exception("a call could not be recorded")

    def add_observable(
        self,
        name: str,
        unit: str,
        description: str,
        read: Callable[[], Iterable[tuple[float, Mapping[str, str]]]],
        kind: Literal["gauge", "counter"] = "gauge",
    ) -> None:
        """Export numbers that another part keeps.

        Args:
            name: such as ``terrace.limit``.
            unit: UCUM, such as ``s``, ``1`` or ``{call}``.
            description: one line.
            read: (value, attributes) pairs as they are now. Called from other threads whenever metrics are collected:
                it reads plain numbers and does no more. One that raises is logged and left out.
            kind: "counter" for totals since the start of the process, which only grow.
        """
        if self._meter is None:
            return
        create = self._meter.create_observable_gauge if kind == "gauge" else self._meter.create_observable_counter
        create(name, [lambda _: [Observation(value, attributes) for value, attributes in read()]], unit, description)


class _Counter:
    """Totals by the values of a few attributes; OpenTelemetry reads them when it collects."""

    __slots__ = ("_attributes", "_totals")

    def __init__(self, meter: Meter, name: str, unit: str, description: str, attributes: tuple[str, ...]) -> None:
        self._attributes = attributes
        self._totals: dict[tuple[str, ...], int] = {}
        meter.create_observable_counter(name, [self._read], unit, description)

    def add(self, amount: int, values: tuple[str, ...]) -> None:
        self._totals[values] = self._totals.get(values, 0) + amount

    def _read(self, _options: CallbackOptions) -> list[Observation]:
        # A copy in one step: the event loop may add a key meanwhile.
        return [
            Observation(n, dict(zip(self._attributes, values, strict=True)))
            for values, n in self._totals.copy().items()
        ]


class _Metrics:
    """The metrics of calls; docs/operations.md lists them."""

    def __init__(self, meter: Meter) -> None:
        self._calls = _Counter(meter, "terrace.requests", "{request}", "Calls that have ended.", _CALL)
        self._skipped = _Counter(
            meter,
            "terrace.skipped",
            "{rung}",
            "Rungs above the answer and why they were not taken.",
            ("tier", "reason"),
        )
        self._dropped = _Counter(
            meter,
            "terrace.dropped",
            "{source}",
            "Sources that answers were made without, and why.",
            ("source", "reason"),
        )
        self._scored = _Counter(
            meter, "terrace.rows.scored", "{row}", "Rows that the answering rung scored.", ("method", "tier")
        )
        self._pool = _Counter(
            meter, "terrace.rows.pool", "{row}", "Rows that the answering rung had to choose from.", ("method", "tier")
        )
        self._duration = meter.create_histogram(
            "terrace.request.duration",
            "s",
            "Time from the arrival of a call to its end.",
            explicit_bucket_boundaries_advisory=CALL_BOUNDS_S,
        )
        self._stage = meter.create_histogram(
            "terrace.stage.duration",
            "s",
            "Wall time of one stage of an answer.",
            explicit_bucket_boundaries_advisory=STAGE_BOUNDS_S,
        )

    def add(self, call: Call) -> None:
        answer = call.answer
        tier = NO_TIER if answer is None else _TIERS[answer.tier]
        kind = _bounded(call.method, call.status, tier, call.criticality)
        self._calls.add(1, kind)
        self._duration.record(call.duration_s, _call_attributes(kind))
        if answer is None:
            return
        for skipped, reason in answer.skipped.items():
            self._skipped.add(1, (_TIERS[skipped], reason))
        for source, reason in answer.dropped.items():
            self._dropped.add(1, (source, reason))
        for stage, ms in answer.stage_ms.items():
            self._stage.record(ms / 1000, _stage_attributes(stage))
        rung = (kind[0], tier)
        self._scored.add(answer.scored_rows, rung)
        self._pool.add(answer.pool_rows, rung)


_CALL = ("method", "status", "tier", "criticality")


@lru_cache(maxsize=1024)
def _bounded(method: str, status: str, tier: str, criticality: str) -> tuple[str, ...]:
    return (
        method if method in METHODS else OTHER,
        status if status in STATUSES else OTHER,
        tier,
        criticality if criticality in CRITICALITIES else OTHER,
    )


@lru_cache(maxsize=1024)
def _call_attributes(kind: tuple[str, ...]) -> Mapping[str, str]:
    return dict(zip(_CALL, kind, strict=True))


@lru_cache(maxsize=64)
def _stage_attributes(stage: str) -> Mapping[str, str]:
    return {"stage": stage}


def _trace(tracer: Tracer, call: Call) -> None:
    span = tracer.start_span(
        _RPC_METHODS.get(call.method, OTHER), _parent(call.parent), SpanKind.SERVER, start_time=call.started_ns
    )
    if not span.is_recording():
        return
    span.set_attributes(_facts(call))
    if call.status in SERVER_FAULTS:
        span.set_status(Status(StatusCode.ERROR))
    span.end(call.started_ns + round(call.duration_s * 1e9))


def _parent(traceparent: str) -> Context:
    if not 0 < len(traceparent) <= _LONGEST_PARENT:
        return _NO_PARENT
    return _PROPAGATOR.extract({"traceparent": traceparent}, _NO_PARENT)


def _facts(call: Call) -> dict[str, str | int | float]:
    """The attributes of a call's span; the same facts that the metrics count."""
    facts: dict[str, str | int | float] = {
        "rpc.system.name": "grpc",
        "rpc.method": _RPC_METHODS.get(call.method, OTHER),
        "rpc.response.status_code": call.status,
        "terrace.criticality": call.criticality if call.criticality in CRITICALITIES else OTHER,
        "terrace.deadline_ms": call.deadline_ms,
        "terrace.recommendation_id": call.recommendation_id,
    }
    answer = call.answer
    if answer is None:
        facts["terrace.tier"] = NO_TIER
        return facts
    facts["terrace.tier"] = _TIERS[answer.tier]
    facts["terrace.bundle_version"] = answer.bundle_version
    facts["terrace.rows.scored"] = answer.scored_rows
    facts["terrace.rows.pool"] = answer.pool_rows
    for skipped, reason in answer.skipped.items():
        facts[f"terrace.skipped.{_TIERS[skipped]}"] = reason.value
    for source, reason in answer.dropped.items():
        facts[f"terrace.dropped.{source}"] = reason.value
    for stage, ms in answer.stage_ms.items():
        facts[f"terrace.stage_ms.{stage}"] = ms
    return facts
