"""The composition root of one serving process: builds the parts, starts, serves, drains."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import grpc
import uvloop
from grpc_health.v1 import health_pb2_grpc

from core.manifest import BundleError
from core.precomputed import RowSpace
from core.release import Release
from core.types import Tier
from server.edge.accept_queue import AcceptQueueProbe
from server.edge.call_guard import CallGuard
from server.edge.servicer import SERVICE, Servicer
from server.gauges import add_bundle_gauges, add_gauges, add_store_gauges, add_version_gauges
from server.health import Health
from server.listening import PortError, connections, reserved_port, stop_listening
from server.loader import load_sound_rungs
from server.overload.admission import Admission
from server.overload.loop_lag import LoopLag
from server.rungs.shadow import Shadow
from server.rungs.versions import Versions
from server.rungs.work_pool import WorkPool
from server.signature import trusted
from server.start_up import start_up
from server.store.user_store import MemoryUserStore, RedisUserStore
from server.telemetry.exporters import exporters
from server.telemetry.observer import Observer
from server.telemetry.queued_log import queued_log

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from core.bundle import Bundle
    from server.rungs.pipeline import Pipeline
    from server.settings import Settings
    from server.start_up import Started
    from server.store.user_store import UserStore
    from server.telemetry.exporters import Exporters
    from server.telemetry.recorder import Call, Telemetry

T = TypeVar("T")
EXIT_BUNDLE = 2
MAX_MESSAGE_BYTES = 256 * 1024
MAX_METADATA_BYTES = 8 * 1024
MAX_STREAMS = 100
_AGE_JITTER = 1.1
"""gRPC closes connections up to a tenth before or after their age."""
_LOOK_S = 0.05
SWITCH_INTERVAL_S = 0.0002
"""How long a thread may keep the interpreter from one that waits; Python's 5 ms is a tenth of a request's budget."""
_OPTIONS = (
    ("grpc.so_reuseport", 1),  # workers share the port; ``reserved_port`` keeps others from it
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


class StopRequests:
    """What asks the process to stop: SIGTERM and SIGINT, or its supervisor.

    Attributes:
        first: stop.

        second: lose no time with it.

        replaced: whether others answer on this port when this process has stopped.
    """

    def __init__(self, *, replaced: bool) -> None:
        """Listen to signals.

        Args:
            replaced: what a signal means.
        """
        self.first, self.second, self.replaced = asyncio.Event(), asyncio.Event(), replaced
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.stop)

    def stop(self, *, replaced: bool | None = None) -> None:
        """Ask, or ask again."""
        if self.first.is_set():
            self.second.set()
            return
        self.replaced = self.replaced if replaced is None else replaced
        self.first.set()

    async def unless_first(self, work: Coroutine[object, object, T]) -> T | None:
        """The result of ``work``, which is cancelled by the first request; None then."""
        task, asked = asyncio.ensure_future(work), asyncio.ensure_future(self.first.wait())
        await asyncio.wait((task, asked), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))
        return None if task.cancelled() else task.result()


@dataclass(frozen=True)
class Serving:
    """A process that answers.

    Attributes:
        versions: what it answers from.

        port: where.

        metrics: their text in Prometheus' format; blocks for a moment.

        observer: what was answered from each version.

        stop: how it is asked to stop.
    """

    versions: Versions
    port: int
    metrics: Callable[[], str]
    observer: Observer
    stop: StopRequests


def run(
    settings: Settings,
    folder: Path,
    on_ready: Callable[[str, int], None] | None = None,
    load: Callable[[Path], Bundle] | None = None,
) -> int:
    """Serve one bundle from this process until asked to stop; the exit code of the process.

    Args:
        settings: what the deployment chose.
        folder: of the bundle to answer from.
        on_ready: called with the bundle's version and the port once calls are answered.
        load: opens a bundle; None opens it as the settings say, with the rungs that are sound.

    Returns:
        0 after a clean drain; 2 when bundle, port or store URL cannot be used, with the reason on standard error.
    """

    def ready(serving: Serving) -> None:
        if on_ready is not None:
            on_ready(serving.versions.live.bundle.version, serving.port)

    try:
        with reserved_port(settings.host, settings.port) as port:
            opens = load or partial(load_sound_rungs, keys=trusted(map(Path, settings.public_keys)))
            uvloop.run(serve(replace(settings, port=port), (folder,), opens, ready))
    except (BundleError, ServeError, PortError) as error:
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
    load: Callable[[Path], Bundle],
    on_ready: Callable[[Serving], None],
    on_end: Callable[[str], None] | None = None,
    *,
    release: Release | None = None,
    grouped: bool = False,
) -> None:
    """Load, warm up, listen, answer; on SIGTERM or SIGINT drain and return. Log lines are written by a thread meanwhile.

    Until it is warm nothing listens. Asked to stop before that, it returns at once.

    Args:
        settings: what the deployment chose; the port is reserved (``server.listening``).
        folders: of the bundles to hold; the first is answered from where ``release`` says nothing else.
        load: opens a bundle.
        on_ready: called once calls are answered.
        on_end: called with the last metrics when all calls have ended.
        release: which bundle answers whom.
        grouped: whether this is a worker of several: others answer on the port when a signal asks it to stop, and its
            supervisor shows its metrics.

    Raises:
        BundleError: a bundle cannot be used.
        ServeError: the port cannot be taken, or the store's URL is none.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    logging.getLogger("grpc._cython.cygrpc").addFilter(_Undeliverable())
    stop = StopRequests(replaced=grouped)
    async with AsyncExitStack() as stack:
        log = stack.enter_context(queued_log(logging.getLogger()))
        exported = _exporters(settings, grouped=grouped)
        stack.push_async_callback(asyncio.to_thread, exported.close)
        work = WorkPool(settings.threads, settings.max_jobs)
        stack.callback(work.close)
        loaded: list[Started] = []
        for folder in folders:
            started = await stop.unless_first(
                start_up(folder, load, lambda bundle: _open_store(settings, bundle), work, settings)
            )
            if started is None:
                _log.info("asked to stop before a bundle was ready")
                return
            stack.push_async_callback(started.store.close)
            stack.push_async_callback(started.pipeline.refresh.close)
            loaded.append(started)
        versions = _versions(loaded, release)
        admission = Admission(min(settings.threads, os.cpu_count() or 1))
        admission.seed(*loaded[0].costs)
        observer = Observer(versions.pipelines)
        shadow = Shadow(settings, admission, observer)
        stack.push_async_callback(shadow.close)
        edge = CallGuard(settings, admission, _recorder(exported.telemetry, observer))
        probe = AcceptQueueProbe(lambda: edge.arrived)
        lag = LoopLag(lambda seconds: admission.observe_delay(max(seconds, probe.wait_s)))
        stack.callback(lag.close)
        add_gauges(exported.telemetry, admission=admission, versions=versions, work=work, lag=lag, probe=probe)
        add_bundle_gauges(exported.telemetry, [started.pipeline.bundle for started in loaded], log)
        add_store_gauges(exported.telemetry, {started.pipeline.bundle.version: started.store for started in loaded})
        # What was loaded lives as long as the process: a collection that walks a million ids stops every request.
        gc.collect()
        gc.freeze()
        edge.versions = versions
        status = Health(SERVICE)
        await status.set_rungs(_rungs(versions.live))
        server = await _listen(
            settings, (Servicer(settings, shadow).handler(edge), probe.handler()), status, probe.address
        )
        try:
            probe.start()
            _log.info("serving bundle %s on port %d", versions.live.bundle.version, settings.port)
            on_ready(Serving(versions, settings.port, exported.metrics, observer, stop))
            await stop.first.wait()
            await status.enter_graceful_shutdown()
            await (_leave_port(settings, stop) if stop.replaced else _lame_duck(settings.lame_duck_s, stop))
        finally:
            await status.enter_graceful_shutdown()
            await probe.close()
            await server.stop(settings.drain_s)
            if on_end is not None:
                on_end(exported.metrics())


