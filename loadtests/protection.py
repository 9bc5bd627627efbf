"""What protection costs a DEEP request: admission, budget, breakers and metrics, on and off, side by side in one process.

Both ways answer the same users from the same bundle through the same edge, without gRPC, in turns of a few requests, so
that a busy machine slows both. Off: everybody is admitted, no breaker counts, nothing is recorded; the budget is what
holds a request together and stays, but for its timers nothing is left of it to turn off.
"""

from __future__ import annotations

import statistics
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, cast

import uvloop

from core.types import Tier
from loadtests.users import NAMESPACE, SEEN_TYPES
from server.edge.call_guard import CallGuard, Context
from server.edge.servicer import Servicer
from server.loader import load_bundle
from server.overload.admission import Admission, Permit
from server.overload.breaker import Breaker
from server.rungs.pipeline import Pipeline
from server.rungs.versions import Versions
from server.rungs.warm_up import warm_up
from server.rungs.work_pool import WorkPool
from server.settings import Settings
from server.store.user_store import RedisUserStore
from server.telemetry.exporters import exporters
from terrace.v1 import recommendation_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from core.bundle import Bundle
    from loadtests.workspace import Workspace
    from server.overload.breaker import Outcome
    from server.store.user_store import UserStore
    from server.telemetry.recorder import Call

TARGET = 0.05
_TURN = 20


class _Caller:
    """What gRPC tells a handler of a call."""

    def time_remaining(self) -> float:
        """Enough."""
        return 2.0

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """What grpcio sends by itself, and what a service of ours adds."""
        return (("user-agent", "grpc-python-asyncio/1.85.1"), ("terrace-criticality", "user"))


class _Everybody(Admission):
    """Admits without a look."""

    def __init__(self) -> None:
        super().__init__()
        self._permit = Permit(Tier.DEEP, 0.0, 0.0, alone=False)

    def admit(self, *_: object) -> Permit:
        """Come in."""
        return self._permit

    def give_back(self, *_: object, **__: object) -> None:
        """Never mind."""


class _Always(Breaker):
    """A breaker that counts nothing."""

    def permit(self) -> int:
        """Yes."""
        return 1

    def ended(self, permit: int, outcome: Outcome, seconds: float = 0.0) -> None:
        """Never mind."""


def run(workspace: Workspace) -> dict[str, Any]:
    """Measure; the headline is ``protection_share``.

    Raises:
        RuntimeError: in too many turns an answer is not DEEP.
    """
    data = workspace.benchmark_data()
    bundle = load_bundle(data.bundle)
    rounds = 3 if workspace.quick else 60
    with data.store() as url:
        return uvloop.run(_measure(bundle, url, data.users.ids, rounds))


async def _measure(bundle: Bundle, store_url: str, user_ids: list[str], rounds: int) -> dict[str, Any]:
    settings = Settings(exercise_share=0.0)
    async with AsyncExitStack() as stack:
        store = RedisUserStore(store_url, NAMESPACE, SEEN_TYPES)
        stack.push_async_callback(store.close)
        work = WorkPool(settings.threads, settings.max_jobs)
        stack.callback(work.close)
        exported = exporters(metrics_port=0)
        stack.callback(exported.close)
        on = CallGuard(settings, Admission(settings.threads), exported.telemetry.record)
        off = CallGuard(settings, _Everybody(), _nothing)
        for edge, pipeline in (
            (on, Pipeline(bundle, store, work, settings)),
            (off, _bare(bundle, store, work, settings)),
        ):
            await warm_up(pipeline, 5)
            edge.versions = Versions.of(pipeline)
        calls = {name: _method(edge, settings) for name, edge in (("on", on), ("off", off))}
        return await _in_turns(calls, user_ids, rounds)


async def _in_turns(
    calls: dict[str, Callable[[bytes, Context], Awaitable[bytes]]],
    user_ids: list[str],
    rounds: int,
) -> dict[str, Any]:
    """CPU of ``rounds`` turns each way; a turn with an answer that is not DEEP is left out, and another one made."""
    requests = [pb.RecommendRequest(user_id=user_id, limit=20).SerializeToString() for user_id in user_ids]
    spent: dict[str, list[float]] = {"on": [], "off": []}
    turn, left_out = -2, 0
    while len(spent["on"]) < rounds:
        took_ms: dict[str, float] = {}
        all_deep = True
        for name in ("on", "off") if turn % 2 else ("off", "on"):
            begun_s = time.process_time()
            for i in range(_TURN):
                raw = await calls[name](requests[(turn * _TURN + i) % len(requests)], cast("Context", _Caller()))
                all_deep &= pb.RecommendResponse.FromString(raw).info.tier == pb.TIER_DEEP
            took_ms[name] = (time.process_time() - begun_s) / _TURN * 1000
        if turn >= 0 and all_deep:
            for name, ms in took_ms.items():
                spent[name].append(ms)
        elif turn >= 0:
            left_out += 1
            if left_out > rounds:
                raise RuntimeError(f"{left_out} turns had answers that are not DEEP: is the machine busy?")
        turn += 1
    on_ms, off_ms = (statistics.median(spent[name]) for name in ("on", "off"))
    differences = [a - b for a, b in zip(spent["on"], spent["off"], strict=True)]
    return {
        "protection_share": statistics.median(differences) / on_ms,
        "protection_target": TARGET,
        "protection_ms": statistics.median(differences),
        "protection_turns_left_out": left_out,
        "deep_request_ms": {"on": on_ms, "off": off_ms},
    }


def _bare(bundle: Bundle, store: UserStore, work: WorkPool, settings: Settings) -> Pipeline:
    return Pipeline(bundle, store, work, settings, breaker=_Always)


def _method(edge: CallGuard, settings: Settings) -> Callable[[bytes, Context], Awaitable[bytes]]:
    return edge.guard("Recommend", Tier.DEEP, Servicer(settings).recommend)


def _nothing(_: Call) -> None:
    """Record nothing."""
