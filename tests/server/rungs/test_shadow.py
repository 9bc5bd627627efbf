"""Shadow calls: what is compared, what is dropped, and that users notice nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from core.release import Release
from core.types import Tier
from server.edge.call_guard import CallGuard
from server.edge.servicer import Servicer
from server.overload.admission import Admission
from server.overload.shedding import Criticality
from server.rungs.pipeline import Pipeline
from server.rungs.shadow import Shadow
from server.rungs.versions import Versions
from server.rungs.work_pool import WorkPool
from server.settings import Settings
from server.store.user_store import MemoryUserStore
from server.telemetry.observer import Observer
from terrace.v1 import recommendation_pb2 as pb
from terrace.v1.recommendation_pb2_grpc import RecommendationServiceStub
from tests.server import toy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from core.bundle import Bundle
    from core.types import UserState
    from server.telemetry.version_counts import ShadowCounts

ADA = pb.RecommendRequest(user_id="ada", limit=8, recent_events=[pb.Event(item_id="item-11", event_type="view")])
SETTINGS = Settings(default_deadline_ms=20_000, max_request_ms=20_000, exercise_share=0)
PATIENT_S = 60


class SlowStore(MemoryUserStore):
    """Answers while it may."""

    def __init__(self, may_answer: asyncio.Event) -> None:
        super().__init__(("purchase",))
        self._may_answer = may_answer

    async def read(self, *arguments: Any, **more: Any) -> UserState:
        await self._may_answer.wait()
        return await super().read(*arguments, **more)


class World:
    """A server of v1 with v2 as its shadow, on a real port."""

    def __init__(self, candidate: Bundle) -> None:
        self.work = WorkPool(threads=1, max_jobs=16)
        self.admission = Admission(1)
        self.observer = Observer(["v1", "v2"])
        self.store_of_v2 = asyncio.Event()
        self.store_of_v2.set()
        answer_from = (
            (replace(toy.bundle(), version="v1"), MemoryUserStore(("purchase",))),
            (replace(candidate, version="v2"), SlowStore(self.store_of_v2)),
        )
        self.pipelines = {bundle.version: Pipeline(bundle, store, self.work, SETTINGS) for bundle, store in answer_from}
        self.versions = Versions(self.pipelines, Release.of("v1").stage("v2").with_shadow(1.0))
        self.shadow = Shadow(SETTINGS, self.admission, self.observer, rng=lambda: 0.5)
        self.edge = CallGuard(SETTINGS, self.admission, self.observer.observe, lambda: 1.0)
        self.edge.versions = self.versions

    @property
    def counts(self) -> ShadowCounts:
        return self.observer.counts["v2"].shadowed

    async def ask(self, **metadata: str) -> pb.RecommendResponse:
        keys = tuple((key.replace("_", "-"), value) for key, value in metadata.items())
        answer: pb.RecommendResponse = await self.stub.Recommend(ADA, timeout=PATIENT_S, metadata=keys)
        return answer

    async def until(self, shadowed: int) -> None:
        async with asyncio.timeout(PATIENT_S):
            while True:
                if self.counts.unseen.calls + self.counts.dropped >= shadowed:
                    return
                await asyncio.sleep(0.001)

    async def start(self) -> None:
        self.server = grpc.aio.server()
        self.server.add_generic_rpc_handlers((Servicer(SETTINGS, self.shadow).handler(self.edge),))
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self.stub = RecommendationServiceStub(self.channel)

    async def stop(self) -> None:
        await self.channel.close()
        await self.server.stop(None)
        await self.shadow.close()
        self.work.close()


@pytest.fixture
def candidate() -> Bundle:
    return toy.bundle()


@pytest.fixture
async def world(candidate: Bundle) -> AsyncIterator[World]:
    found = World(candidate)
    await found.start()
    yield found
    await found.stop()


async def test_the_same_answer_overlaps_wholly_and_users_get_the_live_one(world: World) -> None:
    for n in range(1, 4):
        assert (await world.ask()).info.bundle_version == "v1"
        await world.until(n)

    counts = world.counts
    assert (counts.overlaps, counts.dropped) == ({100: 3}, 0)
    assert (counts.shown.calls, counts.shown.deep, counts.unseen.calls, counts.unseen.deep) == (3, 3, 3, 3)
    assert counts.unseen.scores == counts.shown.scores
    assert world.observer.counts["v2"].answered.calls == 0
    assert world.admission.in_flight == 0


class TestACandidateThatFails:
    @pytest.fixture
    def candidate(self) -> Bundle:
        return toy.bundle(scorer=toy.ToyScorer(after=lambda scores: scores * np.float32(np.nan)))

    async def test_what_is_wrong_with_it_is_counted_and_no_user_notices(self, world: World) -> None:
        answer = await world.ask()
        await world.until(1)

        assert answer.info.tier == pb.TIER_DEEP
        assert (world.counts.unseen.invalid, world.counts.unseen.deep, world.counts.shown.deep) == (1, 0, 1)
        assert world.pipelines["v1"].breakers["scorer"].permit()


async def test_one_at_a_time_is_asked_and_the_others_are_dropped_and_counted(world: World) -> None:
    world.store_of_v2.clear()
    for _ in range(3):
        await world.ask()
    assert (world.counts.dropped, world.counts.unseen.calls) == (2, 0)
    world.store_of_v2.set()
    await world.until(3)

    assert (world.counts.dropped, world.counts.unseen.calls) == (2, 1)


@pytest.mark.parametrize("tier", ["CF", "POPULARITY"])
async def test_a_call_that_was_kept_on_a_lower_rung_is_not_compared(world: World, tier: str) -> None:
    await world.ask(terrace_tier=tier)
    await world.ask()
    await world.until(1)

    assert world.counts.shown.calls == 1


async def test_under_pressure_shadow_calls_are_dropped_and_counted(world: World) -> None:
    busy = [world.admission.admit(Criticality.USER, 30.0, Tier.DEEP) for _ in range(2)]
    await world.ask()
    await world.until(1)

    assert (world.counts.dropped, world.counts.unseen.calls) == (1, 0)
    assert all(permit is not None for permit in busy)


async def test_users_of_the_candidate_are_not_compared_with_themselves(world: World) -> None:
    world.versions.follow(world.versions.release.with_share(1.0))
    assert (await world.ask()).info.bundle_version == "v2"
    world.versions.follow(world.versions.release.with_share(0.0))
    await world.ask()
    await world.until(1)

    assert (world.counts.shown.calls, world.counts.dropped) == (1, 0)


async def test_without_a_share_nothing_is_asked(world: World) -> None:
    world.versions.follow(world.versions.release.with_shadow(0.5))  # rng is 0.5
    await world.ask()
    world.versions.follow(world.versions.release.with_shadow(1.0))
    await world.ask()
    await world.until(1)

    assert world.counts.unseen.calls == 1
