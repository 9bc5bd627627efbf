"""A few threads for work that may take long, and a bounded number of jobs that wait for them.

The event loop never computes for long: user tower, slow generators and model run here, so that one that is
stuck can keep neither the loop nor a lower rung from answering. ``concurrent.futures`` would do, at
twice the cost per job: its futures lock, and asyncio wraps them in futures of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import Counter
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from core.types import Reason, Stopped
from server.telemetry.rate_limited_log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

REPLACEMENTS = 4
"""Threads that may replace stuck ones at a time: memory and the interpreter are finite, and breakers open before this."""
_log = logging.getLogger(__name__)


class Job(Generic[T]):
    """One piece of work on its way: waiting, running or done.

    Attributes:
        started: a thread has it, or had it.

        abandoned: nobody waits for it any more; a thread that has not started it skips it.

        ended: its thread is free again.
    """

    __slots__ = ("abandoned", "ended", "loop", "replaced", "report", "run", "started", "stuck_in")

    def __init__(
        self, run: Callable[[], T], report: Callable[[T | Reason], None], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.run, self.report, self.loop = run, report, loop
        self.started = self.ended = self.abandoned = self.replaced = False
        self.stuck_in: str | None = None


class WorkPool:
    """Threads with a bounded queue; belongs to one event loop.

    A job's outcome is its value or the reason why there is none, so that callers branch on a value
    and never on an exception. A job keeps its place until its thread is free again: places that
    are held by stuck work bound what can pile up behind it. A thread that is stuck in an abandoned job is
    replaced by another until it comes back, so that one plug-in that hangs does not take the model with it.

    Attributes:
        free_jobs: jobs that may still be started.

        stuck: threads that are stuck and replaced.

        stuck_in: abandoned jobs that have not come back, by the part that each is stuck in.
    """

    def __init__(self, threads: int, max_jobs: int) -> None:
        """Start the threads.

        Args:
            threads: how many.
            max_jobs: jobs that may wait or run at a time.
        """
        self.free_jobs = max_jobs
        self.stuck = 0
        self.stuck_in: Counter[str] = Counter()
        self._limited_log = RateLimitedLog(_log)
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
        if self.free_jobs <= 0:
            return None
        self.free_jobs -= 1
        job = Job(run, report, asyncio.get_running_loop())
        self._jobs.put(job)
        return job

    def abandon(self, job: Job[Any], part: str = "", grace_s: float = 0.0) -> None:
        """Nobody waits for a job any more: skip it if it has not started, else replace its thread until that is back.

        Args:
            job: may have ended.
            part: what it is busy with, for ``stuck_in``.
            grace_s: how long its thread may take to notice that it was stopped before it is replaced, seconds.
        """
        if job.ended or job.abandoned:
            return
        if grace_s and job.started:
            asyncio.get_running_loop().call_later(grace_s, self.abandon, job, part)
            return
        job.abandoned = True  # before ``started`` is read: a thread sets that and reads this
        if not job.started:
            return
        job.stuck_in = part
        self.stuck_in[part] += 1
        if self.stuck < REPLACEMENTS:
            try:
                self._add_thread()
            except RuntimeError:  # the process may have no more
                self._limited_log.exception("no thread can be started in place of one that is stuck")
                return
            job.replaced = True
            self.stuck += 1

    def close(self) -> None:
        """Let the threads end after the jobs that are queued; does not wait for them."""
        for _ in range(self._threads + self.stuck):
            self._jobs.put(None)

    def _finish(self, job: Job[T], outcome: T | Reason) -> None:
        """On the event loop: the job's thread is free again."""
        self.free_jobs += 1
        job.ended = True
        if job.stuck_in is not None:
            self.stuck_in[job.stuck_in] -= 1
        if job.replaced:
            self.stuck -= 1
            self._jobs.put(None)  # one thread too many now
        job.report(outcome)

    def _add_thread(self) -> None:
        self._started += 1
        threading.Thread(target=self._work, name=f"work-{self._started}", daemon=True).start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.started = True
            outcome: Any
            if job.abandoned:
                outcome = Reason.LATE  # nobody waits for it any more, but its slot must come free
            else:
                try:
                    outcome = job.run()
                except Stopped:
                    outcome = Reason.LATE
                except BaseException:  # noqa: BLE001 - whatever a plug-in raises, the rung below answers and the thread lives
                    self._limited_log.exception("a job on the work pool failed")
                    outcome = Reason.FAILED
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                job.loop.call_soon_threadsafe(self._finish, job, outcome)
            del job, outcome  # an idle thread must not keep a request alive
