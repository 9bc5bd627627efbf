"""Where telemetry goes: a collector over OTLP, a port that Prometheus reads, both, or nowhere.

Exporters work on threads of their own and talk to the collector through a channel of their own, so that a collector
that is slow or away costs calls nothing: spans that find the queue full are dropped. OpenTelemetry's own
environment variables name the service (``OTEL_SERVICE_NAME``, ``OTEL_RESOURCE_ATTRIBUTES``) and say how the collector
is reached (``OTEL_EXPORTER_OTLP_HEADERS``, ``OTEL_EXPORTER_OTLP_CERTIFICATE``).
"""

from __future__ import annotations

import importlib.metadata
import threading
import time
import uuid
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from prometheus_client import CollectorRegistry, generate_latest, start_http_server

from server.telemetry.recorder import Telemetry

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.simple_server import WSGIServer

    from opentelemetry.sdk.metrics.export import MetricReader

EXPORT_TIMEOUT_S = 5.0
"""How long one batch is tried, attempts and pauses together."""
SPANS_PER_BATCH = 128
"""Few, so that writing a batch out keeps the interpreter from calls for a short time only."""
SPANS_WAITING = 2048
SPANS_EVERY_S = 1.0
_ABORT_S = 1.0


class Exporters:
    """Telemetry on its way out of this process."""

    def __init__(
        self,
        otlp_endpoint: str | None,
        metrics_port: int | None,
        trace_share: float,
        host: str,
        interval_s: float,
        *,
        collect: bool,
    ) -> None:
        """Start; see ``exporters``."""
        self._registry = CollectorRegistry() if collect or metrics_port is not None else None
        self._http = None
        if self._registry is not None and metrics_port is not None:
            self._http = _MetricsPort(host, metrics_port, self._registry)
        self._otlp: list[OTLPSpanExporter | OTLPMetricExporter] = []
        self._flush: list[Callable[[], None]] = []
        resource = _resource()
        readers: list[MetricReader] = []
        traces = None
        if self._registry is not None:
            readers.append(PrometheusMetricReader(scope_info_enabled=False, registry=self._registry))
        if otlp_endpoint is not None:
            spans = OTLPSpanExporter(otlp_endpoint, timeout=EXPORT_TIMEOUT_S)
            metrics = OTLPMetricExporter(otlp_endpoint, timeout=EXPORT_TIMEOUT_S)
            self._otlp += [spans, metrics]
            readers.append(PeriodicExportingMetricReader(metrics, interval_s * 1000, EXPORT_TIMEOUT_S * 1000))
            traces = TracerProvider(ParentBased(TraceIdRatioBased(trace_share)), resource, shutdown_on_exit=False)
            traces.add_span_processor(
                BatchSpanProcessor(spans, SPANS_WAITING, SPANS_EVERY_S * 1000, SPANS_PER_BATCH, EXPORT_TIMEOUT_S * 1000)
            )
            self._flush.append(traces.shutdown)
        meters = None
        if readers:
            meters = MeterProvider(readers, resource, exemplar_filter=AlwaysOffExemplarFilter(), shutdown_on_exit=False)
            self._flush.append(meters.shutdown)
        self.telemetry = Telemetry(meters, traces)

    @property
    def metrics_port(self) -> int | None:
        """The port that answers ``/metrics``; None = there is none."""
        return None if self._http is None else self._http.port

    def metrics(self) -> str:
        """All metrics in Prometheus' text format; empty where none are kept for it."""
        return "" if self._registry is None else generate_latest(self._registry).decode()

    def close(self, timeout_s: float = 2.0) -> None:
        """Send what waits, then stop; blocks, not much longer than ``timeout_s``, whatever the collector does."""
        end_s = time.monotonic() + timeout_s
        flushing = [threading.Thread(target=flush, daemon=True) for flush in self._flush]
        self._flush.clear()
        for thread in flushing:
            thread.start()
        for thread in flushing:
            thread.join(max(end_s - time.monotonic(), 0.0))
        if any(thread.is_alive() for thread in flushing):
            for exporter in self._otlp:
                exporter.shutdown()  # breaks off the attempt under way
            for thread in flushing:
                thread.join(_ABORT_S)
        if self._http is not None:
            self._http.close()
            self._http = None


class _MetricsPort:
    """An HTTP port that answers ``/metrics`` in Prometheus' text format."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        self._server: WSGIServer
        self._server, self._thread = start_http_server(port, host, registry)
        self.port = self._server.server_port

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def exporters(
    otlp_endpoint: str | None = None,
    metrics_port: int | None = None,
    trace_share: float = 0.0,
    *,
    host: str = "127.0.0.1",
    interval_s: float = 15.0,
    collect: bool = False,
) -> Exporters:
    """Start the exporters that a deployment asks for; with neither, telemetry costs nothing.

    Args:
        otlp_endpoint: ``http://host:port`` or ``https://host:port`` of a collector that speaks OTLP over gRPC.
        metrics_port: port for Prometheus; 0 takes a free one.
        trace_share: part of the calls without a caller's trace that are traced, 0-1; a call with one is traced when
            its caller's is.
        host: address that ``metrics_port`` listens on.
        interval_s: time between two exports of metrics to the collector.
        collect: keep metrics for ``Exporters.metrics`` also where no port shows them.

    Raises:
        ValueError: the endpoint is no such URL, or the share is not within 0-1; says which.
        OSError: the port cannot be taken.
    """
    if otlp_endpoint is not None:
        _check_endpoint(otlp_endpoint)
    if not 0 <= trace_share <= 1:
        raise ValueError(f"the share of traced calls is {trace_share}, it must lie between 0 and 1")
    return Exporters(otlp_endpoint, metrics_port, trace_share, host, interval_s, collect=collect)


def _check_endpoint(endpoint: str) -> None:
    try:
        parts = urlsplit(endpoint)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:  # not repeated: a URL may hold a password
        raise ValueError("the OTLP endpoint must look like http://host:4317 or https://host:4317")


def _resource() -> Resource:
    own = Resource(
        {
            "service.name": "terrace",
            "service.version": importlib.metadata.version("terrace"),
            "service.instance.id": str(uuid.uuid4()),
        }
    )
    return own.merge(OTELResourceDetector().detect())
