"""What the narrowest filters cost others: the longest stretch of the event loop, and what callers beside them get.

With 1,000,000 items of 20 attributes. In one process: an answer of the CF rung beside a task that always wants to run, and
how long it had to wait. Over gRPC: users' calls at a steady rate, alone and beside two callers who send one filter, or
none, one call after the other.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import grpc
import uvloop

from core.catalogue import Filters
from core.query import Request
from core.types import Tier
from loadtests.caller import Caller
from loadtests.processes import Server
from loadtests.synthetic import ATTRIBUTE_VALUES
from loadtests.users import state_of
from loadtests.workspace import SyntheticData
from server.loader import load_bundle
from server.rungs.deadline import Deadline
from server.rungs.pipeline import Pipeline
from server.rungs.request_record import RequestRecord
from server.rungs.work_pool import WorkPool
from server.settings import Settings
from server.store.user_store import MemoryUserStore
from terrace.client import AsyncClient
from terrace.client import Filters as Wanted

if TYPE_CHECKING:
    from core.types import UserState
    from loadtests.workspace import Workspace

TARGET_MS = 2.0
ATTRIBUTES = 20
_VALUES = tuple(f"value-{i}" for i in range(100))
_CALLERS = 2
_RATE = 20.0
_TURNS = 5


def run(workspace: Workspace) -> dict[str, Any]:
    """Measure; the headline is ``filters_longest_cpu_ms``."""
    items = 3_000 if workspace.quick else 1_000_000
    made = _made(workspace, items)
    departments = [f"department-{i}" for i in range(100)]
    every = {f"attribute-{i}": _VALUES for i in range(ATTRIBUTES)}
    filters = {
        "none": Filters(),
        "a price that no item has": Filters(min_price=1e30),
        "100 departments, a price that no item has": Filters(categories=tuple(departments), min_price=1e30),
        "without 100 departments, a price that no item has": Filters(
            exclude_categories=tuple(departments), min_price=1e30
        ),
        "20 attributes, half of the values of each": Filters(attributes=every),
        "20 attributes, half of the values of each, the dearest": Filters(attributes=every, min_price=60.0),
    }
    alone = uvloop.run(_stretches(made, filters))
    seconds = 0.5 if workspace.quick else 10.0
    beside: dict[str, Any] = {}
    with made.store() as url, Server(made.bundle, url) as server:
        users = made.users.ids
        beside["nobody"] = asyncio.run(_beside(server.address, users, Filters(), 0, seconds))
        for name in ("none", "a price that no item has", "20 attributes, half of the values of each"):
            beside[name] = asyncio.run(_beside(server.address, users, filters[name], _CALLERS, seconds))
        start_s = server.start_s
    return {
        "filters_longest_cpu_ms": max(found["longest_cpu_ms"] for found in alone.values()),
        "filters_target_ms": TARGET_MS,
        "filters_items": items,
        "filters_start_s": start_s,
        "filters_alone": alone,
        "filters_users_beside_two_callers": beside,
    }


def _made(workspace: Workspace, items: int) -> SyntheticData:
    folder = workspace.folder / f"items-{items}-attributes-{ATTRIBUTES}"
    if not (folder / "users.npz").exists():
        sizes = ("--items", str(items), "--users", "60000" if items > ATTRIBUTE_VALUES * 100 else "1000")
        more = ("--attributes", str(ATTRIBUTES), "--without-ann")
        subprocess.run([sys.executable, "-m", "loadtests.synthetic", str(folder), *sizes, *more], check=True)  # noqa: S603 - our own command
    return SyntheticData(folder)


async def _stretches(made: SyntheticData, filters: dict[str, Filters]) -> dict[str, dict[str, float]]:
    bundle = load_bundle(made.bundle)
    users = [state_of(events) for events in made.users.events(bundle.catalogue.ids).values()][:_TURNS]
    work = WorkPool(threads=1, max_jobs=4)
    pipeline = Pipeline(bundle, MemoryUserStore(()), work, Settings(exercise_share=0.0))
    found = {name: await _longest(pipeline, users, each) for name, each in filters.items()}
    work.close()
    return found


async def _longest(pipeline: Pipeline, users: list[UserState], filters: Filters) -> dict[str, float]:
    """Medians over the users: an answer's longest stretch of the event loop by the clock and in CPU, and all of its CPU.

    CPU of the event loop's thread leaves out what other processes of a busy machine take.
    """
    found: list[tuple[float, float, float]] = []
    for user in (users[0], *users):
        record = RequestRecord(Deadline.never(), Tier.CF)
        answer = asyncio.create_task(pipeline.answer(Request("somebody", 20, filters=filters), user, record))
        clock_s, begun_s = time.perf_counter(), time.thread_time()
        cpu_s, longest_s, longest_cpu_s = begun_s, 0.0, 0.0
        while not answer.done():
            await asyncio.sleep(0)
            now_s, now_cpu_s = time.perf_counter(), time.thread_time()
            longest_s, longest_cpu_s = max(longest_s, now_s - clock_s), max(longest_cpu_s, now_cpu_s - cpu_s)
            clock_s, cpu_s = now_s, now_cpu_s
        found.append((longest_s, longest_cpu_s, cpu_s - begun_s))
    names = ("longest_ms", "longest_cpu_ms", "cpu_ms")
    return {n: statistics.median(each) * 1000 for n, each in zip(names, zip(*found[1:], strict=True), strict=True)}


async def _beside(address: str, user_ids: list[str], filters: Filters, callers: int, seconds: float) -> dict[str, Any]:
    """What users get, and how many calls the callers with the filter made."""
    users = Caller(address, user_ids)
    await users.closed(4, 1.0)
    users.tally = type(users.tally)()
    end_s = time.monotonic() + seconds
    wanted = Wanted(categories=filters.categories, min_price=filters.min_price, attributes=dict(filters.attributes))
    answered = incomplete = 0

    async def insist(client: AsyncClient, who: str) -> None:
        nonlocal answered, incomplete
        while time.monotonic() < end_s:
            try:
                answer = await client.recommend(who, filters=wanted, timeout_ms=200)
                answered += 1
                incomplete += "filters" in answer.dropped_sources
            except grpc.RpcError:
                continue

    async with AsyncClient(address) as client:
        await asyncio.gather(users.open(_RATE, seconds), *(insist(client, user_ids[i]) for i in range(callers)))
    await users.close()
    filtered = {
        "filtered_answers_per_s": answered / seconds,
        "filtered_incomplete_share": incomplete / max(answered, 1),
    }
    return {**users.tally.figures(seconds), **filtered}
