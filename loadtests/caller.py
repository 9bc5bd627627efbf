"""Callers in a process of their own: as many as possible at once (closed), or so many a second whatever happens (open).

``python -m loadtests.caller ADDRESS USERS closed CALLERS SECONDS [CHANNELS]`` or ``... open RATE SECONDS [CHANNELS]`` prints
one line of JSON.
An open call's time runs from the moment at which it was meant to be sent, so that a client that is late hides nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import uvloop

from core.types import Tier
from loadtests.figures import latency
from loadtests.users import Users
from terrace.v1 import recommendation_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

DEADLINE_S = 0.05
CHANNELS = 4
"""Connections; more where several workers share a port, since the system spreads connections and not calls."""
_PLAIN = (("terrace-exercise", "off"),)  # what is measured is how high calls can climb
_METHOD = "/terrace.v1.RecommendationService/Recommend"


@dataclass
class Tally:
    """What came of the calls.

    Attributes:
        tiers: answers by tier, in time or not.

        in_time: answers by tier that came within ``DEADLINE_S``.

        statuses: calls that failed, by gRPC status.

        took_ms: of the answers.

        late_ms: how late each call was sent.
    """

    tiers: Counter[str] = field(default_factory=Counter)
    in_time: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    took_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)

    def figures(self, seconds: float) -> dict[str, Any]:
        """Counts, shares of all calls, rates per second, latencies."""
        sent = self.tiers.total() + self.statuses.total()
        return {
            "sent": sent,
            "answered_share": self.tiers.total() / sent if sent else 0.0,
            "deep_in_time_share": self.in_time[Tier.DEEP.name] / sent if sent else 0.0,
            "deep_in_time_per_s": self.in_time[Tier.DEEP.name] / seconds,
            "tiers": dict(self.tiers),
            "statuses": dict(self.statuses),
            **latency(self.took_ms),
            "sent_late_p99_ms": latency(self.late_ms)["p99_ms"],
        }


class Caller:
    """Asks for one user after the other over several connections."""

    def __init__(self, address: str, user_ids: list[str], channels: int = CHANNELS) -> None:
        # A pool of its own for each channel: gRPC would put them all on one connection.
        options = (("grpc.use_local_subchannel_pool", 1),)
        self._channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(channels)]
        self._methods: Iterator[Any] = itertools.cycle([channel.unary_unary(_METHOD) for channel in self._channels])
        requests = [pb.RecommendRequest(user_id=user_id, limit=20).SerializeToString() for user_id in user_ids]
        self._requests = itertools.cycle(requests)
        self.tally = Tally()

    async def call(self, meant_s: float) -> None:
        """One call that was meant to be sent at ``meant_s`` of the monotonic clock."""
        tally = self.tally
        tally.late_ms.append((time.monotonic() - meant_s) * 1000)
        left_s = meant_s + DEADLINE_S - time.monotonic()
        try:
            raw = await next(self._methods)(next(self._requests), timeout=max(left_s, 1e-3), metadata=_PLAIN)
        except grpc.aio.AioRpcError as error:
            tally.statuses[error.code().name] += 1
            return
        took_s = time.monotonic() - meant_s
        tier = Tier(pb.RecommendResponse.FromString(raw).info.tier).name
        tally.tiers[tier] += 1
        tally.in_time[tier] += took_s <= DEADLINE_S
        tally.took_ms.append(took_s * 1000)

    async def closed(self, callers: int, seconds: float) -> None:
        """So many callers who each ask again as soon as they have an answer."""
        end_s = time.monotonic() + seconds

        async def ask() -> None:
            while time.monotonic() < end_s:
                await self.call(time.monotonic())

        await asyncio.gather(*(ask() for _ in range(callers)))

    async def open(self, rate: float, seconds: float) -> None:
        """Calls at the moments of a Poisson process of ``rate`` a second."""
        gaps = np.random.default_rng(5).exponential(1 / rate, int(rate * seconds))
        start_s = time.monotonic()
        async with asyncio.TaskGroup() as calls:
            for meant_s in (start_s + np.cumsum(gaps)).tolist():
                wait_s = meant_s - time.monotonic()
                await asyncio.sleep(max(wait_s, 0))
                calls.create_task(self.call(meant_s))

    async def close(self) -> None:
        """Close the connections."""
        for channel in self._channels:
            await channel.close()


async def main(  # noqa: PLR0917 - its command line
    address: str, users: str, kind: str, how_many: str, seconds: str, channels: str = f"{CHANNELS}"
) -> None:
    """Warm the connections, call, print."""
    caller = Caller(address, Users.load(Path(users)).ids, int(channels))
    await caller.closed(int(channels), 0.5)
    caller.tally = Tally()
    cpu_s = time.process_time()
    if kind == "closed":
        await caller.closed(int(how_many), float(seconds))
    else:
        await caller.open(float(how_many), float(seconds))
    found = caller.tally.figures(float(seconds))
    caller_ms = (time.process_time() - cpu_s) * 1000 / max(found["sent"], 1)
    sys.stdout.write(json.dumps(found | {"caller_ms_per_call": caller_ms}) + "\n")
    await caller.close()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
