"""Every user gets the list that the serving code answers with, once, whatever is between."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import signal
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
import redis
import redis.asyncio as aioredis

from core.events import user_hash
from core.manifest import BundleError
from core.precompute_record import PrecomputeError, Shard
from core.precomputed import decode_list
from core.query import Request
from core.types import Tier
from server.precompute.list_maker import ListMaker
from server.precompute.shard_run import CHUNK, begin_shard
from server.store.batch_store import BatchStore
from server.store.user_keys import UserKeys
from server.store.user_store import LIST_TTL_JITTER
from terrace.cli.served import InProcess
from tests.faults.fault_proxy import FaultProxy, Mode
from tests.server import toy
from tests.server.precompute.world import LIMIT, TTL_S, World, newest_ids, world_in

if TYPE_CHECKING:
    from pathlib import Path

    from core.precomputed import PrecomputedList


async def lists_of(world: World) -> dict[str, PrecomputedList]:
    """The stored lists, by user, found by their keys."""
    raw = aioredis.Redis.from_url(world.url)
    keys = UserKeys(world.namespace, world.version)
    items = len(newest_ids(world.folder))
    found = {}
    for user_id in world.users.ids:
        stored = await raw.get(keys.precomputed(user_id))
        if stored is not None:
            found[user_id] = decode_list(stored, world.version, user_hash(user_id), items)
    await raw.aclose()
    return found


async def test_every_user_has_the_list_that_the_serving_code_answers_with(world: World) -> None:
    record = await world.run()
    found = await lists_of(world)

    assert record.complete
    assert record.counts.written == record.counts.users == len(world.users.ids)
    assert set(found) == set(world.users.ids)
    async with world.store() as store:
        states = {user_id: await store.read(user_id) for user_id in found}

    def serve() -> None:
        with InProcess(world.folder) as served:
            for user_id, made in found.items():
                request = Request(user_id=user_id, limit=LIMIT)
                answer = served.recommend(request, states[user_id], made.created_s, Tier.DEEP)
                assert answer.tier is Tier.DEEP
                assert made.rows.tolist() == answer.rows.tolist()
                np.testing.assert_allclose(made.scores, answer.scores, rtol=1e-3)

    await asyncio.to_thread(serve)


async def test_shards_have_every_user_between_them_and_nobody_twice(world: World) -> None:
    parts = []
    for index in range(3):
        before = set(await lists_of(world))
        record = await world.run(Shard(index, 3))
        parts.append(set(await lists_of(world)) - before)
        assert len(parts[-1]) == record.counts.users > 0

    assert sum(map(len, parts)) == len(world.users.ids)
    assert set().union(*parts) == set(world.users.ids)


async def test_lists_expire_within_the_jitter_and_not_all_at_once(world: World) -> None:
    await world.run()
    raw = aioredis.Redis.from_url(world.url)
    keys = UserKeys(world.namespace, world.version)
    left_s = np.array([await raw.pttl(keys.precomputed(user_id)) / 1000 for user_id in world.users.ids])
    await raw.aclose()

    assert left_s.max() <= TTL_S * (1 + LIST_TTL_JITTER)
    assert left_s.min() >= TTL_S * (1 - LIST_TTL_JITTER) - 300  # the test has run for a while
    assert left_s.max() - left_s.min() > 0.2 * TTL_S


async def test_processes_share_the_work_and_make_the_same_lists(world: World) -> None:
    alone = await world.run()
    before = await lists_of(world)
    together = await world.run(again=True, processes=2, name="run-2")
    after = await lists_of(world)

    assert together.counts == alone.counts
    assert {user: made.rows.tolist() for user, made in after.items()} == {
        user: made.rows.tolist() for user, made in before.items()
    }
    assert all(after[user].created_s > made.created_s for user, made in before.items())


def _run_until_killed(files: Path, url: str, namespace: str) -> None:
    chunks = 0

    def progress(what: str, done: int, total: int, note: str = "") -> None:
        nonlocal chunks
        del what, done, total, note
        chunks += 1
        if chunks == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(world_in(files, url, namespace).run(progress=progress))


async def test_a_run_that_is_killed_goes_on_where_it_was(world: World, files: Path) -> None:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_run_until_killed, args=(files, world.url, world.namespace))
    process.start()
    await asyncio.to_thread(process.join, 250)
    assert process.exitcode == -signal.SIGKILL
    before = await lists_of(world)
    seen: list[int] = []

    with pytest.raises(PrecomputeError, match=f"{2 * CHUNK} users are done. --resume"):
        await world.run()
    record = await world.run(resume=True, name="run-2", progress=lambda what, done, *_: seen.append(done))  # noqa: ARG005
    after = await lists_of(world)

    assert len(before) == 2 * CHUNK < len(world.users.ids)
    assert seen[0] == 3 * CHUNK
    assert (record.run, record.attempt, record.complete) == ("run-1", 2, True)
    assert record.counts.users == record.counts.written == len(world.users.ids)
    assert set(after) == set(world.users.ids)
    assert {user: after[user].created_s for user in before} == {user: made.created_s for user, made in before.items()}


async def test_a_shard_that_is_complete_is_left_alone(world: World) -> None:
    await world.run()
    before = await lists_of(world)

    async with world.batch() as store:
        begun = await begin_shard(store, world.task(), "run-2", resume=False, again=False, now_s=time.time())

    assert begun.record.complete
    assert begun.record.run == "run-1"
    assert {user: made.created_s for user, made in (await lists_of(world)).items()} == {
        user: made.created_s for user, made in before.items()
    }


async def test_a_store_that_goes_away_in_the_middle_ends_the_run_and_another_goes_on(world: World) -> None:
    path = world.url.removeprefix("unix://")
    async with FaultProxy(path) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}"

        def break_it(what: str, done: int, total: int, note: str = "") -> None:
            del what, total, note
            if done == CHUNK:
                proxy.mode = Mode(refused=True)

        with pytest.raises(redis.RedisError):
            await world.run(store_url=url, progress=break_it)
        proxy.mode = Mode()
        record = await world.run(store_url=url, resume=True)

    assert (record.attempt, record.counts.users) == (2, len(world.users.ids))
    assert set(await lists_of(world)) == set(world.users.ids)


async def test_a_run_of_another_bundle_is_not_gone_on_with(world: World) -> None:
    async with world.batch() as store:
        other = world.task(bundle="0" * 64)
        await begin_shard(store, other, "run-0", resume=False, again=False, now_s=time.time())

    with pytest.raises(PrecomputeError, match="begun with another bundle"):
        await world.run(resume=True)


async def test_users_without_history_or_not_active_are_counted_as_such(world: World) -> None:
    events = world.events()
    first, second, *others = world.users.ids
    old = tuple(each._replace(timestamp_s=each.timestamp_s - 40 * 86_400) for each in events[first])
    unknown = tuple(each._replace(item_id=f"gone-{n}") for n, each in enumerate(events[second]))
    await world.fill({first: old, second: unknown})
    span_s = max(time.time() - events[user][0].timestamp_s for user in others)

    record = await world.run(users=[*world.users.ids, "nobody"], active_s=span_s + 3_600)

    assert record.counts.agree
    assert (record.counts.inactive, record.counts.no_history) == (1, 2)
    assert record.counts.written == len(others)
    assert set(await lists_of(world)) == set(others)


async def test_values_that_are_not_readable_are_left_out_of_a_list_and_counted(world: World) -> None:
    raw = aioredis.Redis.from_url(world.url)
    events, _ = UserKeys(world.namespace).events_and_seen(world.users.ids[0])
    await raw.lset(events, 0, b"damaged")
    await raw.aclose()

    record = await world.run()

    assert record.counts.partly_read == 1
    assert record.counts.written == len(world.users.ids)


async def test_a_model_that_fails_and_a_generator_that_does_are_counted(world: World) -> None:
    calls = 0

    def now_and_then(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise RuntimeError

    bundle = toy.bundle(scorer=toy.ToyScorer(before=now_and_then), far=toy.ToyGenerator("far", False, 7, toy.fail))
    store = BatchStore.open(world.url, world.namespace, "toy")
    users = [f"toy-{n}" for n in range(60)]
    async with world.store() as filled:
        await filled.load(dict.fromkeys(users, toy.HISTORY))
    maker = ListMaker(bundle, store, world.options(), now_s=lambda: 1_000.0)

    part = await maker.make(users)
    await maker.close()

    assert part.counts.agree
    assert part.counts.failed == {"failed": 30}
    assert part.counts.without == {"far": 30}
    assert len(part.written) == part.counts.written == 30


@pytest.mark.parametrize("processes", [1, 2])
async def test_a_damaged_bundle_is_not_computed_with(world: World, tmp_path: Path, processes: int) -> None:
    copy = tmp_path / world.version
    shutil.copytree(world.folder, copy)
    (copy / "manifest.json").chmod(0o644)
    listed = next(path for path in copy.rglob("*.npy"))
    listed.write_bytes(listed.read_bytes()[:-1])

    with pytest.raises(BundleError, match=listed.name):
        await world.run(bundle=copy, processes=processes)
    async with world.batch() as store:
        (record,) = await store.records()
    assert not record.complete


async def test_a_process_that_dies_ends_the_run_with_what_to_do(world: World) -> None:
    def kill_one(what: str, done: int, total: int, note: str = "") -> None:
        del what, done, total, note
        multiprocessing.active_children()[0].kill()

    with pytest.raises(PrecomputeError, match=r"died with exit code -9.*--resume"):
        await world.run(processes=2, progress=kill_one)
