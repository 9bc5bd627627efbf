"""The work pool: bounded, frank about what became of a job, and never short of a thread for long."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import TYPE_CHECKING, Any

import pytest

from core.types import Reason, Stopped
from server.rungs.work_pool import REPLACEMENTS, Job, WorkPool
from tests.server import toy
from tests.server.virtual import VirtualLoop, VirtualPool, virtual

if TYPE_CHECKING:
    from collections.abc import Callable


class World:
    """A pool in virtual time.

    Attributes:
        said: outcome and moment of every job that ended.
    """

    def __init__(self, loop: VirtualLoop, work: VirtualPool) -> None:
        self.loop, self.work = loop, work
        self.said: list[tuple[Any, float]] = []

    def start(self, run: Callable[[], Any]) -> Job[Any] | None:
        async def now() -> Job[Any] | None:
            return self.work.start(run, lambda outcome: self.said.append((outcome, self.loop.now_s)))

        return self.loop.run(now())

    def takes(self, seconds: float, value: object = "done") -> Job[Any]:
        def run() -> object:
            self.loop.spend(seconds)
            return value

        job = self.start(run)
        assert job is not None
        return job

    def wait(self, seconds: float) -> None:
        self.loop.run(asyncio.sleep(seconds))


def stop() -> None:
    raise Stopped


@pytest.mark.parametrize(
    ("run", "outcome"),
    [(lambda: 7, 7), (lambda: None, None), (stop, Reason.LATE), (toy.fail, Reason.FAILED)],
    ids=["value", "nothing", "stopped", "raised"],
)
async def test_the_outcome_is_the_value_or_why_there_is_none_and_is_told_on_the_event_loop(
    run: Callable[[], Any], outcome: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """On real threads."""
    work = WorkPool(threads=2, max_jobs=2)
    told: asyncio.Future[tuple[Any, threading.Thread]] = asyncio.get_running_loop().create_future()
    job = work.start(run, lambda said: told.set_result((said, threading.current_thread())))

    assert await told == (outcome, threading.current_thread())
    assert job is not None
    assert (job.started, job.ended, work.free_jobs) == (True, True, 2)
    assert ("hunter2" in caplog.text) == (outcome is Reason.FAILED)
    work.close()


async def test_an_idle_thread_keeps_no_job_alive() -> None:
    work = WorkPool(threads=1, max_jobs=2)
    gone = threading.Event()

    class Request:
        def __del__(self) -> None:
            gone.set()

        def run(self) -> None:
            pass

    told = asyncio.Event()
    work.start(Request().run, lambda _: told.set())
    await told.wait()
    async with asyncio.timeout(30):
        while not gone.is_set():
            gc.collect()
            await asyncio.sleep(0)
    work.close()


def test_jobs_run_in_order_on_as_many_threads_as_there_are() -> None:
    with virtual(threads=2) as (loop, work):
        world = World(loop, work)
        for i in range(5):
            world.takes(1.0, i)
        world.wait(10)

    assert [(value, round(at_s)) for value, at_s in world.said] == [(0, 1), (1, 1), (2, 2), (3, 2), (4, 3)]


def test_a_job_that_finds_no_slot_does_not_start_and_nothing_is_told() -> None:
    with virtual(max_jobs=2) as (loop, work):
        world = World(loop, work)
        jobs = [world.start(lambda: loop.spend(1.0)) for _ in range(3)]
        full = work.free_jobs
        world.wait(1.5)
        again = world.start(lambda: None)
        world.wait(10)

    assert [job is not None for job in jobs] == [True, True, False]
    assert full == 0
    assert again is not None
    assert len(world.said) == 3


def test_a_job_abandoned_while_it_waits_is_skipped_and_its_slot_comes_free() -> None:
    ran: list[str] = []
    with virtual(max_jobs=2) as (loop, work):
        world = World(loop, work)
        world.takes(1.0)
        job = world.start(lambda: ran.append("ran"))
        assert job is not None
        work.abandon(job)
        assert work.free_jobs == 0
        world.wait(2)

    assert ran == []
    assert [outcome for outcome, _ in world.said] == ["done", Reason.LATE]


def test_a_thread_that_is_stuck_has_a_replacement_until_it_is_back() -> None:
    with virtual() as (loop, work):
        world = World(loop, work)
        stuck = world.takes(5.0, "stuck")
        world.takes(0.0, "next")
        world.wait(1.0)
        assert (world.said, work.alive, work.stuck) == ([], 1, 0)

        work.abandon(stuck)
        work.abandon(stuck)  # once is enough
        world.wait(0.1)
        assert ([value for value, _ in world.said], work.alive, work.stuck) == (["next"], 2, 1)
        assert work.free_jobs == 15  # the stuck one holds its place

        world.wait(5.0)
        assert ([value for value, _ in world.said], work.alive, work.stuck) == (["next", "stuck"], 1, 0)


def test_where_no_thread_can_be_had_the_stuck_one_goes_on_with_what_is_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more() -> None:
        raise RuntimeError("can't start new thread")

    with virtual() as (loop, work):
        world = World(loop, work)
        stuck = world.takes(5.0, "stuck")
        world.takes(0.0, "next")
        world.wait(1.0)
        monkeypatch.setattr(work, "_add_thread", no_more)
        work.abandon(stuck)
        assert (work.alive, work.stuck) == (1, 0)

        world.wait(10.0)
        assert [value for value, _ in world.said] == ["stuck", "next"]
        assert (work.alive, sum(work.stuck_in.values())) == (1, 0)


def test_what_has_ended_needs_no_replacement() -> None:
    with virtual() as (loop, work):
        world = World(loop, work)
        job = world.takes(0.1)
        world.wait(1.0)
        work.abandon(job)

        assert (work.alive, work.stuck) == (1, 0)


def test_there_are_only_so_many_replacements_and_all_go_in_the_end() -> None:
    with virtual(max_jobs=20) as (loop, work):
        world = World(loop, work)
        jobs = [world.takes(5.0, i) for i in range(10)]
        for job in jobs:
            world.wait(0.1)
            if job.started:
                work.abandon(job)
        assert (work.alive, work.stuck) == (1 + REPLACEMENTS, REPLACEMENTS)
        assert [job.started for job in jobs] == [True] * (1 + REPLACEMENTS) + [False] * (9 - REPLACEMENTS)
        world.wait(100)
        assert (work.alive, work.stuck) == (1, 0)

    assert len(world.said) == 10


def test_closing_lets_what_is_queued_end_and_stuck_threads_too() -> None:
    loop = VirtualLoop()
    work = VirtualPool(loop)
    world = World(loop, work)
    stuck = world.takes(5.0, "stuck")
    world.wait(0.1)
    work.abandon(stuck)
    world.takes(1.0, "queued")
    work.close()
    world.wait(2.0)
    before = [value for value, _ in world.said]
    world.wait(10)
    loop.close()

    assert before == ["queued"]
    assert [value for value, _ in world.said] == ["queued", "stuck"]
    assert work.alive == 0


def test_a_job_that_outlives_its_event_loop_bothers_nobody() -> None:
    """On a real thread."""
    release, work = threading.Event(), WorkPool(threads=1, max_jobs=2)
    told: list[object] = []

    async def leave() -> None:
        work.start(lambda: release.wait(30), told.append)

    asyncio.run(leave())
    release.set()
    ended = threading.Event()
    closed = asyncio.new_event_loop()
    closed.close()
    work._jobs.put(Job(ended.set, told.append, closed))  # the thread is still there to take it
    assert ended.wait(30)
    assert told == []
    work.close()
