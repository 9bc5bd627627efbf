"""From folders of bundles to a warm pipeline: the newest bundle whose lower rungs can be used, with the rungs that can.

A bundle is used when its lower rungs are sound: files as listed, parts that open, golden answers that come again. Where
only the deep rung is not, it is disabled and the bundle is used all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from core.bundle import Fault
from core.manifest import BundleError
from server.loader import naming
from server.rungs.pipeline import Pipeline
from server.rungs.warm_up import Costs, GoldenDeepError, warm_up

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from core.bundle import Bundle
    from server.rungs.work_pool import WorkPool
    from server.settings import Settings
    from server.store.user_store import UserStore

T = TypeVar("T")
_log = logging.getLogger(__name__)


class PassedOver(NamedTuple):
    """A bundle that is not used although it is newer than the one that is."""

    version: str
    fault: Fault


@dataclass(frozen=True, slots=True)
class Started:
    """What is ready to answer.

    Attributes:
        pipeline: warm.

        store: the pipeline's user store; whoever started closes it.

        costs: what its quickest answers took.

        passed_over: newer bundles that cannot be used, newest first.
    """

    pipeline: Pipeline
    store: UserStore
    costs: Costs
    passed_over: tuple[PassedOver, ...]


async def start_up(
    folders: Sequence[Path],
    load: Callable[[Path], Bundle],
    open_store: Callable[[Bundle], UserStore],
    work: WorkPool,
    settings: Settings,
) -> Started:
    """Load and warm up the first bundle that can be used. May be cancelled at any time.

    Args:
        folders: of the bundles, in the order in which they are tried; at least one.
        load: opens a bundle; runs on a thread.
        open_store: makes the user store for a bundle.
        work: threads for slow generators and the model.
        settings: of the process.

    Raises:
        BundleError: none can be used; the message has each with its reason.
    """
    passed_over: list[PassedOver] = []
    for folder in folders:
        try:
            pipeline, store, costs = await _open(folder, load, open_store, work, settings)
        except BundleError as error:
            passed_over.append(PassedOver(folder.name, Fault.of(error)))
            if len(folders) > 1:
                _log.error("bundle %s is passed over (%s): %s", folder.name, error.cause, error)
        else:
            for tier, fault in pipeline.bundle.disabled.items():
                _log.error("bundle %s: %s is disabled (%s): %s", folder.name, tier.name, fault.cause, fault.text)
            return Started(pipeline, store, costs, tuple(passed_over))
    if len(passed_over) == 1:
        raise BundleError(passed_over[0].fault.text)
    each = "".join(f"\n  {version}: {fault.text}" for version, fault in passed_over)
    raise BundleError(f"none of {len(passed_over)} bundles can be used, newest first:{each}")


async def _open(
    folder: Path,
    load: Callable[[Path], Bundle],
    open_store: Callable[[Bundle], UserStore],
    work: WorkPool,
    settings: Settings,
) -> tuple[Pipeline, UserStore, Costs]:
    """A warm pipeline over one bundle, its store and what its answers cost."""
    with naming(folder):
        bundle = await _on_daemon_thread(partial(load, folder))
    store = open_store(bundle)
    try:
        with naming(folder):
            pipeline, costs = await _warm(bundle, store, work, settings)
    except BaseException:
        await store.close()
        raise
    return pipeline, store, costs


async def _warm(bundle: Bundle, store: UserStore, work: WorkPool, settings: Settings) -> tuple[Pipeline, Costs]:
    """A warm pipeline over the bundle, without the deep rung where that does not answer as it should."""
    pipeline = Pipeline(bundle, store, work, settings)
    try:
        return pipeline, await warm_up(pipeline, settings.warm_up_requests)
    except GoldenDeepError as error:
        pipeline = Pipeline(bundle.without_deep(Fault.of(error)), store, work, settings)
    return pipeline, await warm_up(pipeline, settings.warm_up_requests)


async def _on_daemon_thread(work: Callable[[], T]) -> T:
    """The result of ``work``; a process that is asked to end does not wait for it, as it would for ``asyncio.to_thread``."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - raised where it is awaited
            settle(future.set_exception, error)
        else:
            settle(future.set_result, result)

    def settle(how: Callable[..., None], what: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(lambda: None if future.done() else how(what))

    threading.Thread(target=run, name="load", daemon=True).start()
    return await future
