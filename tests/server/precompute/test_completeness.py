"""Whether the lists of a version are complete: what is missing or wrong is found, and what to do is named."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import redis.asyncio as aioredis

from core.events import user_hash
from core.precompute_record import Counts, Shard, ShardRecord
from core.precomputed import PrecomputedList, encode_list
from server.precompute.completeness import precompute_complete, why_incomplete
from server.store.user_keys import UserKeys

if TYPE_CHECKING:
    from collections.abc import Callable

    from server.precompute.completeness import Completeness
    from tests.server.precompute.world import World


async def look(world: World) -> Completeness:
    async with world.batch() as store:
        return await precompute_complete(store, world.version)


async def put(world: World, *records: ShardRecord) -> None:
    """Make these the records of their shards."""
    async with world.batch() as store:
        for record in records:
            await store.swap_record(await store.stored_record(record.task.shard), record)


async def test_lists_of_all_shards_are_complete_and_may_be_promoted(world: World) -> None:
    for index in range(2):
        await world.run(Shard(index, 2))

    found = await look(world)

    assert found.complete
    assert found.problems == ()
    assert found.counts.written == found.counts.users == found.read_again == len(world.users.ids)
    assert found.as_dict()["complete"] is True
    assert await why_incomplete(world.url, world.namespace, world.version) is None


async def test_where_nothing_was_precomputed_it_is_said_how(world: World) -> None:
    found = await look(world)

    assert not found.complete
    assert f"nothing was precomputed for {world.version}. Run `terrace precompute {world.version}`" in found.problems[0]
    why = await why_incomplete(world.url, world.namespace, world.version)
    assert why == found.problems[0]


async def test_shards_that_were_not_begun_are_named(world: World) -> None:
    await world.run(Shard(1, 3))

    (problem,) = (await look(world)).problems

    assert "2 of 3 shards have not been begun: 0/3, 2/3" in problem
    assert "--shard 0/3" in problem


async def test_a_shard_that_stopped_half_way_is_named_with_what_to_do(world: World) -> None:
    await put(world, ShardRecord(world.task(), "run-1", 1, time.time(), time.time(), "8" * 32, counts=Counts(9, 9)))

    (problem,) = (await look(world)).problems

    assert "shard 0/1 is not complete: 9 users are done" in problem
    assert "--shard 0/1 --resume" in problem


async def test_of_runs_with_different_shards_one_that_is_complete_counts(world: World) -> None:
    await world.run()
    await world.run(Shard(0, 2))

    found = await look(world)

    assert found.complete
    assert [str(record.task.shard) for record in found.records] == ["0/1"]


async def _delete(raw: aioredis.Redis, key: str, _: bytes) -> None:
    await raw.delete(key)


async def _damage(raw: aioredis.Redis, key: str, stored: bytes) -> None:
    await raw.set(key, stored[:-1] + bytes([stored[-1] ^ 1]))


async def _replace_type(raw: aioredis.Redis, key: str, _: bytes) -> None:
    await raw.delete(key)
    await raw.lpush(key, "a list of another kind")


async def _outgrow(raw: aioredis.Redis, key: str, _: bytes) -> None:
    user = user_hash(key.rpartition("{")[2].removesuffix("}"))
    rows = PrecomputedList(np.array([600], np.int32), np.array([1.0], np.float32), 0.0)
    await raw.set(key, encode_list(key.split(":")[3], user, rows.rows, rows.scores, 0.0))


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (_delete, "no_list"),
        (_damage, "unreadable_list"),
        (_replace_type, "unreadable_list"),
        (_outgrow, "unreadable_list"),
    ],
)
async def test_a_list_that_is_gone_or_damaged_is_found(world: World, harm: Callable[..., object], reason: str) -> None:
    await world.run()
    raw = aioredis.Redis.from_url(world.url)
    key = UserKeys(world.namespace, world.version).precomputed(world.users.ids[7])
    await harm(raw, key, await raw.get(key))  # type: ignore[misc]
    await raw.aclose()
    record = (await look(world)).records[0]
    await put(world, replace(record, sample=tuple(world.users.ids)))

    found = await look(world)

    assert found.unreadable == {reason: 1}
    assert f"1 of {len(world.users.ids)} lists that were read again are not there or not readable" in found.problems[0]
    assert "--again" in found.problems[0]


async def test_the_sample_of_a_run_is_drawn_from_those_who_have_lists(world: World) -> None:
    record = await world.run(users=world.users.ids[:50])

    assert set(record.sample) == set(world.users.ids[:50])


async def test_counts_that_do_not_add_up_and_shards_that_disagree_are_problems(world: World) -> None:
    now_s = time.time()
    whole = ShardRecord(world.task(Shard(0, 2)), "run-1", 1, now_s, now_s, "f" * 32, complete=True, counts=Counts(5, 5))
    lost = replace(whole, task=world.task(Shard(1, 2), limit=7), counts=Counts(5, 4))
    await put(world, whole, lost)

    problems = " ".join((await look(world)).problems)

    assert "shard 1/2: its counts do not add up to its 5 users" in problems
    assert "shards were computed with different limit: 30, 7" in problems


async def test_no_list_at_all_and_many_failures_are_problems(world: World) -> None:
    now_s = time.time()
    failed = Counts(users=500, inactive=400, failed={"invalid_scores": 100})
    await put(world, ShardRecord(world.task(), "run-1", 1, now_s, now_s, "f" * 32, complete=True, counts=failed))

    problems = " ".join((await look(world)).problems)

    assert "of 500 users none has a list" in problems
    assert "100 of 500 users have no list because the deep rung failed (invalid_scores 100)" in problems


async def test_a_record_that_is_not_readable_is_a_problem_that_another_run_mends(world: World) -> None:
    await world.run()
    raw = aioredis.Redis.from_url(world.url)
    key = UserKeys(world.namespace, world.version).precompute_records
    await raw.hset(key, "0/1", "no record")

    (problem,) = (await look(world)).problems
    record = await world.run(again=True, name="run-2")
    await raw.aclose()

    assert "not readable" in problem
    assert record.run == "run-2"
    assert (await look(world)).complete


async def test_a_store_that_is_away_is_no_complete_one(world: World) -> None:
    why = await why_incomplete("redis://127.0.0.1:1", world.namespace, world.version)

    assert why is not None
    assert "cannot be looked up" in why


async def test_a_deployment_that_never_precomputes_is_not_held_up_and_one_that_does_is(world: World) -> None:
    async def why(live: str) -> str | None:
        return await why_incomplete(world.url, world.namespace, world.version, live=live)

    assert await why("before") is None
    async with world.batch() as store:
        await store.swap_record("", ShardRecord(world.task(), "run-1", 1, time.time(), time.time()))
    assert "is not complete" in (await why("before") or "")
    await world.run(again=True)
    assert await why("before") is None
    missing = await why_incomplete(world.url, world.namespace, "next", live=world.version)
    assert "nothing was precomputed for next" in (missing or "")
