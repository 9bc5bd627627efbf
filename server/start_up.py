"""From the folder of a bundle to a warm pipeline, with the rungs that can be used.

A bundle is used when its lower rungs are sound: files as listed, parts that open, golden answers that come again. Where
only the deep rung is not, it is disabled and the bundle is used all the same.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from core.manifest import Fault
from server.daemon_thread import on_daemon_thread
from server.loader import naming
from server.rungs.pipeline import Pipeline
from server.rungs.warm_up import Costs, GoldenDeepError, warm_up

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core.bundle import Bundle
    from server.rungs.work_pool import WorkPool
    from server.settings import Settings
    from server.store.user_store import UserStore

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Started:
    """What is ready to answer.

    Attributes:
        pipeline: warm.

        store: the pipeline's user store; whoever started closes it.

        costs: what its quickest answers took.
    """

    pipeline: Pipeline
    store: UserStore
    costs: Costs


async def start_up(
    folder: Path,
    load: Callable[[Path], Bundle],
    open_store: Callable[[Bundle], UserStore],
    work: WorkPool,
    settings: Settings,
) -> Started:
    """Load and warm up a bundle. May be cancelled at any time.

    Args:
        folder: of the bundle.
        load: opens it; runs on a thread.
        open_store: makes the user store for it.
        work: threads for slow generators and the model.
        settings: of the process.

    Raises:
        BundleError: it cannot be used; the message names the file.
    """
    with naming(folder):
        bundle = await on_daemon_thread(partial(load, folder))
    store = open_store(bundle)
    try:
        with naming(folder):
            pipeline, costs = await _warm(bundle, store, work, settings)
    except BaseException:
        await store.close()
        raise
    for tier, fault in pipeline.bundle.disabled.items():
        _log.error("bundle %s: %s is disabled (%s): %s", folder.name, tier.name, fault.cause, fault.text)
    return Started(pipeline, store, costs)


async def _warm(bundle: Bundle, store: UserStore, work: WorkPool, settings: Settings) -> tuple[Pipeline, Costs]:
    """A warm pipeline over the bundle, without the deep rung where that does not answer as it should."""
    pipeline = Pipeline(bundle, store, work, settings)
    try:
        return pipeline, await warm_up(pipeline, settings.warm_up_requests)
    except GoldenDeepError as error:
        pipeline = Pipeline(bundle.without_deep(Fault.of(error)), store, work, settings)
    return pipeline, await warm_up(pipeline, settings.warm_up_requests)