def _exporters(settings: Settings, *, grouped: bool) -> Exporters:
    port = None if grouped else settings.metrics_port
    collect = settings.metrics_port is not None
    try:
        return exporters(settings.otlp_endpoint, port, settings.trace_share, host=settings.host, collect=collect)
    except (ValueError, OSError) as error:
        raise ServeError(f"cannot export telemetry: {error}") from None


def _recorder(telemetry: Telemetry, observer: Observer) -> Callable[[Call], None]:
    """Tells both of every call."""
    add_version_gauges(telemetry, observer)

    def record(call: Call) -> None:
        telemetry.record(call)
        observer.observe(call)

    return record


def _versions(loaded: Sequence[Started], release: Release | None) -> Versions:
    """What was loaded, answering as the release document says where it can be followed."""
    pipelines = {started.pipeline.bundle.version: started.pipeline for started in loaded}
    versions = Versions(pipelines, Release.of(loaded[0].pipeline.bundle.version))
    if release is not None:
        versions.follow(release)
    return versions


async def _leave_port(settings: Settings, stop: StopRequests) -> None:
    """Take no new connections, and answer on until each of those there are has reached its age and is closed.

    ``server.stop`` alone would cancel calls that are on their way, see docs/design.md, section 6.
    """
    _log.info(
        "being replaced: no new connections; those there are close at the age of %g s", settings.max_connection_age_s
    )
    stop_listening(settings.port)
    end_s = time.monotonic() + _AGE_JITTER * settings.max_connection_age_s + settings.drain_s
    while connections(settings.port) and time.monotonic() < end_s and not stop.second.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.second.wait(), _LOOK_S)


