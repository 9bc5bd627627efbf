"""Opens the bundles of a generation and forks its workers: ``python -m server.release.loader_process DESCRIPTOR``.

What a worker needs is in memory, frozen, before the first fork, so that workers share it. This process never imports
grpc and starts no event loop, and its one thread has ended before the first fork: a fork copies nothing that is held by
a thread. It may die, of a damaged index or of too little memory; those that serve do not.

It reads messages of its supervisor on the descriptor: ``open`` (once), then ``fork`` with a socket for the worker. It
tells what was opened, and each worker's end. It ends when its supervisor has.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import select
import signal
import socket
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from core.manifest import BundleError, Fault
from server.loader import load_sound_rungs
from server.release.bundle_cache import hold
from server.release.channel import BlockingChannel
from server.settings import Settings
from server.signature import trusted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core.bundle import Bundle
    from server.release.channel import Message

P = ParamSpec("P")
T = TypeVar("T")
_NICE = 5
"""A third of the weight of those who serve (sched(7)): enough to get on where they leave nothing."""
_log = logging.getLogger(__name__)


@dataclass
class _Opened:
    """What there is to serve."""

    folders: dict[str, Path]
    bundles: dict[Path, Bundle]
    settings: Settings


def main(descriptor: int) -> None:
    """Serve a supervisor until it ends."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    supervisor = BlockingChannel(socket.socket(fileno=descriptor))
    workers: dict[int, tuple[int, str]] = {}  # descriptor of the process -> its id, its name
    opened: _Opened | None = None
    while True:
        ready, _, _ = select.select([supervisor.fileno(), *workers], [], [])
        for source in ready:
            if source in workers:
                pid, worker = workers.pop(source)
                os.close(source)
                _, status = os.waitpid(pid, 0)
                _tell(supervisor, {"ended": worker, "status": os.waitstatus_to_exitcode(status)})
                continue
            messages = supervisor.receive()
            if messages is None:  # the workers see the same, and drain
                return
            for message in messages:
                if "open" in message:
                    opened = _after_others(_open, supervisor, message["open"])
                elif opened is not None:
                    pid = _fork(supervisor, opened, message["fork"])
                    workers[os.pidfd_open(pid)] = pid, message["fork"]["worker"]


def _tell(supervisor: BlockingChannel, message: Message) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):
        supervisor.send(message)


def _after_others(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of ``work``, from a thread that those who serve go before on cores that all of them need.

    On Linux each thread has a priority of its own (sched(7)). A process that lowers its own cannot raise it again without
    privileges, and hands it down to what it forks: workers, which are to serve.
    """
    with ThreadPoolExecutor(1, initializer=os.nice, initargs=(_NICE,)) as thread:
        return thread.submit(work, *args, **kwargs).result()


def _open(supervisor: BlockingChannel, wanted: Message) -> _Opened | None:
    """Open what is wanted and tell how it went; None where a bundle cannot be used."""
    folders = {version: Path(folder) for version, folder in wanted["folders"].items()}
    settings = Settings(**wanted["settings"])
    bundles: dict[Path, Bundle] = {}
    for version, folder in folders.items():
        try:
            bundles[folder] = _load(folder, version, settings.public_keys)
        except BundleError as error:
            _tell(supervisor, {"failed": {"version": version, "fault": Fault.of(error)}})
            return None
    gc.collect()
    gc.freeze()
    disabled = {
        bundle.version: {tier.name: fault for tier, fault in bundle.disabled.items()} for bundle in bundles.values()
    }
    _tell(supervisor, {"opened": disabled})
    return _Opened(folders, bundles, settings)


def _load(folder: Path, version: str, public_keys: Sequence[str]) -> Bundle:
    hold(folder)  # until the last process that was forked from here has ended
    bundle = load_sound_rungs(folder, trusted(map(Path, public_keys)))
    if bundle.version != version:
        raise BundleError(
            f"{folder}: holds version {bundle.version}. The folder of a bundle has the name of its version; rename it"
        )
    return bundle


def _fork(supervisor: BlockingChannel, opened: _Opened, wanted: Message) -> int:
    """The process id of a new worker."""
    sock = supervisor.take_socket()
    pid = os.fork()
    if pid:
        sock.close()
        _tell(supervisor, {"forked": wanted["worker"], "pid": pid})
        return pid
    code = 1
    try:
        supervisor.close()
        worker = _after_others(importlib.import_module, "server.release.worker")  # grpc is imported after the fork
        code = worker.work(sock, opened.folders, opened.bundles, opened.settings, wanted)
    except BaseException:  # noqa: BLE001 - a child must never come back into the loop of its parent
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # the supervisor says when to end
        signal.signal(number, signal.SIG_IGN)
    main(int(sys.argv[1]))
