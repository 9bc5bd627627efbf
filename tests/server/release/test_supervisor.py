"""A supervisor goes on when something goes wrong that nobody foresaw; real loader processes and workers."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from core.release import Release
from server.listening import reserved_port
from server.release.supervisor import Supervisor
from server.settings import Settings
from tests.server.bundle_folder import write_bundle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection
    from pathlib import Path

    import pytest

PATIENT_S = 60.0


class Bundles:
    """A folder of bundles whose ``v2`` raises what a storage's own package may raise, or never comes."""

    url = "bundles"

    def __init__(self, folder: Path, fault: Callable[[], None]) -> None:
        self.folder, self.fault, self.asked = folder, fault, 0

    def versions(self) -> list[str]:
        return ["v1"]

    def fetch(self, version: str, keep: Collection[str] = ()) -> Path:  # noqa: ARG002
        if version == "v2":
            self.asked += 1
            self.fault()
        return self.folder / version


@asynccontextmanager
async def supervised(bundles: Bundles) -> AsyncIterator[Supervisor]:
    """One worker that answers from ``v1``."""
    write_bundle(bundles.folder / "v1", version="v1")
    with reserved_port("127.0.0.1", 0) as port:
        supervisor = Supervisor(Settings(port=port, lame_duck_s=0.0, max_connection_age_s=0.1), 1, bundles)
        running = asyncio.create_task(supervisor.run())
        try:
            await until(lambda: supervisor.state().ready == 1)
            yield supervisor
        finally:
            supervisor.stop()
            await asyncio.wait_for(running, PATIENT_S)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENT_S):
        while not holds():  # noqa: ASYNC110 - processes end and start in the background
            await asyncio.sleep(0.01)


def worker_of(supervisor: Supervisor) -> int | None:
    """The process id of its worker that is ready."""
    assert supervisor._current is not None
    return next((worker.pid for worker in supervisor._current.ready), None)


async def test_an_error_that_nobody_foresaw_is_tried_again_and_ends_nobody_who_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("a package's own error")

    monkeypatch.setattr("server.release.supervisor.LONGEST_PAUSE_S", 0.01)
    bundles = Bundles(tmp_path, fail)
    async with supervised(bundles) as supervisor:
        supervisor.follow(Release.of("v1").stage("v2"))
        await until(lambda: bundles.asked > 1)

        assert (supervisor.state().live, supervisor.state().ready) == ("v1", 1)
        assert supervisor.rejected == {}
    assert "a package's own error" in caplog.text


async def test_a_worker_that_dies_while_another_bundle_is_fetched_is_replaced_at_once(tmp_path: Path) -> None:
    for_ever = threading.Event()
    bundles = Bundles(tmp_path, for_ever.wait)  # type: ignore[arg-type]
    async with supervised(bundles) as supervisor:
        supervisor.follow(Release.of("v1").stage("v2"))
        await until(lambda: bundles.asked)
        killed = worker_of(supervisor)
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        await until(lambda: worker_of(supervisor) not in {None, killed})

        assert supervisor.deaths == 1
        assert bundles.asked == 1
    for_ever.set()
