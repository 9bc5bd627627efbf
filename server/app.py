"""The composition root of one serving process: builds the parts, starts, serves, drains."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import grpc
import uvloop
from grpc_health.v1 import health_pb2_grpc

from core.manifest import BundleError
from core.types import Tier
from server.edge.accept_queue import AcceptQueueProbe
from server.edge.call_guard import CallGuard
from server.edge.servicer import SERVICE, Servicer
from server.gauges import add_bundle_gauges, add_gauges
from server.health import Health
from server.loader import load_sound_rungs
from server.overload.admission import Admission
from server.overload.loop_lag import LoopLag
from server.rungs.work_pool import WorkPool
from server.start_up import start_up
from server.store.user_store import MemoryUserStore, RedisUserStore
from server.telemetry.exporters import exporters
from server.telemetry.queued_log import queued_log

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from core.bundle import Bundle
    from server.settings import Settings
    from server.start_up import Started
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


class _StopRequests:
    """SIGTERM and SIGINT: the first asks the process to stop, the second to lose no time with it."""

    def __init__(self) -> None:
        self.first, self.second = asyncio.Event(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._note)

    def _note(self) -> None:
        (self.second if self.first.is_set() else self.first).set()

    async def unless_first(self, work: Coroutine[object, object, Started]) -> Started | None:
        """The result of ``work``, which is cancelled by the first request; None then."""
        task, asked = asyncio.ensure_future(work), asyncio.ensure_future(self.first.wait())
        await asyncio.wait((task, asked), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))
        return None if task.cancelled() else task.result()


def run(
    settings: Settings,
    folders: Sequence[Path],
    on_ready: Callable[[str, int], None] | None = None,
    load: Callable[[Path], Bundle] = load_sound_rungs,
) -> int:
    """Serve until asked to stop; the exit code of the process.

    Args:
        settings: what the deployment chose.
        folders: of the bundles to answer from, in the order in which they are tried; the first that can be used is.
        on_ready: called with the bundle's version and the port once calls are answered.
        load: opens a bundle.

    Returns:
        0 after a clean drain; 2 when bundles, port or store URL cannot be used, with the reason on standard error.
    """
    try:
        uvloop.run(serve(settings, folders, on_ready, load))
    except (BundleError, ServeError) as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_BUNDLE
    return 0


def leave(code: int) -> NoReturn:
    """End the process without the interpreter's ordinary end, once everything is closed.

    Threads that still load a bundle or run the model in native code are ended by the interpreter when they come back
    from it, which C++ takes for an error and aborts the process.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


async def serve(
    settings: Settings,
    folders: Sequence[Path],
    on_ready: Callable[[str, int], None] | None = None,
    load: Callable[[Path], Bundle] = load_sound_rungs,
) -> None:
    """Listen, load, warm up, answer; on SIGTERM or SIGINT drain and return. Arguments as for ``run``.

    Until it is warm, health says NOT_SERVING and calls are refused with UNAVAILABLE; asked to stop before that, it
    returns at once. Log lines are written by a thread meanwhile.

    Raises:
        BundleError: no bundle can be used.
        ServeError: the port cannot be taken, or the store's URL is none.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    logging.getLogger("grpc._cython.cygrpc").addFilter(_Undeliverable())
    stop = _StopRequests()
    with queued_log(logging.getLogger()) as log:
        try:
            exported = exporters(
                settings.otlp_endpoint, settings.metrics_port, settings.trace_share, host=settings.host
            )
        except (ValueError, OSError) as error:
            raise ServeError(f"cannot export telemetry: {error}") from None
        admission = Admission(min(settings.threads, os.cpu_count() or 1))
        edge = CallGuard(settings, admission, exported.telemetry.record)
        status = Health(SERVICE)
        probe = AcceptQueueProbe(lambda: edge.arrived)
        server, port = await _listen(
            settings, (Servicer(settings).handler(edge), probe.handler()), status, probe.address
        )
        work = WorkPool(settings.threads, settings.max_jobs)
        lag = LoopLag(lambda seconds: admission.observe_delay(max(seconds, probe.wait_s)))
        started: Started | None = None
        try:
            # Nobody is answered yet, so that a load which holds the GIL disturbs nobody.
            started = await stop.unless_first(
                start_up(folders, load, lambda bundle: _open_store(settings, bundle), work, settings)
            )
            if started is None:
                _log.info("asked to stop before a bundle was ready")
                return
            pipeline, store = started.pipeline, started.store
            admission.seed(*started.costs)
            probe.start()
            add_gauges(
                exported.telemetry, admission=admission, pipeline=pipeline, work=work, store=store, lag=lag, probe=probe
            )
            add_bundle_gauges(exported.telemetry, started, log)
            # What was loaded lives as long as the process: a collection that walks a million ids stops every request.
            gc.collect()
            gc.freeze()
            edge.pipeline = pipeline
            await status.set_rungs({Tier.POPULARITY, Tier.CF} | ({Tier.DEEP} if pipeline.deep else set()))
            version = pipeline.bundle.version
            _log.info("serving bundle %s on port %d", version, port)
            if on_ready is not None:
                on_ready(version, port)
            await stop.first.wait()
            await status.enter_graceful_shutdown()
            await _lame_duck(settings.lame_duck_s, stop)
        finally:
            await status.enter_graceful_shutdown()
            await probe.close()
            await server.stop(settings.drain_s)
            work.close()
            lag.close()
            if started is not None:
                await started.store.close()
            await asyncio.to_thread(exported.close)


async def _lame_duck(seconds: float, stop: _StopRequests) -> None:
    """Answer on while health says NOT_SERVING, so that callers can turn elsewhere before calls are refused."""
    _log.info("asked to stop: answering for another %g s; a second signal ends this", seconds)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.second.wait(), seconds)


async def _listen(
    settings: Settings, handlers: tuple[grpc.GenericRpcHandler, ...], status: Health, probe: str
) -> tuple[grpc.aio.Server, int]:
    server = grpc.aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers(handlers)
    try:
        server.add_insecure_port(probe)
    except RuntimeError:
        raise ServeError(
            "cannot open an abstract Unix socket to measure how long calls wait; this needs Linux"
        ) from None
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    await status.set_rungs(())
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        port = server.add_insecure_port(f"{host}:{settings.port}")
    except RuntimeError:
        raise ServeError(
            f"cannot listen on {host}:{settings.port}. Is another server running there? Choose another port"
        ) from None
    await server.start()
    return server, port


def _open_store(settings: Settings, bundle: Bundle) -> UserStore:
    seen_types = bundle.manifest.seen_types
    if settings.store_url is None:
        return MemoryUserStore(seen_types)
    try:
        return RedisUserStore(
            settings.store_url,
            settings.namespace,
            seen_types,
            max_connections=settings.store_connections,
            slow_s=settings.store_timeout_ms / 1000,
        )
    except ValueError as error:  # names what is wrong, not the URL: it may hold a password
        raise ServeError(f"the user store: {error}") from None
