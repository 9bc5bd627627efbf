"""A rollout against a real store, with simulated replicas: what it does to the document, and when it lets go."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from core.release import Release, ReleaseError
from server.release.operations import Operations
from server.release.release_store import LostRaceError, ReleaseStore
from server.release.rollout import Act, Decision, Plan, Rollout
from server.release.rollout_run import RolloutRun
from server.release.rollout_store import RolloutRunningError, RolloutStore
from tests.server.release.replicas import replica, report
from tests.server.release.traffic import Behaviour, Traffic

if TYPE_CHECKING:
    from collections.abc import Callable

USUAL = Behaviour()
PLAN = Plan("v2", steps=(0.25, 1.0), hold_s=30.0)


class Deployment:
    """Two replicas, which report and tell what they answered whenever the rollout sleeps."""

    def __init__(self, store: ReleaseStore, v2: Behaviour = USUAL) -> None:
        self.store = store
        self.traffic = Traffic({"v1": USUAL, "v2": v2}, rate=2_000)
        self.loaded = ("v1", "v2")
        self.decisions: list[Decision] = []
        self.meanwhile: Callable[[], object] = lambda: None
        self._now_s = 0.0

    async def begin(self) -> None:
        await self.store.change(lambda _: Release.of("v1"), "ada")
        await self.tell()

    async def tell(self) -> None:
        await report(self.store, *(replica(name, *self.loaded) for name in self.traffic.replicas))
        for name in self.traffic.replicas:
            await RolloutStore(self.store).publish(name, self.traffic.published[name])

    async def roll_out(self, plan: Plan = PLAN, by: str = "ada") -> Decision:
        run = RolloutRun(
            Rollout(plan),
            Operations(self.store, by),
            RolloutStore(self.store),
            lambda decision, _: self.decisions.append(decision),
            clock=lambda: self._now_s,
            sleep=self._sleep,
        )
        return await run.run()

    async def _sleep(self, seconds: float) -> None:
        self._now_s += seconds
        release = await self.store.read()
        if release is not None:
            self.traffic.go_on(release, seconds)
        await self.tell()
        done = self.meanwhile()
        if asyncio.iscoroutine(done):
            await done


@pytest.fixture
async def deployment(store: ReleaseStore) -> Deployment:
    found = Deployment(store)
    await found.begin()
    return found


async def test_a_version_is_staged_stepped_promoted_and_the_next_rollout_may_begin(deployment: Deployment) -> None:
    last = await deployment.roll_out()
    found = await deployment.store.read()

    assert last.act is Act.DONE
    assert found is not None
    assert (found.live_version, found.previous) == ("v2", "v1")
    with pytest.raises(ReleaseError, match="v2 is live already"):
        await deployment.roll_out()
    await RolloutStore(deployment.store).hold("the next")


async def test_a_version_that_is_worse_is_rolled_back_and_frozen_in_one_change(deployment: Deployment) -> None:
    deployment.traffic.behaviours["v2"] = replace(USUAL, failed=0.2)
    last = await deployment.roll_out(replace(PLAN, shadow=0.0))
    found = await deployment.store.read()

    assert found is not None
    assert (last.act, found.frozen) == (Act.WITHDRAW, {"v2": last.why})
    assert (found.candidate_share, found.shadow_share, found.live_version) == (0.0, 0.0, "v1")
    assert found.revision == 4  # begun, staged, given to users, withdrawn
    with pytest.raises(ReleaseError, match="v2 is frozen: errors"):
        await deployment.roll_out()


async def test_it_ends_where_somebody_else_changes_the_document(deployment: Deployment) -> None:
    bob = Operations(deployment.store, "bob")
    turns = iter(range(100))
    deployment.meanwhile = lambda: bob.rollback("no") if next(turns) == 3 else None

    with pytest.raises(LostRaceError, match=r"by bob at .*: v2 rolled back: no"):
        await deployment.roll_out()
    await RolloutStore(deployment.store).hold("the next")


async def test_of_two_rollouts_the_second_is_told(deployment: Deployment) -> None:
    second: list[str] = []

    async def begin() -> None:
        with pytest.raises(RolloutRunningError) as error:
            await Deployment(deployment.store).roll_out(by="bob")
        second.append(str(error.value))

    deployment.meanwhile = begin
    assert (await deployment.roll_out()).act is Act.DONE
    assert "running already: v2 by ada" in second[0]


async def test_it_does_not_begin_with_a_version_that_a_replica_refuses(deployment: Deployment) -> None:
    deployment.loaded = ("v1",)
    await deployment.tell()
    await report(deployment.store, replica("web-1", "v1", rejected={"v2": "items.npy: changed"}))
    refused = replica("web-1", "v1", rejected={"v2": "items.npy: changed"})
    deployment.meanwhile = lambda: report(deployment.store, refused)

    with pytest.raises(ReleaseError, match=r"replica web-1: v2 was refused: items\.npy: changed"):
        await deployment.roll_out()
    found = await deployment.store.read()
    assert found is not None
    assert found.candidate_share == 0


async def test_it_waits_for_the_replicas(deployment: Deployment) -> None:
    deployment.loaded = ("v1",)
    await deployment.tell()
    turns = iter(range(1000))

    def load() -> None:
        if next(turns) == 2:
            deployment.loaded = ("v1", "v2")

    deployment.meanwhile = load
    assert (await deployment.roll_out()).act is Act.DONE
    assert "0 of 2 ready" in deployment.decisions[0].why
