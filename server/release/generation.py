"""A generation, as its supervisor sees it: one loader process and the workers that were forked from it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from core.manifest import Fault
from server.release.channel import PROCESS, Channel
from server.telemetry.version_counts import read_counts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from core.release import Release
    from server.release.channel import Message
    from server.settings import Settings
    from server.telemetry.version_counts import VersionCounts

_ids = itertools.count()
_log = logging.getLogger(__name__)


class GenerationError(Exception):
    """A generation cannot be started.

    Attributes:
        version: the bundle that is to blame; None where no single one is.

        fault: why.
    """

    def __init__(self, version: str | None, fault: Fault) -> None:
        super().__init__(fault.text)
        self.version, self.fault = version, fault


class State(Enum):
    """Of a worker."""

    STARTING = "starting"
    READY = "ready"
    LEAVING = "leaving"
    ENDED = "ended"


@dataclass
class Worker:
    """One worker.

    Attributes:
        name: unique among all workers of the supervisor.

        state: as it last reported.

        asked: whether the supervisor asked it to stop.

        left: whether it reported that it leaves.

        revision: of the release document that it follows.

        disabled: version -> tier -> why the worker does not answer from that rung of that bundle.

        pid: None until it is known.

        heard_s: when its last message came, by the monotonic clock.

        ended: set when it has ended.

        counts: what it has answered from each version, as it last reported.
    """

    name: str
    channel: Channel
    state: State = State.STARTING
    asked: bool = False
    left: bool = False
    revision: int = 0
    disabled: Mapping[str, Mapping[str, Fault]] = field(default_factory=dict)
    pid: int | None = None
    heard_s: float = field(default_factory=time.monotonic)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    ready: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    counts: Mapping[str, VersionCounts] = field(default_factory=dict)
    replies: dict[str, asyncio.Future[Any]] = field(default_factory=dict)

    def stop(self, how: str) -> None:
        """Ask it to stop, or to lose no time with it."""
        self.asked = True
        self.channel.send({"stop": how})


class Generation:
    """Workers that hold the same bundles.

    Attributes:
        folders: version -> folder; the first is answered from where no release document says anything else.

        workers: by name, those that have not ended.

        disabled: version -> tier -> why that rung of that bundle cannot be used.

        broken: the loader process has ended: no worker can be forked any more.
    """

    def __init__(
        self,
        folders: Mapping[str, Path],
        settings: Settings,
        on_change: Callable[[Generation, Worker | None], None],
        on_metrics: Callable[[str], None],
    ) -> None:
        """Nothing is started before ``start``.

        Args:
            folders: version -> folder, the live one first.
            settings: of each worker.
            on_change: called when a worker that was ready leaves or ends, and with None when the loader process has.
            on_metrics: takes a worker's last metrics.
        """
        self.folders = dict(folders)
        self.workers: dict[str, Worker] = {}
        self.disabled: dict[str, dict[str, Fault]] = {}
        self.broken = False
        self._settings = settings
        self._on_change, self._on_metrics = on_change, on_metrics
        self._loader: subprocess.Popen[bytes] | None = None
        self._channel, self._theirs = Channel.pair()
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, release: Release | None, workers: int) -> None:
        """Open the bundles and start workers, one after the other.

        Raises:
            GenerationError: a bundle cannot be used, or a worker does not start. ``stop`` is still to be called.
        """
        await self._channel.open()
        environment = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"} | os.environ
        self._loader = subprocess.Popen(  # noqa: ASYNC220, S603 - our own command; returns at once
            [sys.executable, "-m", "server.release.loader_process", str(self._theirs.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=(self._theirs.fileno(),),
            process_group=0,  # Ctrl-C is for the supervisor; in a session of its own it would have a core's time of its own
            env=environment,
        )
        self._theirs.close()
        self._keep(self._read_loader())
        folders = {version: str(folder) for version, folder in self.folders.items()}
        self._channel.send({"open": {"folders": folders, "settings": asdict(self._settings)}})
        await self._opened
        for _ in range(workers):
            await self.add_worker(release)

    async def add_worker(self, release: Release | None) -> None:
        """Fork a worker and wait until it is ready.

        Raises:
            GenerationError: it does not start.
        """
        if self.broken:
            raise GenerationError(None, Fault(PROCESS, "the loader process has ended"))
        channel, theirs = Channel.pair()
        worker = Worker(f"{next(_ids)}", channel)
        with theirs:
            await channel.open()
            order = {"worker": worker.name, "release": release.to_json() if release else None}
            self._channel.send({"fork": order}, [theirs.fileno()])
        self.workers[worker.name] = worker
        self._keep(self._read_worker(worker))
        await worker.ready

    @property
    def ready(self) -> list[Worker]:
        """Workers that answer and shall go on."""
        return [worker for worker in self.workers.values() if worker.state is State.READY]

    def follow(self, release: Release) -> None:
        """Hand a release document to the workers."""
        for worker in self.workers.values():
            worker.channel.send({"release": release.to_json()})

    async def metrics(self, timeout_s: float) -> dict[str, str]:
        """The metrics of each worker that answers in time, by its name."""
        return await self._ask("metrics", timeout_s)

    async def counts(self, timeout_s: float) -> list[Mapping[str, VersionCounts]]:
        """What each worker has answered, by version, once all have replied or the time is over; else as they last reported."""
        await self._ask("counts", timeout_s)
        return [worker.counts for worker in self.workers.values()]

    async def _ask(self, what: str, timeout_s: float) -> dict[str, Any]:
        """The replies of workers that answer in time, by the worker's name."""
        asked: dict[str, asyncio.Future[Any]] = {}
        for worker in self.workers.values():
            if worker.state not in {State.READY, State.LEAVING}:
                continue
            if what not in worker.replies or worker.replies[what].done():  # else somebody has asked just now
                worker.replies[what] = asyncio.get_running_loop().create_future()
                worker.channel.send({what: True})
            asked[worker.name] = worker.replies[what]
        if asked:
            await asyncio.wait(asked.values(), timeout=timeout_s)
        return {name: reply.result() for name, reply in asked.items() if reply.done()}

    def kill_silent(self, longest_s: float, now_s: float) -> None:
        """Ask every worker for a sign of life, and kill those that have given none for so long."""
        for worker in self.ready:
            if now_s - worker.heard_s > longest_s:
                _log.error("worker %s has been silent for %.0f s and is killed", worker.name, now_s - worker.heard_s)
                _kill(worker.pid)
            else:
                worker.channel.send({"ping": True})

    async def stop(self, how: str, timeout_s: float) -> None:
        """Ask all workers to stop, wait, and kill those that take longer; then end the loader process.

        Args:
            how: ``replaced`` (others answer on the port) or ``all``.
            timeout_s: how long they may take.
        """
        for worker in self.workers.values():
            if worker.state is State.STARTING:
                _kill(worker.pid)
            else:
                worker.stop(how)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                for worker in list(self.workers.values()):
                    await worker.ended.wait()
        for worker in self.workers.values():
            _log.error("worker %s does not end and is killed", worker.name)
        self.kill()
        self._channel.close()
        if self._loader is not None:
            await asyncio.to_thread(self._loader.wait)
        for task in self._tasks:
            task.cancel()

    def kill(self) -> None:
        """End all of its processes at once."""
        if self._loader is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._loader.pid, signal.SIGKILL)

    def hurry(self) -> None:
        """Ask workers that are stopping to lose no time with it."""
        for worker in self.workers.values():
            worker.stop("all")

    async def _read_loader(self) -> None:
        async for message in self._channel.messages():
            if "opened" in message:
                self.disabled = _faults(message["opened"])
                self._opened.set_result(None)
            elif "failed" in message:
                self._fail(self._opened, message["failed"])
            elif "forked" in message and (worker := self.workers.get(message["forked"])):
                worker.pid = message["pid"]
            elif message.get("status"):
                _log.error("worker %s ended with status %d", message["ended"], message["status"])
        self.broken = True
        self._on_change(self, None)
        if not self._opened.done():
            assert self._loader is not None  # noqa: S101 - it was started
            code = await asyncio.to_thread(self._loader.wait)
            text = f"the process that opened {', '.join(self.folders)} died ({_how(code)}): a file may be damaged"
            self._opened.set_exception(GenerationError(None, Fault("died", text)))

    async def _read_worker(self, worker: Worker) -> None:
        async for message in worker.channel.messages():
            worker.heard_s = time.monotonic()
            self._note(worker, message)
        if not worker.ready.done():
            text = f"a worker with {', '.join(self.folders)} died before it was ready"
            worker.ready.set_exception(GenerationError(None, Fault("died", text)))
        was, worker.state = worker.state, State.ENDED
        self.workers.pop(worker.name, None)
        worker.ended.set()
        worker.channel.close()
        if was is not State.STARTING:
            self._on_change(self, worker)

    def _note(self, worker: Worker, message: Message) -> None:
        """What a worker tells."""
        match message:
            case {"ready": {"disabled": disabled, "revision": revision}}:
                worker.disabled, worker.revision, worker.state = _faults(disabled), revision, State.READY
                worker.ready.set_result(None)
            case {"failed": failed}:
                self._fail(worker.ready, failed)
            case {"follows": revision}:
                worker.revision = revision
            case {"metrics": text}:
                _reply(worker, "metrics", text)
            case {"counts": raw}:
                worker.counts = read_counts(raw)
                _reply(worker, "counts", worker.counts)
            case {"last_metrics": text}:
                self._on_metrics(text)
            case {"leaving": _}:
                worker.state, worker.left = State.LEAVING, True
                self._on_change(self, worker)

    def _fail(self, future: asyncio.Future[None], failed: Message) -> None:
        if not future.done():
            future.set_exception(GenerationError(failed["version"], Fault(*failed["fault"])))

    def _keep(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _reply(worker: Worker, what: str, value: object) -> None:
    reply = worker.replies.get(what)
    if reply is not None and not reply.done():
        reply.set_result(value)


def _faults(disabled: Mapping[str, Mapping[str, list[str]]]) -> dict[str, dict[str, Fault]]:
    return {version: {tier: Fault(*fault) for tier, fault in rungs.items()} for version, rungs in disabled.items()}


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _kill(pid: int | None) -> None:
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
