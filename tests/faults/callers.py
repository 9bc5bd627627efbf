"""Callers in a process of their own, who keep their pace whatever the server does: ``python -m tests.faults.callers``.

Answers each line of JSON on standard input with one line (``Closed`` or ``Open``); the calls themselves go to a file.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import uvloop

from server.edge.servicer import SERVICE
from terrace.v1 import recommendation_pb2 as pb
from tests.faults.busy_server import EACH, ITEMS, item

if TYPE_CHECKING:
    from numpy.typing import NDArray

WHO = ("user", "prefetch", "batch", "invalid")
"""Kinds of callers, as their metadata names them; ``invalid``: a batch caller whose requests break the contract."""
HEALTH = len(WHO)
OK: int = grpc.StatusCode.OK.value[0]
SHED: int = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
INVALID: int = grpc.StatusCode.INVALID_ARGUMENT.value[0]
RETRIES = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 2,
                "initialBackoff": "0.01s",
                "maxBackoff": "0.05s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
}
_CHANNELS = 4
_PROBES_PER_S = 20
_COLUMNS = ("meant_s", "late_ms", "took_ms", "status", "tier", "who", "never_again")


@dataclass(frozen=True)
class Closed:
    """So many callers, each with one call at a time."""

    callers: int
    seconds: float


@dataclass(frozen=True)
class Phase:
    """Some seconds in which calls are due at random moments (a Poisson process), ``rates`` a second by ``WHO``; one more
    rate is of health checks on top of those that there are always."""

    seconds: float
    rates: tuple[float, ...]


@dataclass(frozen=True)
class Calls:
    """What came of every call, in the order in which they were due; each column is [n].

    Attributes:
        meant_s: when it was due, seconds since the run began.

        late_ms: how much later it was sent, because the caller was busy.

        took_ms: from the moment when it was due to its end.

        status: gRPC status code; tier: as in the response, 0 for none; who: place in ``WHO``, or ``HEALTH``.

        never_again: the server said not to retry.
    """

    meant_s: NDArray[np.float64]
    late_ms: NDArray[np.float64]
    took_ms: NDArray[np.float64]
    status: NDArray[np.int64]
    tier: NDArray[np.int64]
    who: NDArray[np.int64]
    never_again: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.meant_s)

    def where(self, mask: NDArray[np.bool_]) -> Calls:
        return Calls(**{name: getattr(self, name)[mask] for name in _COLUMNS})

    def of(self, *who: str) -> Calls:
        return self.where(np.isin(self.who, [WHO.index(name) for name in who]))

    def between(self, start_s: float, end_s: float) -> Calls:
        return self.where((self.meant_s >= start_s) & (self.meant_s < end_s))

    @property
    def probes(self) -> Calls:
        """The health checks."""
        return self.where(np.equal(self.who, HEALTH))

    def in_time(self, deadline_ms: float) -> NDArray[np.bool_]:
        return np.equal(self.status, OK) & (self.took_ms <= deadline_ms)

    def share(self, status: int) -> float:
        return float(np.mean(np.equal(self.status, status)))

    def percentile_ms(self, percent: float) -> float:
        return float(np.percentile(self.took_ms, percent))


class Channels:
    """Channels to the server, used in turn."""

    def __init__(self, address: str, deadline_ms: float, *, retries: bool) -> None:
        config = [("grpc.service_config", json.dumps(RETRIES))] if retries else []
        options = [("grpc.use_local_subchannel_pool", 1), *config]
        self._channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(_CHANNELS)]
        self._health = grpc.aio.insecure_channel(address)
        self._calls = [channel.unary_unary(f"/{SERVICE}/Recommend") for channel in self._channels]
        self._check = self._health.unary_unary("/grpc.health.v1.Health/Check")
        self._requests = [_request(number) for number in range(64)]
        self._bad = pb.RecommendRequest(user_id="", limit=-1).SerializeToString()
        self._metadata = tuple((("terrace-criticality", who),) for who in (*WHO[:3], "batch"))
        self._deadline_s = deadline_ms / 1000

    async def send(self, number: int, who: int, due_s: float) -> tuple[int, bytes, bool]:
        """Status, response and whether never to try again."""
        left_s = max(due_s + self._deadline_s - time.monotonic(), 1e-3)
        if who == HEALTH:
            call = self._check(b"", timeout=1.0)
        else:
            request = self._bad if WHO[who] == "invalid" else self._requests[number % len(self._requests)]
            metadata = self._metadata[who]
            call = self._calls[number % _CHANNELS](request, timeout=left_s, metadata=metadata)
        try:
            return OK, await call, False
        except grpc.aio.AioRpcError as error:
            again = dict(error.trailing_metadata() or ()).get("grpc-retry-pushback-ms")
            return error.code().value[0], b"", again == "-1"

    async def close(self) -> None:
        for channel in (*self._channels, self._health):
            await channel.close()


def _request(number: int) -> bytes:
    rows = [(number * 31 + i * 7) % ITEMS for i in range(EACH)]
    recent = [pb.Event(item_id=item(row), event_type="view") for row in rows]
    return pb.RecommendRequest(user_id=f"user-{number}", recent_events=recent).SerializeToString()


async def closed(channels: Channels, wanted: Closed, deadline_ms: float) -> dict[str, float]:
    """Answers a second in time, of any rung and of the deep one."""
    end_s = time.monotonic() + wanted.seconds
    found: list[tuple[float, bytes]] = []

    async def caller(number: int) -> None:
        while (now_s := time.monotonic()) < end_s:
            status, data, _ = await channels.send(number, 0, now_s)
            number += 7
            if status == OK:
                found.append(((time.monotonic() - now_s) * 1000, data))

    await asyncio.gather(*(caller(number) for number in range(wanted.callers)))
    in_time = [data for took_ms, data in found if took_ms <= deadline_ms]
    deep = sum(_tier(data) == pb.TIER_DEEP for data in in_time)
    return {
        "in_time_per_s": len(in_time) / wanted.seconds,
        "deep_per_s": deep / wanted.seconds,
        "median_ms": float(np.median([took_ms for took_ms, _ in found] or [0])),
    }


async def open_loop(channels: Channels, phases: list[Phase], out: Path, seed: int) -> dict[str, float]:
    """Make the calls of the phases, one after the other, and write down what came of them."""
    rng = np.random.default_rng(seed)
    meant, who = _plan(phases, rng)
    got: list[Any] = [None] * len(meant)
    tasks: set[asyncio.Task[None]] = set()
    gc.collect()
    gc.freeze()
    start_s, cpu_s = time.monotonic() + 0.1, time.process_time()

    async def call(number: int, kind: int, due_s: float) -> None:
        late_ms = (time.monotonic() - due_s) * 1000
        status, data, never_again = await channels.send(number, kind, due_s)
        got[number] = late_ms, (time.monotonic() - due_s) * 1000, status, data, never_again

    for number, (at_s, kind) in enumerate(zip(meant.tolist(), who.tolist(), strict=True)):
        due_s = start_s + at_s
        wait_s = due_s - time.monotonic()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        task = asyncio.create_task(call(number, kind, due_s))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        if number % 16 == 0 and wait_s <= 0:
            await asyncio.sleep(0)  # a caller that is behind must still read answers
    await asyncio.gather(*tasks)
    busy = (time.process_time() - cpu_s) / (time.monotonic() - start_s)
    late_ms, took_ms, status, data, never_again = zip(*got, strict=True)
    tier = [_tier(each) if kind != HEALTH else 0 for each, kind in zip(data, who.tolist(), strict=True)]
    columns = (meant, late_ms, took_ms, status, tier, who, never_again)
    np.savez(out, **{name: np.array(column) for name, column in zip(_COLUMNS, columns, strict=True)})
    return {"busy": busy, "late_p99_ms": float(np.percentile(late_ms, 99)), "late_max_ms": max(late_ms)}


def _plan(phases: list[Phase], rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """When calls are due, rising, and whose they are; health checks among them."""
    meant, who, start_s = [], [], 0.0
    for phase in phases:
        *rates, checks = (*phase.rates, *[0.0] * (HEALTH + 1 - len(phase.rates)))
        for kind, rate in enumerate((*rates, checks + _PROBES_PER_S)):
            meant.append(start_s + rng.random(rng.poisson(rate * phase.seconds)) * phase.seconds)
            who.append(np.full(len(meant[-1]), kind))
        start_s += phase.seconds
    order = np.argsort(np.concatenate(meant))
    return np.concatenate(meant)[order], np.concatenate(who)[order]


def _tier(data: bytes) -> int:
    return pb.RecommendResponse.FromString(data).info.tier


async def main() -> None:
    """Answer lines until there are no more."""
    sys.setswitchinterval(0.0002)
    _print({})
    while line := await asyncio.to_thread(sys.stdin.readline):
        given = json.loads(line)
        channels = Channels(given["address"], given["deadline_ms"], retries=given["retries"])
        if "closed" in given:
            _print(await closed(channels, Closed(**given["closed"]), given["deadline_ms"]))
        else:
            phases = [Phase(**phase) for phase in given["phases"]]
            _print(await open_loop(channels, phases, Path(given["out"]), given["seed"]))
        await channels.close()


def _print(found: dict[str, float]) -> None:
    sys.stdout.write(f"{json.dumps(found)}\n")
    sys.stdout.flush()


def command(address: str, *, deadline_ms: float = 100.0, retries: bool = False, **what: Any) -> str:
    """The line of standard input for one of ``closed=Closed``, or ``phases=[Phase], out=Path, seed=int``."""
    plain = {name: asdict(value) if isinstance(value, Closed) else value for name, value in what.items()}
    if "phases" in plain:
        plain["phases"] = [asdict(phase) for phase in plain["phases"]]
        plain["out"] = str(plain["out"])
    return json.dumps({"address": address, "deadline_ms": deadline_ms, "retries": retries, **plain})


def read(out: Path) -> Calls:
    """What ``open_loop`` wrote."""
    with np.load(out, allow_pickle=False) as arrays:
        return Calls(**{name: arrays[name] for name in _COLUMNS})


if __name__ == "__main__":
    uvloop.run(main())
