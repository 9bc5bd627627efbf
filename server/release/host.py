"""The composition root of one host: its port, its metrics, its supervisor."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from core.manifest import BundleError, finished_bundles, read_manifest
from server.listening import PortError, reserved_port
from server.release.supervisor import NothingToServeError, Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from server.release.supervisor import Bundles
    from server.settings import Settings

EXIT_NOTHING = 2


class OneBundle:
    """A bundle that is named, and no other."""

    def __init__(self, folder: Path) -> None:
        """Read its version; raises ``BundleError``."""
        self._folder, self._version = folder, read_manifest(folder).version

    def versions(self) -> list[str]:
        """Its version."""
        return [self._version]

    def fetch(self, version: str) -> Path:
        """Its folder; raises ``BundleError`` for any other version."""
        if version != self._version:
            raise BundleError(f"{version}: this server was told to serve {self._folder} and no other bundle")
        return self._folder


class BundleFolder:
    """Bundles in a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        """Keep the folder."""
        self._folder = folder

    def versions(self) -> list[str]:
        """Finished bundles, newest first."""
        return [path.name for path in finished_bundles(self._folder)]

    def fetch(self, version: str) -> Path:
        """The bundle's folder, whether it is sound or not."""
        return self._folder / version


def run(
    settings: Settings,
    workers: int,
    bundles: Bundles,
    on_ready: Callable[[str, int], None] | None = None,
) -> int:
    """Serve until asked to stop; the exit code of the process.

    Args:
        settings: what the deployment chose.
        workers: processes that answer.
        bundles: where they come from.
        on_ready: called with version and port once calls are answered.

    Returns:
        0 after a clean drain; 2 when bundles, ports or store URL cannot be used, with the reason on standard error.
    """
    try:
        with reserved_port(settings.host, settings.port) as port:
            asyncio.run(_run(replace(settings, port=port), workers, bundles, on_ready))
    except (BundleError, PortError, NothingToServeError) as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_NOTHING
    return 0


async def _run(settings: Settings, workers: int, bundles: Bundles, on_ready: Callable[[str, int], None] | None) -> None:
    supervisor = Supervisor(settings, workers, bundles, on_ready)
    if settings.metrics_port is not None:
        try:
            supervisor.metrics.serve(settings.host, settings.metrics_port)
        except OSError as error:
            raise NothingToServeError(f"cannot export telemetry: {error}") from None
    try:
        await supervisor.run()
    finally:
        await asyncio.to_thread(supervisor.metrics.close)
