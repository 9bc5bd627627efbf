"""A store that breaks in every way gives nothing, says why, is no later than it was allowed to be, and comes back."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from core.types import Reason, UserEvent
from server.store.connections import DRAIN_S
from server.store.user_store import RedisUserStore
from tests.contracts.store_contract import SEEN_TYPES, event
from tests.faults.fault_proxy import (
    BLACK_HOLE,
    GARBAGE,
    HEALTHY,
    LOADING,
    OUT_OF_MEMORY,
    REFUSED,
    FaultProxy,
    Mode,
    Toxic,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from server.overload.breaker import Outcome
    from server.store.connections import Miss

CAP = 8
TIMEOUT_S = 0.05
LATE_S = 0.15
"""How much later than its timeout a read may return on a busy machine."""
PATIENT_S = 5.0
READS = 20
USERS = 50
EVENTS = {f"user-{i}": tuple(event(100 * i + j, "purchase") for j in range(9, -1, -1)) for i in range(USERS)}
MEGABYTE = 1 << 20
MAX_GROWTH = 24 * MEGABYTE

FAILED, LATE = Reason.STORE_FAILED, Reason.STORE_LATE
FAULTS: dict[str, tuple[Mode, Reason, Miss]] = {
    "refused": (REFUSED, FAILED, "refused"),
    "black hole": (BLACK_HOLE, LATE, "late"),
    "200 ms more": (Mode(down=Toxic(latency_s=0.2, jitter_s=0.05)), LATE, "late"),
    "a byte at a time": (Mode(down=Toxic(slice_bytes=1, slice_pause_s=0.01)), LATE, "late"),
    "reset at the request": (Mode(up=Toxic(reset_after=0)), FAILED, "failed"),
    "reset in the middle of a reply": (Mode(down=Toxic(reset_after=100)), FAILED, "failed"),
    "closed in the middle of a reply": (Mode(down=Toxic(close_after=100)), FAILED, "failed"),
    "garbage": (GARBAGE, FAILED, "failed"),
    "loading": (LOADING, FAILED, "failed"),
    "out of memory": (OUT_OF_MEMORY, FAILED, "failed"),
}


@pytest.fixture
async def proxy(valkey: str) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(valkey.removeprefix("unix://")) as proxy:
        yield proxy


@pytest.fixture
async def store(valkey: str, proxy: FaultProxy) -> AsyncIterator[RedisUserStore]:
    """A store behind the proxy that knows ``EVENTS`` and has answered once."""
    namespace = uuid.uuid4().hex
    direct = RedisUserStore(valkey, namespace, SEEN_TYPES)
    await direct.load(EVENTS)
    await direct.close()
    store = RedisUserStore(f"redis://127.0.0.1:{proxy.port}", namespace, SEEN_TYPES, max_connections=CAP)
    assert (await store.read("user-0", PATIENT_S)).missing is None
    yield store
    await store.close()
    assert store.in_use == 0


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_a_miss_in_time_with_one_attempt_and_the_read_after_it_is_good(
    fault: str, store: RedisUserStore, proxy: FaultProxy
) -> None:
    mode, reason, kind = FAULTS[fault]
    timeout_s = (
        TIMEOUT_S if reason is LATE else PATIENT_S
    )  # what fails is told when it fails, not when the time is over
    opened, asked = proxy.total, proxy.asked
    proxy.mode = mode
    for i in range(READS):
        start_s = time.monotonic()
        state = await store.read(f"user-{i}", timeout_s)
        took_s = time.monotonic() - start_s

        assert (state.missing, state.events, len(state.seen)) == (reason, (), 0)
        assert took_s < TIMEOUT_S + LATE_S
    proxy.mode = HEALTHY
    after = await store.read("user-7", PATIENT_S)

    assert after.events == EVENTS["user-7"]
    assert sum(store.misses.values()) == READS
    assert store.misses[kind] >= READS - 1  # the first may find its connection broken
    assert proxy.asked - asked <= 2 * (READS + 1)
    assert proxy.total - opened <= READS + 1
    assert proxy.peak <= CAP


async def test_more_reads_than_connections_are_late_at_once_while_the_store_hangs(
    store: RedisUserStore, proxy: FaultProxy
) -> None:
    proxy.mode = BLACK_HOLE
    tasks = [asyncio.create_task(store.read(f"user-{i}", PATIENT_S)) for i in range(USERS)]
    done, waiting = await asyncio.wait(tasks, timeout=PATIENT_S / 10)

    assert len(waiting) == CAP == store.in_use
    assert store.misses["busy"] == len(done) == USERS - CAP
    assert {task.result().missing for task in done} == {LATE}
    assert proxy.peak <= CAP

    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)


async def test_connections_of_late_reads_are_kept_when_the_replies_come_after_all(
    store: RedisUserStore, proxy: FaultProxy
) -> None:
    proxy.mode = Mode(down=Toxic(latency_s=2 * TIMEOUT_S))
    opened = proxy.total
    for user_id in ("user-1", "user-2", "user-3"):
        assert (await store.read(user_id, TIMEOUT_S)).missing is LATE
    while store.in_use:  # noqa: ASYNC110 - replies are read off in the background
        await asyncio.sleep(0.01)
    proxy.mode = HEALTHY
    late = proxy.total - opened

    for user_id, expected in EVENTS.items():
        assert (await store.read(user_id, PATIENT_S)).events == expected
    assert proxy.total - opened == late <= 3


async def test_a_store_that_comes_and_goes_is_used_while_it_is_there(store: RedisUserStore, proxy: FaultProxy) -> None:
    opened = proxy.total
    reads = 0
    for turn in range(10):
        proxy.mode = (REFUSED, HEALTHY, BLACK_HOLE, HEALTHY)[turn % 4]
        for _ in range(5):
            start_s = time.monotonic()
            states = await asyncio.gather(*(store.read(f"user-{i}", TIMEOUT_S) for i in range(CAP // 2)))
            reads += len(states)
            assert time.monotonic() - start_s < TIMEOUT_S + LATE_S
            for i, state in enumerate(states):
                assert state.missing is not None or _is_of(f"user-{i}", state.events)
    proxy.mode = HEALTHY
    await asyncio.sleep(DRAIN_S)  # until then the connections of the black hole may be waited for

    assert (await store.read("user-2", PATIENT_S)).events == EVENTS["user-2"]
    assert sum(store.misses.values()) < reads
    assert proxy.peak <= CAP
    assert proxy.total - opened < reads


@pytest.mark.parametrize(
    "reads", [pytest.param(2_000, id="short"), pytest.param(10_000, id="long", marks=pytest.mark.faults_long)]
)
async def test_reads_that_are_cancelled_at_random_never_give_anyone_what_is_another_users(
    reads: int, store: RedisUserStore, proxy: FaultProxy
) -> None:
    """The leak of CVE-2023-28858 and 28859, looked for as their regression test does: through a slow proxy."""
    rng = random.Random(5)
    counts = dict.fromkeys(("begun", "cancelled", "good", "missed", "wrong"), 0)
    reports: list[Outcome] = []

    async def read(user_id: str) -> None:
        counts["begun"] += 1
        state = await store.read(user_id, TIMEOUT_S, reports.append)
        if state.missing is not None:
            counts["missed"] += 1
        else:
            counts["good" if _is_of(user_id, state.events) else "wrong"] += 1

    async def storm(number: int) -> None:
        loop, tasks = asyncio.get_running_loop(), set()
        for _ in range(number):
            task = asyncio.create_task(read(f"user-{rng.randrange(USERS)}"))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            task.add_done_callback(lambda done: counts.update(cancelled=counts["cancelled"] + done.cancelled()))
            loop.call_later(rng.random() * 0.02, task.cancel)
            await asyncio.sleep(rng.random() * 0.002)
        if tasks:
            await asyncio.wait(tasks)

    proxy.mode = Mode(up=Toxic(jitter_s=0.005), down=Toxic(jitter_s=0.005))
    await storm(reads // 4)
    before = _resident_bytes()
    opened = proxy.total
    await storm(reads)
    grown = _resident_bytes() - before
    proxy.mode = HEALTHY
    while store.in_use:  # noqa: ASYNC110 - replies are read off in the background
        await asyncio.sleep(0.01)
    after = [_is_of(user_id, (await store.read(user_id, PATIENT_S)).events) for user_id in EVENTS]

    print(f"{counts}, {proxy.total - opened} connections opened, at most {proxy.peak}, {grown / MEGABYTE:.1f} MB more")  # noqa: T201
    assert counts["wrong"] == 0
    assert min(counts["cancelled"], counts["good"]) > reads // 10
    assert all(after)
    assert store.misses["foreign"] == store.misses["corrupt"] == 0
    assert len(reports) == counts["begun"]
    assert proxy.peak <= CAP
    assert proxy.total - opened < reads // 100
    assert grown < MAX_GROWTH


def _is_of(user_id: str, events: tuple[UserEvent, ...]) -> bool:
    return events == EVENTS[user_id]


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096
