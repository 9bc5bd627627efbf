"""Responses, metrics and spans say the same of the same traffic, exactly; and the parts of a server can be watched."""

from __future__ import annotations

import asyncio
import random
import re
import threading
import urllib.request
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from core.types import Reason, Tier, UserState
from server.edge.accept_queue import AcceptQueueProbe
from server.edge.servicer import SERVICE
from server.gauges import add_gauges, add_store_gauges
from server.overload.admission import LONGEST_QUEUE_S
from server.overload.breaker import State
from server.overload.loop_lag import LoopLag
from server.overload.shedding import Criticality
from server.rungs.versions import Versions
from server.settings import Settings
from server.store.user_store import MemoryUserStore, RedisUserStore
from server.telemetry.exporters import exporters
from terrace.v1 import recommendation_pb2 as pb
from tests.server import toy
from tests.server.observed import Facts, Observed, Tally, labels
from tests.server.running import Running, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from core.types import Scores, StopSignal
    from server.store.user_store import UserStore
    from server.telemetry.recorder import Telemetry

EVENT = pb.Event(item_id="item-11", event_type="view")
SETTINGS = Settings(default_deadline_ms=3.0, max_request_ms=20_000, exercise_share=0.1, score_timeout_ms=30)
"""Who names no deadline has so little time that only the cheap rungs answer."""
AMPLE_S = 20.0
VERSION = "toy"
NO_ROOM_S = LONGEST_QUEUE_S
"""A wait that is too long for the deep rung and not for CF, however much time a call has."""
KINDS = {
    "Recommend": (pb.RecommendRequest, pb.RecommendResponse),
    "SimilarItems": (pb.SimilarItemsRequest, pb.SimilarItemsResponse),
    "RankItems": (pb.RankItemsRequest, pb.RankItemsResponse),
}
REQUESTS: tuple[Any, ...] = (
    pb.RecommendRequest(user_id="known"),
    pb.RecommendRequest(user_id="known", limit=50),
    pb.RecommendRequest(user_id="unheard-of"),
    pb.RecommendRequest(user_id="unheard-of", recent_events=[EVENT]),
    pb.RecommendRequest(user_id=""),
    pb.SimilarItemsRequest(item_id="item-11"),
    pb.SimilarItemsRequest(item_id="unheard-of"),
    pb.SimilarItemsRequest(item_id="item-11", limit=-1),
    pb.RankItemsRequest(user_id="known", item_ids=["item-12", "item-31", "unheard-of"]),
    pb.RankItemsRequest(user_id="unheard-of", item_ids=["item-31"]),
    pb.RankItemsRequest(user_id="known"),
)
METADATA: tuple[tuple[tuple[str, str], ...], ...] = (
    (),
    (),
    (("terrace-criticality", "prefetch"),),
    (("terrace-criticality", "batch"),),
    (("terrace-tier", "CF"),),
    (("terrace-tier", "POPULARITY"), ("terrace-exercise", "off")),
    (("terrace-tier", "none"),),
)


@dataclass
class Mood:
    """What is wrong with the server just now."""

    parts: frozenset[str] = frozenset()
    began: threading.Event = field(default_factory=threading.Event)

    def fails(self, part: str) -> None:
        if part in self.parts:
            toy.fail()

    def model(self, stop: StopSignal | None) -> None:
        self.began.set()
        self.fails("model")
        if "late model" in self.parts:
            toy.hang_until_stopped(stop)

    def scores(self, scores: Scores) -> Scores:
        return scores * np.nan if "model of NaN" in self.parts else scores

    async def read(self, plain: UserState) -> UserState:
        self.fails("store that raises")
        return UserState(missing=Reason.STORE_FAILED) if "store" in self.parts else plain


MOODS = ("", "near", "far", "model", "late model", "model of NaN", "store", "store that raises", "crowd", "loop", "all")


class MoodyStore(MemoryUserStore):
    def __init__(self, mood: Mood) -> None:
        super().__init__(())
        self._mood = mood

    async def read(self, user_id: str, timeout_s: float = 1.0, report: object = None) -> UserState:  # noqa: ARG002
        return await self._mood.read(UserState(toy.HISTORY) if user_id == "known" else UserState())


