"""A few threads for work that may take long, and a bounded number of jobs that wait for them.

The event loop never computes for long: slow generators and the model run here, so that one that is
stuck can keep neither the loop nor a lower rung from answering. ``concurrent.futures`` would do, at
twice the cost per job: its futures lock, and asyncio wraps them in futures of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from core.types import Reason, Stopped

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_LONGEST_S = 3600.0  # timers of event loops refuse an infinite delay
_log = logging.getLogger(__name__)


def _expire(future: asyncio.Future[Any], on_late: Callable[[], None] | None) -> None:
    if not future.done():
        future.set_result(Reason.LATE)
    if on_late is not None:
        on_late()


class WorkPool:
    """Threads with a bounded queue; belongs to one event loop.

    A job's outcome is its value or the reason why there is none, so that callers branch on a value
    and never on an exception. A late job keeps its slot until its thread is free again: slots that
    are held by stuck work bound what can pile up behind it.
    """

    def __init__(self, threads: int, slots: int) -> None:
        """Start the threads.

        Args:
            threads: how many.
            slots: jobs that may wait or run at a time.
        """
        self.free_slots = slots
        self._jobs: SimpleQueue[tuple[Callable[[], Any], Callable[[Any], None], asyncio.Future[Any]] | None] = (
            SimpleQueue()
        )
        self._threads = [threading.Thread(target=self._work, name=f"work-{i}", daemon=True) for i in range(threads)]
        for thread in self._threads:
            thread.start()

    def start(
        self, job: Callable[[], T | Reason], limit_s: float, on_late: Callable[[], None] | None = None
    ) -> asyncio.Future[T | Reason] | None:
        """Queue a job from the event loop.

        Args:
            job: runs on a thread; a ``Stopped`` that it raises means LATE, any other error FAILED.
            limit_s: seconds after which the outcome is LATE, whether the job has ended or not.
            on_late: called on the event loop when that happens.

        Returns:
            The outcome to wait for; None when every slot is taken.
        """
        if self.free_slots <= 0:
            return None
        self.free_slots -= 1
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T | Reason] = loop.create_future()
        timer = loop.call_later(max(0.0, min(limit_s, _LONGEST_S)), _expire, future, on_late)

        def finish(outcome: T | Reason) -> None:
            self.free_slots += 1
            timer.cancel()
            if not future.done():
                future.set_result(outcome)

        def report(outcome: T | Reason) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(finish, outcome)

        self._jobs.put((job, report, future))
        return future

    def close(self) -> None:
        """Let the threads end after the jobs that are queued; does not wait for them."""
        for _ in self._threads:
            self._jobs.put(None)

    def _work(self) -> None:
        while (queued := self._jobs.get()) is not None:
            job, report, future = queued
            if future.done():
                report(Reason.LATE)  # nobody waits for it any more, but its slot must come free
                continue
            try:
                outcome = job()
            except Stopped:
                outcome = Reason.LATE
            except Exception:  # noqa: BLE001 - whatever a plug-in raises, the rung below answers
                _log.exception("a job on the work pool failed")
                outcome = Reason.FAILED
            report(outcome)
            del queued, job, report, future, outcome  # an idle thread must not keep a request alive
