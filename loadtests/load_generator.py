"""Many users who call whatever happens (open loop), by Locust over gRPC, in a process of its own.

``python -m loadtests.load_generator ADDRESS USERS`` prints "ready", then answers each line of JSON on standard input with one:
``closed`` measures what so many callers get who ask again as soon as they are answered; ``open`` runs phases and writes
the history of every call.

Locust has the users and their pace, on gevent; the calls run on asyncio in a thread of its own. grpcio under gevent needs
a thread for every call that waits: against a server that answers late it stood still for half a second at a time.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

os.environ["LOCUST_SKIP_MONKEY_PATCH"] = "1"  # asyncio needs the standard library as it is

import gevent  # type: ignore[import-untyped]  # it ships no types
import grpc
import numpy as np
import uvloop
from locust import User, task
from locust.env import Environment
from locust.exception import StopUser

from core.types import Tier
from loadtests.history import COLUMNS, CRITICALITIES, OK, History
from loadtests.plan import DEADLINE_MS, Span, moments, users_for
from loadtests.users import Users
from terrace.messages import metadata_of
from terrace.v1 import recommendation_pb2 as pb
from terrace.v1.recommendation_pb2_grpc import RecommendationServiceStub

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping

    from numpy.typing import NDArray

_CHANNELS = 8
_SWITCH_S = 0.0002
_METADATA = tuple(metadata_of({"criticality": name}) for name in CRITICALITIES)  # type: ignore[typeddict-item]
_NO_EXERCISE = metadata_of({"exercise": False})
_TAIL_S = 1.0
"""After the last moment: time for the last answers."""


class Channels:
    """Connections to the server, used in turn, on an event loop in a thread of its own."""

    def __init__(self, address: str, user_ids: list[str]) -> None:
        self.deadline_s = DEADLINE_MS / 1000
        self.known = [pb.RecommendRequest(user_id=user_id, limit=20) for user_id in user_ids]
        self._loop = uvloop.new_event_loop()
        self._calls: set[asyncio.Task[None]] = set()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.run(self._connect(address))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What a coroutine returns that runs beside the calls."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def send(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a coroutine and do not wait for it."""
        self._loop.call_soon_threadsafe(self._start, work)

    async def ask(
        self, request: pb.RecommendRequest, meant_s: float, metadata: Any
    ) -> tuple[tuple[int, int, int], Exception | None]:
        """Status, tier and reason of a call that was meant to be sent at ``meant_s`` of the monotonic clock."""
        left_s = meant_s + self.deadline_s - time.monotonic()
        try:
            info = (await next(self._asks)(request, timeout=max(left_s, 1e-3), metadata=metadata)).info
        except grpc.aio.AioRpcError as error:
            status: grpc.StatusCode = error.code()
            return (status.value[0], 0, 0), error
        reason = next((entry.reason for entry in info.skipped if entry.tier == pb.TIER_DEEP), 0)
        return (OK, info.tier, reason), None

    async def _connect(self, address: str) -> None:
        # A pool of its own for each channel: gRPC would put them all on one connection.
        options = (("grpc.use_local_subchannel_pool", 1),)
        stubs: Any = [
            RecommendationServiceStub(grpc.aio.insecure_channel(address, options=options))  # type: ignore[no-untyped-call]
            for _ in range(_CHANNELS)
        ]
        self._asks: Iterator[Callable[..., Any]] = itertools.cycle([stub.Recommend for stub in stubs])

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        call = self._loop.create_task(work)
        self._calls.add(call)  # the loop alone would not keep it alive
        call.add_done_callback(self._calls.discard)


class VirtualUser(User):
    """One of many users: calls at moments of its own, fixed before the run begins, answered or not."""

    channels: ClassVar[Channels]
    start_s: ClassVar[float]
    calls: ClassVar[list[list[tuple[float, int, bool]]]]
    numbers: ClassVar[Iterator[int]]

    def on_start(self) -> None:
        """Wait for the first moment."""
        self.number = next(self.numbers)
        self.left = iter(self.calls[self.number])
        self._turn()
        gevent.sleep(self.wait_time())

    def wait_time(self) -> float:
        """Until the next moment: a constant throughput, which waits for nobody and makes up for nothing."""
        return max(self.start_s + self.next[0] - time.monotonic(), 0.0)

    @task
    def recommend(self) -> None:
        """A list for some user."""
        self.channels.send(self._recommend(*self.next))
        self._turn()

    async def _recommend(self, meant_s: float, who: int, known: bool) -> None:
        command = self.channels.known
        request = (
            command[hash((self.number, meant_s)) % len(command)]
            if known
            else pb.RecommendRequest(user_id=f"nobody-{self.number}-{meant_s:.3f}", limit=20)
        )
        due_s = self.start_s + meant_s
        late_ms = (time.monotonic() - due_s) * 1000
        outcome, error = await self.channels.ask(request, due_s, _METADATA[who])
        took_ms = (time.monotonic() - due_s) * 1000
        self.environment.events.request.fire(
            request_type="grpc",
            name=CRITICALITIES[who],
            response_time=took_ms,
            response_length=0,
            exception=error,
            context={"call": (meant_s, late_ms, took_ms, *outcome, who, known)},
        )

    def _turn(self) -> None:
        try:
            self.next = next(self.left)
        except StopIteration:
            raise StopUser from None


