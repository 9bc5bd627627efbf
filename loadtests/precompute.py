"""Lists a second of `terrace precompute`, beside what the pipeline alone answers, and what they take in the store."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

import redis

from core.manifest import MANIFEST_NAME, digest, read_manifest
from core.precompute_record import Shard, Task
from core.precomputed import LIST_ROWS
from loadtests.users import NAMESPACE
from server.precompute.list_maker import MakerOptions
from server.precompute.shard_run import begin_shard, compute, users_left
from server.precompute.workers import list_makers
from server.store.batch_store import BatchStore
from server.store.user_store import LIST_TTL_S

if TYPE_CHECKING:
    from loadtests.workspace import SyntheticData, Workspace
    from server.precompute.shard_run import Rates

_MILLION = 1_000_000


def run(workspace: Workspace) -> dict[str, Any]:
    """All users of the benchmark's store, with one process and then with one for each core.

    ``share`` is the part of the single-process scoring rate (answers of the pipeline a second, without store and
    encoding, in the run with one process) that each process reached: on a machine that others use too, processes on all
    cores cannot reach it. ``pipeline_share`` is the part of each process's own time that the pipeline took.
    """
    data = workspace.benchmark_data()
    cores = len(os.sched_getaffinity(0))
    with data.store() as url:
        client = redis.Redis.from_url(url)
        before = _used(client)
        alone = asyncio.run(_precompute(data, url, 1))
        taken = _used(client) - before
        together = asyncio.run(_precompute(data, url, cores))
        client.close()
    scoring = alone.pipeline_per_s
    return {
        "precompute_scoring_per_s": scoring,
        "precompute_lists": alone.lists,
        "precompute_by_processes": {
            str(rates.processes): {
                "lists_per_s": rates.per_s,
                "share": rates.per_s / rates.processes / scoring,
                "pipeline_share": rates.share,
            }
            for rates in (alone, together)
        },
        "precompute_gb_for_a_million": taken / alone.lists * _MILLION / 1e9,
    }


async def _precompute(data: SyntheticData, url: str, processes: int) -> Rates:
    manifest = read_manifest(data.bundle)
    sha256 = digest(data.bundle / MANIFEST_NAME).sha256
    task = Task(manifest.version, sha256, manifest.items, Shard(), "all", LIST_ROWS, LIST_TTL_S)
    options = MakerOptions(data.bundle, url, NAMESPACE, LIST_ROWS, LIST_TTL_S, None)
    store = BatchStore.open(url, NAMESPACE, manifest.version)
    try:
        run = f"benchmark-{processes}"
        begun = await begin_shard(store, task, run, resume=False, again=True, now_s=time.time())
        users = users_left(task.shard, begun.record.position, [user_id async for user_id in store.user_ids()])
        async with list_makers(options, processes) as make:
            _, rates = await compute(store, begun, users, make, processes=processes, progress=_silent)
    finally:
        await store.close()
    return rates


def _used(client: redis.Redis) -> int:
    """Bytes that the store holds."""
    info: Any = client.info("memory")
    return int(info["used_memory"])


def _silent(what: str, done: int, total: int, note: str = "") -> None:
    del what, done, total, note
