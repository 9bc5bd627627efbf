"""A server in a process of its own whose parts break on command, and callers who write down what they get."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from terrace.v1 import recommendation_pb2 as pb
from terrace.v1.recommendation_pb2_grpc import RecommendationServiceStub
from tests.faults.chaos_world import USERS, owned
from tests.faults.history import Call, Filters, History, Item, Request
from tests.faults.run_length import DEADLINE_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from tests.faults.history import World

ROOT = Path(__file__).parents[2]
_TIERS = {value: name.removeprefix("TIER_") for name, value in pb.Tier.items()}
_REASONS = {value: name.removeprefix("REASON_").lower() for name, value in pb.Reason.items()}
_FILTERS = (Filters(), Filters(), Filters(categories=("book",)), Filters(max_price=20.0), Filters(colours=("red",)))
_STOP_S = 10.0


class ChaosServer:
    """``tests.faults.chaos_server``, running; a context manager."""

    def __init__(self, folder: Path, log: Path, **settings: Any) -> None:
        """Start it and wait until it answers.

        Args:
            folder: has the model.
            log: file for what it writes on standard error.
            settings: of ``server.settings.Settings``; by default no call exercises a lower rung.
        """
        self._log = log
        chosen = json.dumps({"port": 0, "metrics_port": 0, "exercise_share": 0.0, "lame_duck_s": 0.0, **settings})
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.chaos_server", str(folder), chosen],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        ready = self._answer()
        self.address = f"127.0.0.1:{ready['port']}"
        self._metrics_url = f"http://127.0.0.1:{ready['metrics_port']}/metrics"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def rss_mb(self) -> float:
        """Resident memory, MB of 10^6 bytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * 4096 / 1e6

    def command(self, line: str) -> dict[str, Any]:
        """Send a command of ``chaos_server``; returns once it is carried out, within a millisecond or two."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode("ascii"))
        self._process.stdin.flush()
        answer = self._answer()
        assert "error" not in answer, answer
        return answer

    def stats(self) -> dict[str, Any]:
        """State and counts of the server's parts."""
        return self.command("stats")

    def breaker(self, name: str) -> str:
        """State of one breaker."""
        return self.stats()["breakers"][name]["state"]

    def noise(self) -> list[str]:
        """Lines that it wrote on standard error so far."""
        return self._log.read_text(encoding="utf-8", errors="replace").splitlines()

    def metrics(self) -> dict[str, float]:
        """What Prometheus would read: value by series."""
        with urllib.request.urlopen(self._metrics_url, timeout=5) as page:  # noqa: S310 - of our own server
            lines = page.read().decode("utf-8").splitlines()
        return {name: float(value) for name, _, value in (li.rpartition(" ") for li in lines if not li.startswith("#"))}

    def close(self) -> None:
        """Ask it to end, and wait."""
        if self.alive:
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the server ended: {self.noise()[-20:]}"
        return json.loads(line)


@dataclass(frozen=True)
class Mix:
    """What requests are drawn from, where a test names nothing else.

    Attributes:
        filtered: with filters and exclusions at times.

        recent: with an event that the store does not know yet: one of the user's own items, viewed now.
    """

    filtered: bool = True
    recent: bool = False
    deadline_ms: float | None = DEADLINE_MS
    limits: Sequence[int] = (5, 20)
    criticalities: Sequence[str] = ("user",)
    users: Sequence[str] = USERS


