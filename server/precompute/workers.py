"""List makers in this process or in several: each process loads the bundle and takes chunks of users from a pipe."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import uvloop

from core.precompute_record import PrecomputeError
from server.precompute.list_maker import ListMaker, Part

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from multiprocessing.connection import Connection

    from server.precompute.list_maker import MakerOptions

Make: TypeAlias = "Callable[[Sequence[str]], Awaitable[Part]]"
_READY = "ready"
_STOP_S = 30.0
"""Longest wait for a process to end its chunk before it is killed."""


@asynccontextmanager
async def list_makers(options: MakerOptions, processes: int) -> AsyncIterator[Make]:
    """``ListMaker.make`` once the bundle is loaded, for as many chunks at a time as there are processes.

    Args:
        options: of every list maker.
        processes: 1 = this one.

    Raises:
        BundleError: the bundle cannot be used.
        PrecomputeError: a process died; from ``make`` as well.
    """
    if processes == 1:
        maker = await ListMaker.open(options)
        try:
            yield maker.make
        finally:
            await maker.close()
        return
    workers = [_Worker(options) for _ in range(processes)]
    idle: asyncio.Queue[_Worker] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    threads = ThreadPoolExecutor(processes)  # one waits for each process

    async def make(user_ids: Sequence[str]) -> Part:
        worker = await idle.get()
        try:
            part: Part = await loop.run_in_executor(threads, worker.ask, list(user_ids))
        finally:
            idle.put_nowait(worker)
        return part

    try:
        starting = (loop.run_in_executor(threads, worker.wait) for worker in workers)
        for outcome in await asyncio.gather(*starting, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        for worker in workers:
            idle.put_nowait(worker)
        yield make
    finally:
        threads.shutdown(cancel_futures=True)  # first, since a pipe must not be closed while a thread reads from it
        for worker in workers:
            worker.close()


class _Worker:
    """A process with a list maker; dies with this one, which its pipe tells it."""

    def __init__(self, options: MakerOptions) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy locks that other threads hold
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(options, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, user_ids: list[str]) -> Any:
        """The part that comes of some users; blocks."""
        self._pipe.send(user_ids)
        return self.wait()

    def wait(self) -> Any:
        """What the process sends next.

        Raises:
            PrecomputeError: it died.
            Exception: what it raised.
        """
        try:
            found = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(_STOP_S)
            raise PrecomputeError(
                f"a process that computes lists died with exit code {self._process.exitcode} (-9 is mostly a lack of "
                "memory: use fewer --processes). Go on with --resume"
            ) from None
        if isinstance(found, Exception):
            raise found
        return found

    def close(self) -> None:
        """Let the process end after the chunk that it is at."""
        self._pipe.close()
        self._process.join(_STOP_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _work(options: MakerOptions, pipe: Connection) -> None:
    """What such a process does until its pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, for all its processes: the first one decides
    with suppress(EOFError, OSError):
        uvloop.run(_serve(options, pipe))


async def _serve(options: MakerOptions, pipe: Connection) -> None:
    try:
        maker = await ListMaker.open(options)
    except Exception as error:  # noqa: BLE001 - raised where it can be shown
        pipe.send(error)
        return
    try:
        pipe.send(_READY)
        while True:
            user_ids = pipe.recv()
            try:
                part: Any = await maker.make(user_ids)
            except Exception as error:  # noqa: BLE001 - the same
                part = error
            pipe.send(part)
    finally:
        await maker.close()
