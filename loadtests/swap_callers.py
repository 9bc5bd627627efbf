"""Callers who go on while servers are replaced: channels that are kept open, no retries, calls at fixed moments.

``python -m loadtests.swap_callers ADDRESS USERS`` prints "ready", then answers each line of JSON on standard input with
one: ``callers`` and ``seconds`` measure what so many callers get who ask again as soon as they are answered; ``rate``
begins to call so many times a second; ``out`` ends that and writes every call into a file.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import uvloop

from loadtests.users import Users
from terrace.v1 import recommendation_pb2 as pb
from terrace.v1.recommendation_pb2_grpc import RecommendationServiceStub

if TYPE_CHECKING:
    from collections.abc import Iterator

CHANNELS = 16
"""Connections, which the system spreads over workers by a hash of their ports: enough for each worker to have some."""
LIMIT = 20
PATIENCE_S = 10.0
"""Deadline of a call: far beyond the server's own budget, so that a late answer is one, and counts as late. With 2 s, calls
failed while a busy machine gave the callers themselves nothing for so long."""
IN_TIME_S = 0.05
MARK = "@"
"""In the id of some items of a bundle, before the version that they are of; see ``loadtests.swap_bundles``."""
COLUMNS = ("meant_s", "late_ms", "took_ms", "status", "tier", "version", "mixed")
OK = 0
_WARM_UP_S = 0.5
_PLAIN = (("terrace-exercise", "off"),)


def is_mixed(answer: pb.RecommendResponse) -> bool:
    """Whether an answer has not the items asked for, or an item of another version than it says."""
    versions = {item.item_id.partition(MARK)[2] for item in answer.items} - {""}
    return len(answer.items) != LIMIT or not versions <= {answer.info.bundle_version}


class Callers:
    """Connections that are used in turn; belongs to one event loop.

    Attributes:
        found: a row a call, see ``COLUMNS``; times of the monotonic clock, a version by its place in ``versions``.

        versions: that have answered.
    """

    def __init__(self, address: str, user_ids: list[str]) -> None:
        # A pool of its own for each channel: gRPC would put them all on one connection. Also what gRPC repeats by
        # itself, because the server cannot have seen it, would hide a call that was lost.
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
        channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(CHANNELS)]
        self._asks: Iterator[Any] = itertools.cycle(
            [RecommendationServiceStub(channel).Recommend for channel in channels]  # type: ignore[no-untyped-call]
        )
        self._requests = itertools.cycle([pb.RecommendRequest(user_id=each, limit=LIMIT) for each in user_ids])
        self.found: list[tuple[float, ...]] = []
        self.versions: dict[str, int] = {}

    async def call(self, meant_s: float) -> tuple[float, ...]:
        """One call that was meant to be sent at ``meant_s`` of the monotonic clock."""
        sent_s = time.monotonic()
        status, tier, version, mixed = OK, 0, -1, False
        try:
            answer = await next(self._asks)(next(self._requests), timeout=PATIENCE_S, metadata=_PLAIN)
        except grpc.aio.AioRpcError as error:
            status = error.code().value[0]
        took_s = time.monotonic() - meant_s
        if status == OK:
            tier, mixed = answer.info.tier, is_mixed(answer)
            version = self.versions.setdefault(answer.info.bundle_version, len(self.versions))
        return meant_s, (sent_s - meant_s) * 1000, took_s * 1000, status, tier, version, mixed

    async def closed(self, callers: int, seconds: float) -> float:
        """DEEP answers a second in time that so many callers get who ask again as soon as they are answered."""
        end_s, deep = time.monotonic() + seconds, 0

        async def ask() -> None:
            nonlocal deep
            while time.monotonic() < end_s:
                _, _, took_ms, _, tier, *_ = await self.call(time.monotonic())
                deep += tier == pb.TIER_DEEP and took_ms <= IN_TIME_S * 1000

        await asyncio.gather(*(ask() for _ in range(callers)))
        return deep / seconds

    async def open(self, rate: float, enough: asyncio.Event) -> None:
        """Call at the moments of a Poisson process of ``rate`` a second until it is enough; wait for the last answers."""
        rng = np.random.default_rng(5)
        meant_s = time.monotonic()
        async with asyncio.TaskGroup() as calls:
            while not enough.is_set():
                meant_s += rng.exponential(1 / rate)
                await asyncio.sleep(max(meant_s - time.monotonic(), 0))
                calls.create_task(self._note(meant_s))

    async def _note(self, meant_s: float) -> None:
        self.found.append(await self.call(meant_s))


async def main(address: str, users: str) -> None:
    """Answer lines on standard input until it ends."""
    callers = Callers(address, Users.load(Path(users)).ids)
    await callers.closed(CHANNELS, _WARM_UP_S)
    _print_line("ready")
    enough = asyncio.Event()
    calling: asyncio.Task[None] | None = None
    begun_s = cpu_s = 0.0
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        if "callers" in command:
            _print_line(json.dumps(await callers.closed(command["callers"], command["seconds"])))
        elif "rate" in command:
            begun_s, cpu_s = time.monotonic(), time.process_time()
            calling = asyncio.create_task(callers.open(command["rate"], enough))
            _print_line("calling")
        elif calling is not None:
            enough.set()
            await calling
            cores = (time.process_time() - cpu_s) / (time.monotonic() - begun_s)
            columns = dict(zip(COLUMNS, np.array(callers.found).T, strict=True))
            np.savez(command["out"], names=list(callers.versions), cores=cores, **columns)
            _print_line("done")


def _print_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
