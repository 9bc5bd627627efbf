"""The composition root of one host: its port, its metrics, its supervisor."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from core.manifest import BundleError, read_manifest
from server.listening import PortError, reserved_port
from server.release.follower import ReleaseFollower
from server.release.local_copy import LocalCopy
from server.release.release_store import ReleaseStore, ReleaseStoreError
from server.release.replica_report import ReplicaReport
from server.release.rollout_store import RolloutStore
from server.release.supervisor import NothingToServeError, Supervisor
from server.telemetry.rate_limited_log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from server.release.supervisor import Bundles
    from server.settings import Settings
    from server.signature import PublicKeys

EXIT_NOTHING = 2
REPORT_PERIOD_S = 1.0
PUBLISH_PERIOD_S = 2.0
_log = logging.getLogger(__name__)


class OneBundle:
    """A bundle that is named, and no other."""

    def __init__(self, folder: Path, keys: PublicKeys | None = None) -> None:
        """Read its version; raises ``BundleError``, also where there are keys and none of them signed it."""
        self.url = str(folder)
        manifest = read_manifest(folder) if keys is None else keys.read_manifest(folder)
        self._folder, self._version = folder, manifest.version

    def versions(self) -> list[str]:
        """Its version."""
        return [self._version]

    def fetch(self, version: str, keep: Collection[str] = ()) -> Path:  # noqa: ARG002 - nothing is cached
        """Its folder; raises ``BundleError`` for any other version."""
        if version != self._version:
            raise BundleError(f"{version}: this server serves {self._folder} and no other bundle (--bundle)")
        return self._folder


def run(
    settings: Settings,
    workers: int,
    bundles: Bundles,
    on_ready: Callable[[str, int], None] | None = None,
    release_copy: Path | None = None,
) -> int:
    """Serve until asked to stop; the exit code of the process.

    Args:
        settings: what the deployment chose.
        workers: processes that answer.
        bundles: where they come from.
        on_ready: called with version and port once calls are answered.
        release_copy: where to keep a copy of the release document, for a start while the store is away; None follows
            no document.

    Returns:
        0 after a clean drain; 2 when bundles, ports or store URL cannot be used, with the reason on standard error.
    """
    try:
        with reserved_port(settings.host, settings.port) as port:
            asyncio.run(_run(replace(settings, port=port), workers, bundles, on_ready, release_copy))
    except (BundleError, PortError, NothingToServeError) as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_NOTHING
    return 0


async def _run(
    settings: Settings,
    workers: int,
    bundles: Bundles,
    on_ready: Callable[[str, int], None] | None,
    release_copy: Path | None,
) -> None:
    supervisor = Supervisor(settings, workers, bundles, on_ready)
    async with AsyncExitStack() as stack:
        if settings.metrics_port is not None:
            try:
                supervisor.metrics.serve(settings.host, settings.metrics_port)
            except OSError as error:
                raise NothingToServeError(f"cannot export telemetry: {error}") from None
            stack.push_async_callback(asyncio.to_thread, supervisor.metrics.close)
        if release_copy is not None and settings.store_url is not None:
            try:
                store = ReleaseStore(settings.store_url, settings.namespace)
            except ValueError as error:  # names what is wrong, not the URL: it may hold a password
                raise NothingToServeError(f"the user store: {error}") from None
            stack.push_async_callback(store.close)
            follower = ReleaseFollower(store, LocalCopy(release_copy), supervisor.follow)
            await follower.look()
            host = socket.gethostname()
            replica_id = f"{host}-{secrets.token_hex(4)}"
            publishing = _publish(RolloutStore(store), supervisor, follower, replica_id)
            for work in (follower.run(), _report(store, supervisor, replica_id, host), publishing):
                task = asyncio.create_task(work)
                stack.callback(task.cancel)
        await supervisor.run()


async def _report(store: ReleaseStore, supervisor: Supervisor, replica_id: str, host: str) -> None:
    """Tell operators once a second how this replica is."""
    limited_log = RateLimitedLog(_log)
    while True:
        state = supervisor.state()
        report = ReplicaReport(
            replica_id,
            host,
            revision=state.revision,
            loaded=state.loaded,
            rejected=state.rejected,
            workers_wanted=state.wanted,
            workers_ready=state.ready,
            answers_from=state.live if state.ready else None,
        )
        try:
            await store.report(report)
        except ReleaseStoreError as error:
            limited_log.warning("this replica cannot be reported", str(error))
        await asyncio.sleep(REPORT_PERIOD_S)


async def _publish(store: RolloutStore, supervisor: Supervisor, follower: ReleaseFollower, replica_id: str) -> None:
    """Tell what was answered from each version, while there is another one to compare the live one with."""
    limited_log = RateLimitedLog(_log)
    while True:
        if follower.release is not None and follower.release.candidate is not None:
            try:
                await store.publish(replica_id, await supervisor.counts())
            except ReleaseStoreError as error:
                limited_log.warning("what this replica has answered cannot be published", str(error))
            except Exception:  # noqa: BLE001 - whoever publishes must go on publishing
                limited_log.exception("what this replica has answered could not be counted")
        await asyncio.sleep(PUBLISH_PERIOD_S)
