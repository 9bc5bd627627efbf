"""A worker: answers from bundles that its loader process has opened, as its supervisor says."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import uvloop

from core.manifest import BundleError, Fault
from core.release import Release
from server.app import EXIT_BUNDLE, ServeError, serve
from server.release.channel import PROCESS, Channel

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from pathlib import Path

    from core.bundle import Bundle
    from server.app import Serving
    from server.release.channel import Message
    from server.settings import Settings


def work(
    sock: socket.socket,
    folders: Mapping[str, Path],
    bundles: Mapping[Path, Bundle],
    settings: Settings,
    wanted: Message,
) -> int:
    """Serve until asked to stop; the exit code of the process.

    Args:
        sock: to the supervisor.
        folders: of the bundles, by version, the live one first.
        bundles: opened.
        settings: of the process.
        wanted: the supervisor's order: ``release``, a document or None.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    return uvloop.run(_work(Channel(sock), folders, bundles, settings, wanted))


async def _work(
    supervisor: Channel,
    folders: Mapping[str, Path],
    bundles: Mapping[Path, Bundle],
    settings: Settings,
    wanted: Message,
) -> int:
    await supervisor.open()
    tasks: list[asyncio.Task[None]] = []
    served: list[Serving] = []
    opened: list[str] = []

    def load(folder: Path) -> Bundle:
        opened.append(bundles[folder].version)
        return bundles[folder]

    def ready(serving: Serving) -> None:
        disabled = {
            version: {tier.name: fault for tier, fault in pipeline.bundle.disabled.items()}
            for version, pipeline in serving.versions.pipelines.items()
        }
        served.append(serving)
        supervisor.send({"ready": {"disabled": disabled, "revision": serving.versions.release.revision}})
        tasks.append(asyncio.create_task(_listen(supervisor, serving)))
        tasks.append(asyncio.create_task(_tell_when_leaving(supervisor, serving)))

    try:
        await serve(
            settings,
            tuple(folders.values()),
            load,
            ready,
            lambda metrics: supervisor.send({"last_metrics": metrics}),
            release=Release.from_json(wanted["release"]) if wanted["release"] else None,
            grouped=True,
        )
    except (BundleError, ServeError) as error:
        if isinstance(error, BundleError):
            supervisor.send({"failed": {"version": opened[-1], "fault": Fault.of(error)}})
        else:
            supervisor.send({"failed": {"version": None, "fault": Fault(PROCESS, str(error))}})
        return EXIT_BUNDLE
    finally:
        for task in tasks:
            task.cancel()
        for serving in served:
            supervisor.send({"counts": serving.observer.to_dict()})
        await supervisor.flush()
        supervisor.close()
    return 0


async def _listen(supervisor: Channel, serving: Serving) -> None:
    """Do what the supervisor says; stop when it is gone."""
    async for message in supervisor.messages():
        if "release" in message:
            serving.versions.follow(Release.from_json(message["release"]))
            supervisor.send({"follows": serving.versions.release.revision})
        elif "ping" in message:
            supervisor.send({"alive": True})
        elif "metrics" in message:
            text = await asyncio.to_thread(serving.metrics)
            supervisor.send({"metrics": text})
        elif "counts" in message:
            supervisor.send({"counts": serving.observer.to_dict()})
        elif "stop" in message:
            serving.stop.stop(replaced=message["stop"] == "replaced")
    serving.stop.stop(replaced=False)


async def _tell_when_leaving(supervisor: Channel, serving: Serving) -> None:
    """Another worker is to take this one's place as soon as it is asked to stop, by whomever."""
    await serving.stop.first.wait()
    supervisor.send({"leaving": True})
