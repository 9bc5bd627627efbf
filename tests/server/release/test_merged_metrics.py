"""One page of metrics for several workers."""

from __future__ import annotations

import asyncio
import urllib.request
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from server.release.merged_metrics import MergedMetrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prometheus_client.core import Metric

Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def worker(calls: Mapping[str, int], lag_s: float, durations_s: Iterable[float]) -> str:
    """What a worker shows."""
    registry = CollectorRegistry()
    requests = Counter("requests", "Calls.", ["status"], registry=registry)
    for status, count in calls.items():
        requests.labels(status).inc(count)
    Gauge("lag_seconds", "Lag.", registry=registry).set(lag_s)
    duration = Histogram("duration_seconds", "Durations.", buckets=(0.1, 1.0), registry=registry)
    for seconds in durations_s:
        duration.observe(seconds)
    return generate_latest(registry).decode()


def values(families: Iterable[Metric]) -> Values:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


async def nobody() -> dict[str, str]:
    return {}


FIRST = worker({"OK": 3}, 0.5, [0.05, 0.5])
SECOND = worker({"OK": 4, "CANCELLED": 1}, 0.25, [5.0])
TOGETHER: Values = {
    ("requests_total", (("status", "OK"),)): 7,
    ("requests_total", (("status", "CANCELLED"),)): 1,
    ("duration_seconds_bucket", (("le", "0.1"),)): 1,
    ("duration_seconds_bucket", (("le", "1.0"),)): 2,
    ("duration_seconds_bucket", (("le", "+Inf"),)): 3,
    ("duration_seconds_count", ()): 3,
    ("duration_seconds_sum", ()): 5.55,
}


def test_counters_and_histograms_are_added_up_and_gauges_name_their_worker() -> None:
    merged = MergedMetrics(nobody, tuple)

    assert values(merged.merge({"0": FIRST, "1": SECOND})) == TOGETHER | {
        ("lag_seconds", (("worker", "0"),)): 0.5,
        ("lag_seconds", (("worker", "1"),)): 0.25,
    }


def test_what_a_worker_had_counted_when_it_ended_stays_counted() -> None:
    merged = MergedMetrics(nobody, tuple)
    merged.keep(FIRST)
    once = values(merged.merge({"1": SECOND}))
    merged.keep(SECOND)

    assert once == TOGETHER | {("lag_seconds", (("worker", "1"),)): 0.25}
    assert values(merged.merge({})) == TOGETHER
    assert values(merged.merge({})) == TOGETHER


async def test_the_page_is_collected_when_it_is_asked_for() -> None:
    async def both() -> dict[str, str]:
        return {"0": FIRST, "1": SECOND}

    merged = MergedMetrics(both, lambda: [GaugeMetricFamily("own", "Of the supervisor.", 7)])
    port = merged.serve("127.0.0.1", 0)
    try:
        with await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{port}/metrics", timeout=20) as page:
            found = values(text_string_to_metric_families(page.read().decode()))
    finally:
        await asyncio.to_thread(merged.close)

    assert found.items() >= TOGETHER.items()
    assert found["own", ()] == 7
