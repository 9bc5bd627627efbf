"""A server of the toy bundle in the test's own process, on a real port."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from server.edge.call_guard import CallGuard
from server.edge.servicer import Servicer
from server.overload.admission import Admission
from server.rungs.pipeline import Pipeline
from server.rungs.versions import Versions
from server.rungs.work_pool import WorkPool
from server.settings import Settings
from server.store.user_store import MemoryUserStore
from tests.server import toy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from core.bundle import Bundle
    from server.store.user_store import UserStore
    from server.telemetry.recorder import Call


@dataclass
class Running:
    """A server that answers.

    Attributes:
        calls: every call that has ended, as telemetry is told.
    """

    address: str
    edge: CallGuard
    admission: Admission
    pipeline: Pipeline
    work: WorkPool
    store: UserStore
    calls: list[Call]


@asynccontextmanager
async def running(
    settings: Settings | None = None,
    bundle: Bundle | None = None,
    store: UserStore | None = None,
    *,
    now_s: Callable[[], float] = lambda: 1000.0,
    rng: Callable[[], float] = lambda: 1.0,
    threads: int = 1,
) -> AsyncIterator[Running]:
    """Serve; by default nothing is exercised (``rng``)."""
    settings = settings or Settings(default_deadline_ms=20_000, max_request_ms=20_000)
    store = store or MemoryUserStore(("purchase",))
    work = WorkPool(threads=threads, max_jobs=16)
    calls: list[Call] = []
    admission = Admission(threads)
    edge = CallGuard(settings, admission, calls.append, rng)
    pipeline = Pipeline(bundle or toy.bundle(), store, work, settings, now_s=now_s)
    edge.versions = Versions.of(pipeline)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Servicer(settings, now_s=now_s).handler(edge),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield Running(f"127.0.0.1:{port}", edge, admission, pipeline, work, store, calls)
    finally:
        await server.stop(None)
        work.close()
