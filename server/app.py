"""The composition root of one serving process: builds the parts, starts, warms up, drains."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from typing import TYPE_CHECKING

import grpc
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from core.manifest import BundleError
from server.edge.accept_queue import AcceptQueueProbe
from server.edge.call_guard import CallGuard
from server.edge.servicer import SERVICE, Servicer
from server.gauges import watch
from server.loader import load_bundle
from server.overload.admission import Admission
from server.overload.loop_lag import LoopLag
from server.overload.vegas import Vegas
from server.rungs.pipeline import Pipeline
from server.rungs.warm_up import warm_up
from server.rungs.work_pool import WorkPool
from server.settings import LEAST_DEEP
from server.store.user_store import MemoryUserStore, RedisUserStore
from server.telemetry.exporters import exporters

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core.bundle import Bundle
    from server.settings import Settings
    from server.store.user_store import UserStore

EXIT_BUNDLE = 2
MAX_MESSAGE_BYTES = 256 * 1024
MAX_METADATA_BYTES = 8 * 1024
MAX_STREAMS = 100
SWITCH_INTERVAL_S = 0.0002
"""How long a thread may keep the interpreter from one that waits; Python's 5 ms is a tenth of a request's budget."""
_OPTIONS = (
    ("grpc.so_reuseport", 0),  # a second process on the port must fail, not steal calls
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 20_000),  # clients ping every 30 s
)
_log = logging.getLogger(__name__)


class _Undeliverable(logging.Filter):
    """Leaves out what gRPC logs, with a traceback, when an answer finds its caller gone: telemetry counts these."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is another one."""
        return "ExecuteBatchError" not in record.getMessage()


class ServeError(Exception):
    """The process cannot serve; the message says what to do."""


def run(
    settings: Settings,
    bundle_folder: Path,
    on_ready: Callable[[int], None] | None = None,
    load: Callable[[Path], Bundle] = load_bundle,
) -> int:
    """Serve until asked to stop; the exit code of the process.

    Args:
        settings: what the deployment chose.
        bundle_folder: what to answer from.
        on_ready: called with the port once calls are answered.
        load: opens the bundle.

    Returns:
        0 after a clean drain; 2 when bundle, port or store URL cannot be used, which is said on standard error.
    """
    try:
        uvloop.run(serve(settings, bundle_folder, on_ready, load))
    except (BundleError, ServeError) as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_BUNDLE
    return 0


async def serve(
    settings: Settings,
    bundle_folder: Path,
    on_ready: Callable[[int], None] | None = None,
    load: Callable[[Path], Bundle] = load_bundle,
) -> None:
    """Listen, load, warm up, answer; on SIGTERM or SIGINT drain and return. Arguments as for ``run``.

    Until it is warm, health says NOT_SERVING and calls are refused with UNAVAILABLE.

    Raises:
        BundleError: the bundle cannot be used.
        ServeError: the port cannot be taken, or the store's URL is none.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    logging.getLogger("grpc._cython.cygrpc").addFilter(_Undeliverable())
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        exported = exporters(settings.otlp_endpoint, settings.metrics_port, settings.trace_share, host=settings.host)
    except (ValueError, OSError) as error:
        raise ServeError(f"cannot export telemetry: {error}") from None
    admission = Admission(Vegas(initial=LEAST_DEEP * 2, lowest=LEAST_DEEP, highest=settings.most_deep))
    edge = CallGuard(settings, admission, exported.telemetry.record)
    status = health.aio.HealthServicer()
    door = AcceptQueueProbe(lambda: admission.calls)
    server, port = await _listen(settings, (Servicer(settings).handler(edge), door.handler()), status, door.address)
    work = WorkPool(settings.threads, settings.slots)
    lag = LoopLag(lambda seconds: admission.notice_lag(max(seconds, door.wait_s)))
    store: UserStore | None = None
    try:
        # Nobody is answered yet, so that a load which holds the GIL disturbs nobody.
        bundle = await asyncio.to_thread(load, bundle_folder)
        store = _open_store(settings, bundle)
        pipeline = Pipeline(bundle, store, work, settings)
        admission.seed(await warm_up(pipeline, settings.warm_up_requests))
        for breaker in pipeline.breakers.values():
            if breaker.opened:
                _log.warning("%s failed in warm-up", breaker.name)
            breaker.start_over()
        door.open()
        watch(exported.telemetry, admission=admission, pipeline=pipeline, work=work, store=store, lag=lag, door=door)
        # What was loaded lives as long as the process: a collection that walks a million ids stops every request.
        gc.collect()
        gc.freeze()
        edge.pipeline = pipeline
        await _say(status, serving=True)
        _log.info("serving bundle %s on port %d", bundle.version, port)
        if on_ready is not None:
            on_ready(port)
        await stopping.wait()
    finally:
        await status.enter_graceful_shutdown()
        await door.close()
        await server.stop(settings.drain_s)
        work.close()
        lag.close()
        if store is not None:
            await store.close()
        await asyncio.to_thread(exported.close)


async def _listen(
    settings: Settings, handlers: tuple[grpc.GenericRpcHandler, ...], status: health.aio.HealthServicer, door: str
) -> tuple[grpc.aio.Server, int]:
    server = grpc.aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers(handlers)
    server.add_insecure_port(door)
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    await _say(status, serving=False)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        port = server.add_insecure_port(f"{host}:{settings.port}")
    except RuntimeError:
        raise ServeError(
            f"cannot listen on {host}:{settings.port}. Is another server running there? Choose another port"
        ) from None
    await server.start()
    return server, port


async def _say(status: health.aio.HealthServicer, *, serving: bool) -> None:
    answer = health_pb2.HealthCheckResponse
    for service in ("", SERVICE):
        await status.set(service, answer.SERVING if serving else answer.NOT_SERVING)


def _open_store(settings: Settings, bundle: Bundle) -> UserStore:
    seen_types = bundle.manifest.seen_types
    if settings.store_url is None:
        return MemoryUserStore(seen_types)
    try:
        return RedisUserStore(
            settings.store_url, settings.namespace, seen_types, max_connections=settings.store_connections
        )
    except ValueError as error:  # names what is wrong, not the URL: it may hold a password
        raise ServeError(f"the user store: {error}") from None
