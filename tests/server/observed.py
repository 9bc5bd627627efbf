"""Reads back what was put on metrics and spans, and tallies the same facts wherever they are told."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from core.types import Reason, Tier
from server.telemetry.recorder import NO_TIER, Telemetry
from terrace.v1 import recommendation_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from opentelemetry.sdk.metrics.export import NumberDataPoint
    from opentelemetry.sdk.trace.sampling import Sampler

    from server.telemetry.recorder import Call

Labels = frozenset[tuple[str, str]]


def labels(**values: str) -> Labels:
    """The key of one series: ``labels(tier="DEEP", reason="late")``."""
    return frozenset(values.items())


class Observed:
    """A telemetry whose metrics and spans stay in memory; every span is sampled unless ``sampler`` says otherwise."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self._reader = InMemoryMetricReader()
        self._exporter = InMemorySpanExporter()
        self._meters = MeterProvider([self._reader], exemplar_filter=AlwaysOffExemplarFilter(), shutdown_on_exit=False)
        self._tracers = TracerProvider(sampler, shutdown_on_exit=False)
        self._tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.telemetry = Telemetry(self._meters, self._tracers)

    def counts(self, name: str) -> Counter[Labels]:
        """How often each series of a metric was added to (histograms), or its value now (counters and gauges)."""
        return Counter({k: p.count if isinstance(p, HistogramDataPoint) else p.value for k, p in self._points(name)})

    def sums(self, name: str) -> dict[Labels, float]:
        """Sum of what each series of a histogram was given."""
        return {key: point.sum for key, point in self._points(name) if isinstance(point, HistogramDataPoint)}

    def names(self) -> set[str]:
        """Names of the metrics that have a value."""
        return {metric.name for metric in self._metrics()}

    @property
    def spans(self) -> list[dict[str, Any]]:
        """Attributes of the ended spans in the order of their ends, with name, start_ns, end_ns, trace, parent, error."""
        return [
            {
                **(span.attributes or {}),
                "name": span.name,
                "start_ns": span.start_time,
                "end_ns": span.end_time,
                "trace": span.context.trace_id,
                "parent": span.parent.span_id if span.parent else None,
                "error": not span.status.is_ok,
            }
            for span in self._exporter.get_finished_spans()
        ]

    def tally(self) -> Tally:
        """What the metrics say."""
        return Tally(
            requests=self.counts("terrace.requests"),
            skipped=self.counts("terrace.skipped"),
            dropped=self.counts("terrace.dropped"),
            stages=self.counts("terrace.stage.duration"),
            stage_s=self.sums("terrace.stage.duration"),
            scored=self.counts("terrace.rows.scored"),
            pool=self.counts("terrace.rows.pool"),
        )

    def _metrics(self) -> list[Any]:
        data = self._reader.get_metrics_data()
        return [m for r in data.resource_metrics for scope in r.scope_metrics for m in scope.metrics] if data else []

    def _points(self, name: str) -> list[tuple[Labels, NumberDataPoint | HistogramDataPoint]]:
        return [
            (frozenset((k, str(v)) for k, v in (point.attributes or {}).items()), point)
            for metric in self._metrics()
            if metric.name == name
            for point in metric.data.data_points
        ]


@dataclass(frozen=True)
class Facts:
    """What one call's response, span or ``Call`` says of it, in the words of the metrics."""

    method: str
    status: str
    criticality: str
    tier: str = NO_TIER
    skipped: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    stage_ms: Mapping[str, float] = field(default_factory=dict)
    scored: int = 0
    pool: int = 0

    @classmethod
    def of_call(cls, call: Call) -> Facts:
        answer = call.answer
        if answer is None:
            return cls(call.method, call.status, call.criticality)
        return cls(
            call.method,
            call.status,
            call.criticality,
            answer.tier.name,
            {tier.name: reason.value for tier, reason in answer.skipped.items()},
            {source: reason.value for source, reason in answer.dropped.items()},
            answer.stage_ms,
            answer.scored_rows,
            answer.pool_rows,
        )

    @classmethod
    def of_response(cls, method: str, criticality: str, info: pb.AnswerInfo) -> Facts:
        """From what an OK response tells its caller."""
        return cls(
            method,
            "OK",
            criticality,
            _TIERS[info.tier],
            {_TIERS[each.tier]: _REASONS[each.reason] for each in info.skipped},
            {each.source: _REASONS[each.reason] for each in info.dropped_sources},
            {each.stage: each.duration_ms for each in info.stages},
            info.scored_rows,
            info.pool_rows,
        )

    @classmethod
    def of_span(cls, span: Mapping[str, Any]) -> Facts:
        """From one of ``Observed.spans``."""

        def below(prefix: str) -> dict[str, Any]:
            return {name.removeprefix(prefix): value for name, value in span.items() if name.startswith(prefix)}

        return cls(
            span["rpc.method"].rpartition("/")[2],
            span["rpc.response.status_code"],
            span["terrace.criticality"],
            span["terrace.tier"],
            below("terrace.skipped."),
            below("terrace.dropped."),
            below("terrace.stage_ms."),
            span.get("terrace.rows.scored", 0),
            span.get("terrace.rows.pool", 0),
        )


_TIERS = {pb.Tier.Value(f"TIER_{tier.name}"): tier.name for tier in Tier}
_REASONS = {pb.Reason.Value(f"REASON_{reason.name}"): reason.value for reason in Reason}


@dataclass(frozen=True)
class Tally:
    """Metrics by series. Two are equal when they agree exactly, stage times aside.

    Those are sums of fractions, which a response tells in 32 bits: compare ``stage_s`` with ``pytest.approx``.
    """

    requests: Counter[Labels] = field(default_factory=Counter)
    skipped: Counter[Labels] = field(default_factory=Counter)
    dropped: Counter[Labels] = field(default_factory=Counter)
    stages: Counter[Labels] = field(default_factory=Counter)
    scored: Counter[Labels] = field(default_factory=Counter)
    pool: Counter[Labels] = field(default_factory=Counter)
    stage_s: dict[Labels, float] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, facts: Iterable[Facts]) -> Tally:
        """What the metrics must say after these calls."""
        tally = cls()
        for fact in facts:
            call = labels(method=fact.method, status=fact.status, tier=fact.tier, criticality=fact.criticality)
            tally.requests[call] += 1
            for tier, reason in fact.skipped.items():
                tally.skipped[labels(tier=tier, reason=reason)] += 1
            for source, reason in fact.dropped.items():
                tally.dropped[labels(source=source, reason=reason)] += 1
            for stage, ms in fact.stage_ms.items():
                tally.stages[labels(stage=stage)] += 1
                tally.stage_s[labels(stage=stage)] = tally.stage_s.get(labels(stage=stage), 0.0) + ms / 1000
            if fact.tier != NO_TIER:
                rung = labels(method=fact.method, tier=fact.tier)
                tally.scored[rung] += fact.scored
                tally.pool[rung] += fact.pool
        return tally