class Callers:
    """Open-loop callers of one server, who write a history; an async context manager."""

    def __init__(self, address: str, world: World, seed: int = 0) -> None:
        self.history = History(world)
        self.mix = Mix()
        self._address = address
        self._rng = random.Random(seed)
        self._out: set[asyncio.Task[Call]] = set()

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self._address, options=(("grpc.enable_retries", 0),))
        self._recommend: Any = RecommendationServiceStub(self._channel).Recommend
        self._health: Any = health_pb2_grpc.HealthStub(self._channel)
        await self._channel.channel_ready()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.settle()
        await self._channel.close()

    def broken(self) -> None:
        """Note that a fault begins."""
        self.history.broken_s = time.monotonic()

    def healed(self) -> None:
        """Note that the last fault has ended."""
        self.history.healed_s = time.monotonic()

    async def serving(self, timeout_s: float = 1.0) -> bool:
        """Whether health says so in time."""
        with suppress(grpc.RpcError):
            answer = await self._health.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
            return answer.status == health_pb2.HealthCheckResponse.SERVING
        return False

    async def call(self, **given: Any) -> Call:
        """One call; what is not given is as in the mix."""
        return await self._begin(given)

    async def run(self, rate: float, seconds: float, **given: Any) -> list[Call]:
        """So many calls a second for so long, whether earlier ones have ended or not; all of them once they have."""
        begun_s = time.monotonic()
        calls = []
        for i in range(round(rate * seconds)):
            await asyncio.sleep(begun_s + i / rate - time.monotonic())
            calls.append(self._begin(given))
        return await asyncio.gather(*calls)

    async def at_once(self, count: int, **given: Any) -> list[Call]:
        """So many calls in one moment."""
        return await asyncio.gather(*(self._begin(given) for _ in range(count)))

    async def until(
        self, holds: Callable[[], bool], rate: float, within_s: float, what: str = "it", **given: Any
    ) -> float:
        """Keep calling until it holds; the seconds that took.

        Raises:
            AssertionError: it does not hold in time.
        """
        begun_s = time.monotonic()
        count = 0
        while not holds():
            took_s = time.monotonic() - begun_s
            assert took_s < within_s, f"waited for {within_s} s in vain for {what}"
            self._begin(given)
            count += 1
            await asyncio.sleep(begun_s + count / rate - time.monotonic())
        return time.monotonic() - begun_s

    async def settle(self) -> None:
        """Wait for the calls that are out."""
        while self._out:
            await asyncio.gather(*self._out)

    async def since(self, moment_s: float) -> list[Call]:
        """Every call that was sent after a moment, once all have ended."""
        await self.settle()
        return [call for call in self.history.calls if call.sent_s >= moment_s]

    def _begin(self, given: dict[str, Any]) -> asyncio.Task[Call]:
        self.history.sent += 1
        task = asyncio.create_task(self._send(self._request(self.history.sent, given)))
        self._out.add(task)
        task.add_done_callback(self._out.discard)
        return task

    def _request(self, number: int, given: dict[str, Any]) -> Request:
        rng, mix = self._rng, self.mix
        user = given.get("user") or rng.choice(mix.users)
        items = owned(user)
        drawn = Request(
            number,
            user,
            limit=rng.choice(mix.limits),
            filters=rng.choice(_FILTERS) if mix.filtered else Filters(),
            exclude=tuple(f"item-{rng.randrange(60):02}" for _ in range(rng.randrange(4))) if mix.filtered else (),
            recent=(rng.choice(items[:-1]),) if mix.recent else (),
            deadline_ms=mix.deadline_ms,
            criticality=rng.choice(mix.criticalities),
        )
        return replace(drawn, **given)

    async def _send(self, request: Request) -> Call:
        message = _message(request)
        sent_s = time.monotonic()
        timeout_s = None if request.deadline_ms is None else request.deadline_ms / 1000
        metadata = (("terrace-criticality", request.criticality),)
        try:
            answer = await self._recommend(message, timeout=timeout_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            call = Call(
                request,
                sent_s,
                (time.monotonic() - sent_s) * 1000,
                error.code().name,
                details=error.details() or "",
                pushed_back=any(key == "grpc-retry-pushback-ms" for key, _ in error.trailing_metadata() or ()),
            )
        else:
            call = _answered(request, sent_s, answer)
        self.history.calls.append(call)
        return call


def _message(request: Request) -> pb.RecommendRequest:
    chosen = request.filters
    message = pb.RecommendRequest(
        user_id=request.user,
        limit=request.limit,
        exclude_item_ids=request.exclude,
        recent_events=[pb.Event(item_id=item, event_type="view") for item in request.recent],
    )
    if chosen != Filters():
        colours = {"colour": pb.AttributeValues(values=chosen.colours)} if chosen.colours else {}
        filters = pb.Filters(categories=chosen.categories, max_price=chosen.max_price, attributes=colours)
        message.filters.CopyFrom(filters)
    return message


def _answered(request: Request, sent_s: float, answer: pb.RecommendResponse) -> Call:
    info = answer.info
    return Call(
        request,
        sent_s,
        (time.monotonic() - sent_s) * 1000,
        "OK",
        items=tuple(Item(i.item_id, i.score if i.HasField("score") else None, i.explained_by) for i in answer.items),
        tier=_TIERS[info.tier],
        skipped={_TIERS[each.tier]: _REASONS[each.reason] for each in info.skipped},
        dropped={each.source: _REASONS[each.reason] for each in info.dropped_sources},
        version=info.bundle_version,
        scored=info.scored_rows,
        pool=info.pool_rows,
        stages={each.stage: each.duration_ms for each in info.stages},
    )
