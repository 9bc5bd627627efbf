"""What a rollout keeps in a real store: what replicas have answered, and who is rolling out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from server.release.rollout_store import COUNTS_FORMAT, LEASE_S, RolloutRunningError, RolloutStore
from server.telemetry.version_counts import Counts, VersionCounts, write_counts

if TYPE_CHECKING:
    import redis.asyncio as redis

    from server.release.release_store import ReleaseStore

COUNTED = {"v1": VersionCounts(Counts(calls=5)), "v2": VersionCounts(Counts(calls=2))}


async def test_what_each_replica_has_answered_is_read_back(store: ReleaseStore) -> None:
    rollouts = RolloutStore(store)
    await rollouts.publish("web-1", COUNTED)
    await rollouts.publish("web-2", {})
    await rollouts.publish("web-1", COUNTED | {"v2": VersionCounts(Counts(calls=3))})
    found = await rollouts.published()

    assert {replica: {v: counts.answered.calls for v, counts in each.items()} for replica, each in found.items()} == {
        "web-1": {"v1": 5, "v2": 3},
        "web-2": {},
    }


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        json.dumps({"format_version": COUNTS_FORMAT + 1, "versions": write_counts(COUNTED)}),
        json.dumps({"format_version": COUNTS_FORMAT, "versions": {"v1": {"answered": 1}}}),
    ],
)
async def test_a_replica_whose_counts_cannot_be_read_tells_nothing(store: ReleaseStore, text: str) -> None:
    rollouts = RolloutStore(store)
    await rollouts.publish("web-1", COUNTED)
    await store.tell(f"{store.key}:counts", "web-2", text)

    assert set(await rollouts.published()) == {"web-1"}


async def test_of_two_who_roll_out_the_second_is_told_who_the_first_is(store: ReleaseStore) -> None:
    rollouts = RolloutStore(store)
    await rollouts.hold("v2 by ada (1)")
    await rollouts.hold("v2 by ada (1)")

    with pytest.raises(RolloutRunningError, match=r"v2 by ada \(1\)"):
        await rollouts.hold("v3 by bob (2)")
    await rollouts.let_go("v3 by bob (2)")
    with pytest.raises(RolloutRunningError):
        await rollouts.hold("v3 by bob (2)")
    await rollouts.let_go("v2 by ada (1)")
    await rollouts.hold("v3 by bob (2)")


async def test_who_was_killed_is_forgotten(store: ReleaseStore, client: redis.Redis) -> None:
    await RolloutStore(store).hold("v2 by ada (1)")

    assert 0 < await client.ttl(f"{store.key}:rollout") <= LEASE_S
