"""One page of metrics for all workers of a host.

Counters and histograms are added up, and go on counting what workers had counted that have ended, so that none ever
falls. Gauges say what one worker sees and carry its name in the label ``worker``.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
    from wsgiref.simple_server import WSGIServer


_TIMEOUT_S = 5.0
_ADDED_UP = frozenset({"counter", "histogram"})


class MergedMetrics(Collector):
    """Collects from workers when it is asked; its page is served by a thread of its own."""

    def __init__(
        self, ask: Callable[[], Coroutine[object, object, Mapping[str, str]]], own: Callable[[], Iterable[Metric]]
    ) -> None:
        """Nothing is served before ``serve``.

        Args:
            ask: the text of each worker's metrics, by its name; called on the event loop.
            own: what is shown besides; called on the page's thread.
        """
        self._ask = ask
        self._ended: dict[str, Metric] = {}
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._own = own
        self._server: tuple[WSGIServer, threading.Thread] | None = None

    def serve(self, host: str, port: int) -> int:
        """Answer ``/metrics`` from now on; returns the port.

        Raises:
            OSError: the port cannot be taken.
        """
        self._loop = asyncio.get_running_loop()
        registry = CollectorRegistry()
        registry.register(self)
        self._server = start_http_server(port, host, registry)
        return self._server[0].server_port

    def close(self) -> None:
        """Stop answering."""
        if self._server is not None:
            server, thread = self._server
            server.shutdown()
            server.server_close()
            thread.join()

    def keep(self, text: str) -> None:
        """Go on counting what a worker had counted when it ended."""
        with self._lock:
            for family in text_string_to_metric_families(text):
                if family.type in _ADDED_UP:
                    _add(self._ended, family)

    def describe(self) -> list[Metric]:
        """Nothing: what workers show is not known before they are asked."""
        return []

    def collect(self) -> Iterator[Metric]:
        """See ``Collector``; called on the page's thread."""
        assert self._loop is not None  # noqa: S101 - it is served
        asked = asyncio.run_coroutine_threadsafe(self._ask(), self._loop)
        yield from self.merge(asked.result(_TIMEOUT_S))
        yield from self._own()

    def merge(self, texts: Mapping[str, str]) -> Iterator[Metric]:
        """One family for each name, of the metrics of workers by the worker's name."""
        found: dict[str, Metric] = {}
        with self._lock:
            for family in self._ended.values():
                _add(found, family)
        for worker, text in texts.items():
            for family in text_string_to_metric_families(text):
                if family.type in _ADDED_UP:
                    _add(found, family)
                else:
                    gauges = found.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                    for sample in family.samples:
                        gauges.add_sample(sample.name, {**sample.labels, "worker": worker}, sample.value)
        yield from found.values()


def _add(found: dict[str, Metric], family: Metric) -> None:
    """Add a family's samples to those of the same name and labels."""
    known = found.get(family.name)
    sums = {(s.name, tuple(sorted(s.labels.items()))): s for s in known.samples} if known else {}
    merged = Metric(family.name, family.documentation, family.type)
    for sample in family.samples:
        key = sample.name, tuple(sorted(sample.labels.items()))
        before = sums.pop(key).value if key in sums else 0.0
        merged.add_sample(sample.name, sample.labels, sample.value + before)
    for sample in sums.values():
        merged.add_sample(sample.name, sample.labels, sample.value)
    found[family.name] = merged