class World:
    """A server under observation, and what its callers were told.

    Attributes:
        told: of every call that has ended, as its caller sees it.

        answered: recommendation id -> bundle version, of the answers.
    """

    def __init__(self, server: Running, channel: grpc.aio.Channel, observed: Observed, mood: Mood) -> None:
        self.server, self.observed, self.mood = server, observed, mood
        self.told: list[Facts] = []
        self.answered: dict[str, str] = {}
        self._channel = channel

    async def call(
        self, message: Any, *metadata: tuple[str, str], timeout_s: float | None = AMPLE_S, cancel: bool = False
    ) -> None:
        method = next(name for name, (kind, _) in KINDS.items() if isinstance(message, kind))
        raw = self._channel.unary_unary(f"/{SERVICE}/{method}")
        call = raw(message.SerializeToString(), timeout=timeout_s, metadata=metadata)
        criticality = dict(metadata).get("terrace-criticality", "user")
        if cancel:
            await asyncio.to_thread(self.mood.began.wait, AMPLE_S)
            call.cancel()
        try:
            info = KINDS[method][1].FromString(await call).info
        except grpc.aio.AioRpcError as error:
            self.told.append(Facts(method, error.code().name, criticality))
        except asyncio.CancelledError:
            self.told.append(Facts(method, "CANCELLED", criticality))
        else:
            self.told.append(Facts.of_response(method, criticality, info))
            self.answered[info.recommendation_id] = info.bundle_version

    async def live_through(self, part: str, rng: random.Random) -> None:
        """Some calls at once while something is wrong."""
        self.mood.parts = frozenset(MOODS if part == "all" else {part})
        admission = self.server.admission
        admission.delay_s = 1e3 if part == "loop" else 0.0
        admission._backlog_s = NO_ROOM_S if part in {"crowd", "all"} else 0.0
        admission._pressure._value = 1e9 if part == "crowd" else 0.0
        await asyncio.gather(
            *(
                self.call(rng.choice(REQUESTS), *rng.choice(METADATA), timeout_s=rng.choice((AMPLE_S, AMPLE_S, None)))
                for _ in range(12)
            )
        )
        admission._pressure._value = 0.0

    async def go_away(self) -> None:
        """A caller that gives up while the model hangs."""
        self.mood.parts = frozenset({"late model"})
        self.mood.began.clear()
        self.server.admission.delay_s = self.server.admission._backlog_s = 0.0
        metadata = ("terrace-exercise", "off")
        await self.call(pb.RecommendRequest(user_id="known", recent_events=[EVENT]), metadata, cancel=True)

    async def recorded(self) -> None:
        """Telemetry is told of a call after its answer."""
        async with asyncio.timeout(AMPLE_S):
            while len(self.server.calls) < len(self.told):  # noqa: ASYNC110 - telemetry wakes nobody
                await asyncio.sleep(0)