async def _lame_duck(seconds: float, stop: StopRequests) -> None:
    """Answer on while health says NOT_SERVING, so that callers can turn elsewhere before calls are refused."""
    _log.info("asked to stop: answering for another %g s; a second signal ends this", seconds)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.second.wait(), seconds)


async def _listen(
    settings: Settings, handlers: tuple[grpc.GenericRpcHandler, ...], status: Health, probe: str
) -> grpc.aio.Server:
    ages = (
        ("grpc.max_connection_age_ms", round(settings.max_connection_age_s * 1000)),
        ("grpc.max_connection_age_grace_ms", round(settings.drain_s * 1000)),
    )
    server = grpc.aio.server(options=_OPTIONS + ages)
    server.add_generic_rpc_handlers(handlers)
    try:
        server.add_insecure_port(probe)
    except RuntimeError:
        raise ServeError(
            "cannot open an abstract Unix socket to measure how long calls wait; this needs Linux"
        ) from None
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        server.add_insecure_port(f"{host}:{settings.port}")
    except RuntimeError:
        raise ServeError(
            f"cannot listen on {host}:{settings.port}. Is another server running there? Choose another port"
        ) from None
    await server.start()
    return server


def _rungs(pipeline: Pipeline) -> set[Tier]:
    """The rungs that answers may come from; that of lists wherever the store can hold any, whoever has one."""
    rungs = {Tier.POPULARITY, Tier.CF}
    if pipeline.has_lists:
        rungs.add(Tier.PRECOMPUTED)
    if pipeline.deep is not None:
        rungs.add(Tier.DEEP)
    return rungs


def _open_store(settings: Settings, bundle: Bundle) -> UserStore:
    seen_types = bundle.manifest.seen_types
    if settings.store_url is None:
        return MemoryUserStore(seen_types)
    lists = RowSpace(bundle.version, len(bundle.catalogue))
    try:
        return RedisUserStore(
            settings.store_url,
            settings.namespace,
            seen_types,
            lists,
            max_connections=settings.store_connections,
            slow_s=settings.store_timeout_ms / 1000,
        )
    except ValueError as error:  # names what is wrong, not the URL: it may hold a password
        raise ServeError(f"the user store: {error}") from None
