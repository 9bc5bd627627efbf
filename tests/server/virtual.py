"""Virtual time: an event loop whose clock jumps to the next timer, and a work pool whose threads take turns with it.

What takes time says so with ``VirtualLoop.spend``. One thread runs at a time and the others wait for their turn, so
that the same costs give the same course of events, with the real pipeline, the real work pool and no waiting.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections import deque
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from core.types import Stopped
from server.rungs.work_pool import WorkPool

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from core.types import StopSignal

T = TypeVar("T")
AGES_S = 1e5
"""Far more virtual time than any test is about."""


class _Jump(selectors.SelectSelector):
    """Where an event loop would wait, its clock jumps."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "nothing will ever happen again"
            self.loop.now_s += max(timeout, 0.0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time.

    Attributes:
        now_s: the present, seconds; what runs on the loop may add to it, which is computing for so long.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self._own = threading.current_thread()
        self._back = threading.Semaphore(0)
        selector = _Jump()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now_s

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.run_until_complete(work)

    def settle(self) -> None:
        """Let everything end that ends by itself."""
        self.run_until_complete(asyncio.sleep(AGES_S))

    def spend(self, seconds: float, stop: StopSignal | None = None) -> None:
        """Take so long, wherever this is called; a run on a thread ends early when ``stop`` says so.

        Raises:
            Stopped: it did.
        """
        if threading.current_thread() is self._own:
            self.now_s += seconds
            return
        turn, ended = threading.Semaphore(0), []

        def end(*, stopped: bool) -> None:
            if not ended:
                ended.append(stopped)
                self.call_soon(self.give, turn)

        timer = self.call_later(seconds, partial(end, stopped=False))
        if stop is not None:
            stop.on_stop(partial(end, stopped=True))
        self.pause(turn)
        timer.cancel()
        if ended[0]:
            raise Stopped

    def give(self, turn: threading.Semaphore) -> None:
        """On the loop: let a thread run until it pauses or ends."""
        turn.release()
        self.wait()

    def wait(self) -> None:
        """On the loop: until the thread that runs pauses or ends."""
        assert self._back.acquire(timeout=60), "a thread waits for something that is not virtual"

    def pause(self, turn: threading.Semaphore) -> None:
        """On a thread: let the loop go on until it gives this turn."""
        self.let_go()
        turn.acquire()

    def let_go(self) -> None:
        """On a thread: let the loop go on."""
        self._back.release()


class _Turns:
    """The queue of a work pool, whose threads wait for their turn."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._items: deque[Any] = deque()
        self._waiting: deque[threading.Semaphore] = deque()

    def put(self, item: Any) -> None:
        self._items.append(item)
        self._loop.call_soon(self._feed)

    def get(self) -> Any:
        turn = threading.Semaphore(0)
        self._waiting.append(turn)
        self._loop.call_soon(self._feed)
        self._loop.pause(turn)
        return self._items.popleft()

    def qsize(self) -> int:
        return len(self._items)

    def _feed(self) -> None:
        if self._items and self._waiting:
            self._loop.give(self._waiting.popleft())
            self._loop.call_soon(self._feed)


class VirtualPool(WorkPool):
    """The work pool in virtual time.

    Attributes:
        alive: its threads.
    """

    def __init__(self, loop: VirtualLoop, threads: int = 1, max_jobs: int = 16) -> None:
        super().__init__(0, max_jobs)
        self.alive = 0
        self._loop = loop
        self._jobs = _Turns(loop)  # type: ignore[assignment]  # as much of a queue as is needed
        self._threads = threads
        for _ in range(threads):
            self._add_thread()

    def _add_thread(self) -> None:
        self.alive += 1
        threading.Thread(target=self._work_in_turns, daemon=True).start()
        self._loop.wait()

    def _work_in_turns(self) -> None:
        self._work()
        self.alive -= 1
        self._loop.let_go()


@contextmanager
def virtual(threads: int = 1, max_jobs: int = 16) -> Iterator[tuple[VirtualLoop, VirtualPool]]:
    """A loop and a pool, which are idle in the end, and whose threads have gone."""
    loop = VirtualLoop()
    try:
        pool = VirtualPool(loop, threads, max_jobs)
        yield loop, pool
        loop.settle()
        assert (pool.free_jobs, pool.stuck, pool.alive) == (max_jobs, 0, threads)
        pool.close()
        loop.settle()
        assert pool.alive == 0
    finally:
        loop.close()
