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
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from core.types import Reason, Stopped
from server.telemetry.rate_limited_log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

SPARES = 4
"""Threads that may stand in for stuck ones."""
_log = logging.getLogger(__name__)


class Job(Generic[T]):
    """One piece of work on its way: waiting, running or done.

    Attributes:
        started: a thread has it, or had it.

        ended: its thread is free again.
    """

    __slots__ = ("ended", "has_spare", "report", "run", "skipped", "started")

    def __init__(self, run: Callable[[], T], report: Callable[[T | Reason], None]) -> None:
        self.run, self.report = run, report
        self.started = self.ended = self.skipped = self.has_spare = False


class WorkPool:
    """Threads with a bounded queue; belongs to one event loop.

    A job's outcome is its value or the reason why there is none, so that callers branch on a value
    and never on an exception. A job keeps its slot until its thread is free again: slots that
    are held by stuck work bound what can pile up behind it. A stuck thread gets a stand-in, which
    stays while the other one is away, so that one plug-in that hangs does not take the model with it.
    """

    def __init__(self, threads: int, slots: int) -> None:
        """Start the threads.

        Args:
            threads: how many.
            slots: jobs that may wait or run at a time.
        """
        self.free_slots = slots
        self._limited_log = RateLimitedLog(_log)
        self.stuck = 0
        self._started = 0
        self._threads = threads
        self._jobs: SimpleQueue[Job[Any] | None] = SimpleQueue()
        for _ in range(threads):
            self._add_thread()

    def start(self, run: Callable[[], T], report: Callable[[T | Reason], None]) -> Job[T] | None:
        """Queue a job from the event loop.

        Args:
            run: on a thread; a ``Stopped`` that it raises means LATE, any other error FAILED.
            report: called on the event loop with the outcome, whenever that is.

        Returns:
            The job; None when every slot is taken, and then nothing is called.
        """
        if self.free_slots <= 0:
            return None
        self.free_slots -= 1
        loop = asyncio.get_running_loop()

        def finish(outcome: T | Reason) -> None:
            self.free_slots += 1
            job.ended = True
            if job.has_spare:
                self.stuck -= 1
                self._jobs.put(None)  # one thread too many now
            report(outcome)

        def told(outcome: T | Reason) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(finish, outcome)

        job = Job(run, told)
        self._jobs.put(job)
        return job

    def give_up(self, job: Job[Any]) -> None:
        """Nobody waits for a job any more: skip it if it has not begun, get a stand-in for its thread if it has."""
        job.skipped = True
        if job.started and not job.ended and not job.has_spare and self.stuck < SPARES:
            job.has_spare = True
            self.stuck += 1
            self._add_thread()

    def close(self) -> None:
        """Let the threads end after the jobs that are queued; does not wait for them."""
        for _ in range(self._threads + self.stuck):
            self._jobs.put(None)

    def _add_thread(self) -> None:
        self._started += 1
        threading.Thread(target=self._work, name=f"work-{self._started}", daemon=True).start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.started = True
            outcome: Any
            if job.skipped:
                outcome = Reason.LATE  # nobody waits for it any more, but its slot must come free
            else:
                try:
                    outcome = job.run()
                except Stopped:
                    outcome = Reason.LATE
                except BaseException:  # noqa: BLE001 - whatever a plug-in raises, the rung below answers and the thread lives
                    self._limited_log.exception("a job on the work pool failed")
                    outcome = Reason.FAILED
            job.report(outcome)
            del job, outcome  # an idle thread must not keep a request alive