async def closed(channels: Channels, callers: int, seconds: float) -> dict[str, float]:
    """DEEP answers a second in time that so many callers get, each with one call at a time; how long they took; what calling cost."""
    turns = itertools.cycle(channels.known)
    end_s = time.monotonic() + seconds
    calls = 0
    took_s: list[float] = []

    async def caller() -> None:
        nonlocal calls
        while (now_s := time.monotonic()) < end_s:
            (_, tier, _), _ = await channels.ask(next(turns), now_s, _NO_EXERCISE)
            calls += 1
            if tier == Tier.DEEP and time.monotonic() - now_s <= channels.deadline_s:
                took_s.append(time.monotonic() - now_s)

    cpu_s = time.process_time()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return {
        "deep_per_s": len(took_s) / seconds,
        "deep_p50_ms": float(np.median(took_s)) * 1000 if took_s else 0.0,
        "caller_ms_per_call": (time.process_time() - cpu_s) / max(calls, 1) * 1000,
    }


def open_loop(
    channels: Channels, spans: list[Span], traffic: Mapping[str, float], start_s: float
) -> tuple[History, Any]:
    """Every call of the phases, of which the first begins at ``start_s`` of the monotonic clock; and how busy we were.

    Returns:
        the history, and [seconds] the share of a core that this process used in each second.
    """
    rng = np.random.default_rng(17)
    n_users = users_for(spans)
    VirtualUser.channels, VirtualUser.start_s, VirtualUser.numbers = channels, start_s, itertools.count()
    VirtualUser.calls = [_calls(spans, n_users, traffic, rng) for _ in range(n_users)]
    found: list[tuple[Any, ...]] = []
    environment = Environment(user_classes=[VirtualUser])
    requests: Any = environment.events.request
    requests.add_listener(lambda context, **_: found.append(context["call"]))
    runner = environment.create_local_runner()
    gc.collect()
    gc.freeze()  # a collection that walks all moments of all users would hold up calls
    runner.start(n_users, spawn_rate=n_users)
    busy = []
    gevent.sleep(max(start_s - time.monotonic(), 0))
    while time.monotonic() < start_s + spans[-1].end_s + _TAIL_S:
        cpu_s, begun_s = time.process_time(), time.monotonic()
        gevent.sleep(1.0)
        busy.append((time.process_time() - cpu_s) / (time.monotonic() - begun_s))
    runner.quit()
    return History.of(found), np.array(busy)


def _calls(
    spans: list[Span], n_users: int, traffic: Mapping[str, float], rng: np.random.Generator
) -> list[tuple[float, int, bool]]:
    """One user's calls: when, of which criticality, and whether for a user whom the store knows."""
    at_s = moments(spans, n_users, rng)
    who = rng.choice([CRITICALITIES.index(name) for name in traffic], len(at_s), p=list(traffic.values()))
    cold = np.array([span.cold for span in spans])[np.searchsorted([span.end_s for span in spans], at_s, "right")]
    known: NDArray[np.bool_] = rng.random(len(at_s)) >= cold
    return list(zip(at_s.tolist(), who.tolist(), known.tolist(), strict=True))


def _print_line(line: object) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(address: str, users: str) -> None:
    """Answer lines on standard input until it ends."""
    logging.getLogger("locust").setLevel(logging.ERROR)
    sys.setswitchinterval(_SWITCH_S)
    channels = Channels(address, Users.load(Path(users)).ids)
    channels.run(closed(channels, _CHANNELS, 0.5))
    _print_line("ready")
    for given in sys.stdin:
        command = json.loads(given)
        channels.deadline_s = command["deadline_ms"] / 1000
        if command["kind"] == "closed":
            _print_line(json.dumps(channels.run(closed(channels, command["callers"], command["seconds"]))))
            continue
        spans = [Span(**span) for span in command["spans"]]
        history, busy = open_loop(channels, spans, command["traffic"], command["start_s"])
        np.savez(command["out"], caller_busy=busy, **{name: getattr(history, name) for name in COLUMNS})
        _print_line("done")


if __name__ == "__main__":
    main(*sys.argv[1:])
