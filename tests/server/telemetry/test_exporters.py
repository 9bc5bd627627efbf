"""Telemetry over real ports: a collector, Prometheus, and collectors that are not there."""

from __future__ import annotations

import asyncio
import re
import socket
import time
import urllib.request
from concurrent import futures
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
import pytest
import uvloop
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as traces_grpc

from server.telemetry.exporters import exporters
from tests.server.telemetry.test_recorder import CALL, SAMPLED, UNSAMPLED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from opentelemetry.proto.common.v1.common_pb2 import KeyValue

GENEROUS_S = 10.0
"""Far more than anything here takes, far less than the exporters' own patience."""


class Collector:
    """Takes what OTLP exporters send."""

    def __init__(self) -> None:
        self.traces: list[traces.ExportTraceServiceRequest] = []
        self.metrics: list[metrics.ExportMetricsServiceRequest] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
        traces_grpc.add_TraceServiceServicer_to_server(_Traces(self), self._server)
        metrics_grpc.add_MetricsServiceServicer_to_server(_Metrics(self), self._server)
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    def spans(self) -> list[dict[str, Any]]:
        return [
            _plain(span.attributes)
            for request in self.traces
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def counter(self, name: str) -> list[tuple[dict[str, Any], float]]:
        """Series of a counter in the newest export."""
        return [
            (_plain(point.attributes), point.as_int)
            for resource in self.metrics[-1].resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.sum.data_points
        ]


class _Traces(traces_grpc.TraceServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def Export(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 - the generated name
        self._collector.traces.append(request)
        return traces.ExportTraceServiceResponse()


class _Metrics(metrics_grpc.MetricsServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def Export(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 - the generated name
        self._collector.metrics.append(request)
        return metrics.ExportMetricsServiceResponse()


def _plain(attributes: Any) -> dict[str, Any]:
    def value(pair: KeyValue) -> Any:
        return getattr(pair.value, str(pair.value.WhichOneof("value")))

    return {pair.key: value(pair) for pair in attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.stop()


@pytest.fixture
def refused() -> Iterator[str]:
    """An endpoint where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def silent() -> Iterator[str]:
    """An endpoint that takes connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_what_waits_reaches_the_collector_when_exporters_close(collector: Collector) -> None:
    out = exporters(collector.endpoint, trace_share=1.0, interval_s=3600)
    for _ in range(300):
        out.telemetry.record(CALL)
    out.close(GENEROUS_S)
    assert len(collector.spans()) == 300
    assert collector.spans()[0]["terrace.tier"] == "DEEP"
    call = {"method": "Recommend", "status": "OK", "tier": "DEEP", "criticality": "user"}
    assert collector.counter("terrace.requests") == [(call, 300)]


def test_a_share_of_nothing_traces_only_what_the_caller_traces(collector: Collector) -> None:
    out = exporters(collector.endpoint, trace_share=0.0, interval_s=3600)
    for parent in ("", UNSAMPLED, SAMPLED):
        out.telemetry.record(replace(CALL, parent=parent))
    out.close(GENEROUS_S)
    assert len(collector.spans()) == 1


def test_a_deployment_names_its_service(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=staging,service.name=shop")
    out = exporters(collector.endpoint, trace_share=1.0, interval_s=3600)
    out.telemetry.record(CALL)
    out.close(GENEROUS_S)
    resource = _plain(collector.traces[0].resource_spans[0].resource.attributes)
    assert resource["service.name"] == "shop"
    assert resource["deployment.environment.name"] == "staging"
    assert resource["service.version"]


def test_prometheus_reads_the_metrics_from_their_port() -> None:
    out = exporters(metrics_port=0)
    out.telemetry.add_observable("terrace.limit", "{call}", "Calls that may be in flight.", lambda: [(7, {})])
    out.telemetry.record(CALL)
    with urllib.request.urlopen(f"http://127.0.0.1:{out.metrics_port}/metrics", timeout=GENEROUS_S) as response:
        text = response.read().decode()
    out.close()
    call = 'criticality="user",method="Recommend",status="OK",tier="DEEP"'
    assert f"terrace_requests_total{{{call}}} 1.0\n" in text
    assert 'terrace_request_duration_seconds_bucket{criticality="user",le="0.005",' in text
    assert 'terrace_stage_duration_seconds_count{stage="score"} 1.0\n' in text
    assert 'terrace_rows_scored_total{method="Recommend",tier="DEEP"} 30.0\n' in text
    assert "terrace_limit 7.0\n" in text
    assert set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)) == {
        "target_info",
        "terrace_requests_total",
        "terrace_rows_scored_total",
        "terrace_rows_pool_total",
        "terrace_request_duration_seconds",
        "terrace_stage_duration_seconds",
        "terrace_limit",
    }
    assert out.metrics_port is None


def test_collector_and_prometheus_are_told_the_same(collector: Collector) -> None:
    out = exporters(collector.endpoint, 0, interval_s=3600)
    for _ in range(3):
        out.telemetry.record(CALL)
    with urllib.request.urlopen(f"http://127.0.0.1:{out.metrics_port}/metrics", timeout=GENEROUS_S) as response:
        assert 'terrace_rows_pool_total{method="Recommend",tier="DEEP"} 120.0' in response.read().decode()
    out.close(GENEROUS_S)
    assert collector.counter("terrace.rows.pool") == [({"method": "Recommend", "tier": "DEEP"}, 120)]


@pytest.mark.parametrize("endpoint", ["refused", "silent"])
def test_closing_does_not_wait_for_a_collector_that_is_away(endpoint: str, request: pytest.FixtureRequest) -> None:
    out = exporters(request.getfixturevalue(endpoint), trace_share=1.0, interval_s=0.05)
    for _ in range(300):
        out.telemetry.record(CALL)
    before_s = time.monotonic()
    out.close(0.2)
    assert time.monotonic() - before_s < GENEROUS_S / 2
    out.close()  # once more does nothing


@pytest.mark.parametrize("endpoint", ["refused", "silent"])
def test_calls_are_answered_while_the_collector_is_away(endpoint: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(endpoint)

    async def serve() -> None:
        out = exporters(url, trace_share=1.0, interval_s=0.01)

        async def echo(raw: bytes, _context: Any) -> bytes:
            out.telemetry.record(CALL)
            return raw

        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(echo)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", {"Echo": handler}),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            for i in range(500):
                assert await channel.unary_unary("/test/Echo")(b"%d" % i, timeout=GENEROUS_S) == b"%d" % i
        await server.stop(None)
        await asyncio.to_thread(out.close, 0.1)

    uvloop.run(serve())


@pytest.mark.parametrize(
    "endpoint",
    ["", "collector", "collector:4317", "ftp://collector:4317", "http://", "http://:4317", "http://h:x", "http://h:0"],
)
def test_an_endpoint_that_is_none_is_refused_and_not_repeated(endpoint: str) -> None:
    with pytest.raises(ValueError, match=r"^the OTLP endpoint must look like http://host:4317 "):
        exporters(endpoint)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        exporters(trace_share=share)


def test_a_port_that_is_taken_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            exporters(metrics_port=taken.getsockname()[1])


def test_nowhere_to_go_starts_nothing() -> None:
    out = exporters()
    out.telemetry.record(CALL)
    out.close()
    assert out.metrics_port is None