@asynccontextmanager
async def served(rng: random.Random) -> AsyncIterator[World]:
    mood, observed = Mood(), Observed()
    bundle = toy.bundle(
        near=toy.ToyGenerator("neighbours", True, 1, lambda: mood.fails("near")),
        far=toy.ToyGenerator("far", False, 7, lambda: mood.fails("far")),
        scorer=toy.ToyScorer(mood.model, mood.scores),
    )
    async with (
        running(SETTINGS, bundle, MoodyStore(mood), rng=rng.random) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        tell = server.edge._record
        server.edge._record = lambda call: (observed.telemetry.record(call), tell(call))[1]
        yield World(server, channel, observed, mood)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_responses_metrics_and_spans_agree_exactly(seed: int) -> None:
    rng = random.Random(seed)
    async with served(rng) as world:
        await world.go_away()
        for part in rng.sample(MOODS * 3, 3 * len(MOODS)):
            await world.live_through(part, rng)
        await world.recorded()
        spans = world.observed.spans
        counted = world.observed.tally()
        told, traced = Tally.of(world.told), Tally.of(Facts.of_span(span) for span in spans)

        assert counted == told
        assert counted == traced
        assert counted == Tally.of(map(Facts.of_call, world.server.calls))
        assert counted.requests.total() == len(world.told) == len(spans) > 12 * len(MOODS)
        assert counted.stage_s == pytest.approx(told.stage_s, rel=1e-4)
        assert counted.stage_s == pytest.approx(traced.stage_s)
        answers = {span["terrace.recommendation_id"]: span.get("terrace.bundle_version") for span in spans}
        assert {name: version for name, version in answers.items() if version} == world.answered
        _is_mixed(counted)


def _is_mixed(counted: Tally) -> None:
    """The traffic was of every kind, or the test above shows little."""

    def seen(key: str, *tallies: Any) -> set[str]:
        return {value for tally in tallies for series in tally for name, value in series if name == key}

    assert seen("method", counted.requests) == set(KINDS)
    statuses = {"OK", "CANCELLED", "INVALID_ARGUMENT", "INTERNAL", "RESOURCE_EXHAUSTED"}
    assert seen("status", counted.requests) == statuses
    assert seen("criticality", counted.requests) == {"user", "prefetch", "batch"}
    assert seen("tier", counted.requests) == {"POPULARITY", "CF", "DEEP", "NONE"}
    assert seen("source", counted.dropped) == {"user_store", "neighbours", "far"}
    reasons = {"not_configured", "not_asked", "no_history", "unknown_item", "store_failed", "no_time", "failed"}
    reasons |= {"forced", "exercised"}
    assert seen("reason", counted.skipped, counted.dropped) >= reasons


def watched(telemetry: Telemetry, server: Running, store: UserStore) -> LoopLag:
    lag, probe = LoopLag(server.admission.observe_delay), AcceptQueueProbe(lambda: 0)
    add_gauges(
        telemetry,
        admission=server.admission,
        versions=Versions.of(server.pipeline),
        work=server.work,
        lag=lag,
        probe=probe,
    )
    add_store_gauges(telemetry, {VERSION: store})
    return lag


async def test_the_parts_of_a_server_can_be_watched() -> None:
    observed = Observed()
    async with running() as server:
        lag = watched(observed.telemetry, server, server.store)
        names = {"neighbours", "far", "popularity", "user_store", "scorer", "user_tower"}
        admission = server.admission
        permit = admission.admit(Criticality.USER, 1.0, Tier.DEEP)
        server.pipeline.breakers["far"]._enter(State.OPEN)
        server.pipeline.breakers["user_store"]._enter(State.HALF_OPEN)
        lag.worst_s = 0.25

        assert permit is not None
        assert observed.counts("terrace.deep.in_flight") == {labels(): 1}
        assert observed.counts("terrace.pressure") == {labels(): 0}
        admission.shed[Criticality.BATCH] = 3
        assert observed.counts("terrace.shed")[labels(criticality="batch")] == 3
        assert observed.counts("terrace.loop.lag") == {labels(): 0.25}
        assert observed.counts("terrace.work.free_jobs") == {labels(): 16}
        assert observed.counts("terrace.work.stuck") == {labels(): 0}
        levels = dict.fromkeys(names, 0) | {"far": 2, "user_store": 1}
        state = {labels(dependency=name, version=VERSION): level for name, level in levels.items()}
        assert dict(observed.counts("terrace.breaker.state")) == state
        transitions = observed.counts("terrace.breaker.transitions")
        assert len(transitions) == len(names) * len(State)
        assert transitions[labels(dependency="far", version=VERSION, state="open")] == 1
        assert transitions.total() == 2
        cost_s = observed.counts("terrace.scorer.row_cost")[labels(version=VERSION)]
        assert 0 < cost_s < 1
        assert not {name for name in observed.names() if name.startswith("terrace.store")}
        lag.close()


async def test_a_bundle_without_a_model_has_no_cost_of_a_row() -> None:
    observed = Observed()
    async with running(bundle=toy.bundle(deep=False)) as server:
        watched(observed.telemetry, server, server.store).close()

        assert "terrace.scorer.row_cost" not in observed.names()
        assert labels(dependency="scorer", version=VERSION) in observed.counts("terrace.breaker.state")


async def test_prometheus_sees_calls_and_parts_and_the_store(valkey: str) -> None:
    out = exporters(metrics_port=0)
    store = RedisUserStore(valkey, "agreement", ("purchase",))
    async with running(store=store) as server, grpc.aio.insecure_channel(server.address) as channel:
        server.edge._record = out.telemetry.record
        lag = watched(out.telemetry, server, store)
        raw = channel.unary_unary(f"/{SERVICE}/Recommend")
        await raw(pb.RecommendRequest(user_id="ada").SerializeToString(), timeout=AMPLE_S)
        await asyncio.sleep(0)
        with await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{out.metrics_port}/metrics") as page:
            text = page.read().decode()
        lag.close()
    await store.close()
    await asyncio.to_thread(out.close)

    values = {name + series: float(value) for name, series, value in re.findall(r"(?m)^(\w+)(\{.*\})? (\S+)$", text)}
    for name, least, most in (
        ("terrace_deep_in_flight", 0, 0),
        ("terrace_accept_queue_wait_seconds", 0, AMPLE_S),
        ("terrace_accept_queue_probe_failures_total", 0, 0),
        ("terrace_pressure", 0, 0),
        ("terrace_loop_lag_seconds", 0, AMPLE_S),
        ("terrace_work_free_jobs", 16, 16),
        ("terrace_work_stuck", 0, 0),
        (f'terrace_store_in_use{{version="{VERSION}"}}', 0, 1),
        (f'terrace_scorer_row_cost_seconds{{version="{VERSION}"}}', 1e-9, 1),
        (f'terrace_breaker_state{{dependency="scorer",version="{VERSION}"}}', 0, 0),
        (f'terrace_breaker_transitions_total{{dependency="scorer",state="open",version="{VERSION}"}}', 0, 0),
        (f'terrace_store_misses_total{{kind="late",version="{VERSION}"}}', 0, 0),
    ):
        assert least <= values[name] <= most, name
    answered = [series for series in values if series.startswith("terrace_requests_total") and 'status="OK"' in series]
    assert len(answered) == 1
    assert values[answered[0]] == 1
