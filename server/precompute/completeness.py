"""Whether all lists of a version are there: every shard's record, their counts, and a sample of lists read again.

The sample is read by the code that serves, so that what it finds readable is what requests will find.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis

from core.precompute_record import Counts, PrecomputeError
from core.types import Reason
from server.store.batch_store import BatchStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from core.precompute_record import ShardRecord

READ_AGAIN = 500
"""Lists that are read again at most."""
FAILED_SHARE = 0.001
"""Part of the users whom the deep rung may fail for without the version being held back."""
_READS_AT_A_TIME = 16
_NAMED = 3
"""Users or reasons that one line names at most."""


@dataclass(frozen=True)
class Completeness:
    """What there is of the lists of one version.

    Attributes:
        problems: what is missing or wrong, each with what to do; empty = the lists are complete.

        records: of the run that was looked at, by shard; of several, a complete one, else the latest.

        counts: of all its shards.

        read_again: lists that were read again.

        unreadable: why -> how many of these are not there or not readable.
    """

    version: str
    problems: tuple[str, ...]
    records: tuple[ShardRecord, ...]
    counts: Counts
    read_again: int
    unreadable: dict[str, int]

    @property
    def complete(self) -> bool:
        """Whether a request of every user who can have one will find a list."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "version": self.version,
            "complete": self.complete,
            "problems": list(self.problems),
            "users": self.counts.users,
            "written": self.counts.written,
            "inactive": self.counts.inactive,
            "no_history": self.counts.no_history,
            "failed": dict(self.counts.failed),
            "read_again": self.read_again,
            "unreadable": self.unreadable,
            "shards": [
                {
                    "shard": str(record.task.shard),
                    "complete": record.complete,
                    "run": record.run,
                    "attempt": record.attempt,
                    "started_s": record.started_s,
                    "updated_s": record.updated_s,
                    "users": record.counts.users,
                    "written": record.counts.written,
                }
                for record in self.records
            ],
        }


async def precompute_complete(store: BatchStore, version: str) -> Completeness:
    """Look whether the lists of a version are complete.

    Args:
        store: opened for that version.
        version: of the bundle.

    Raises:
        redis.RedisError: the store failed.
        ValueError: the store was opened for another version.
    """
    if store.lists is None or store.lists.version != version:
        raise ValueError(f"the store was opened for {store.lists and store.lists.version}, not for {version}")
    try:
        every = await store.records()
    except PrecomputeError as error:
        return Completeness(version, (str(error),), (), Counts(), 0, {})
    if not every:
        problem = f"nothing was precomputed for {version}. Run `terrace precompute {version}`"
        return Completeness(version, (problem,), (), Counts(), 0, {})
    records = _records_of_one_run(every)
    problems = _of_records(version, records)
    counts = sum((record.counts for record in records), Counts())
    read_again, unreadable = await _read_again(store, records)
    if unreadable:
        shown = ", ".join(f"{reason} {count}" for reason, count in unreadable.items())
        problems.append(
            f"{sum(unreadable.values()):,} of {read_again:,} lists that were read again are not there or not readable "
            f"({shown}): they have expired, or were deleted or damaged. Run `terrace precompute {version} --again`"
        )
    return Completeness(version, tuple(problems), records, counts, read_again, unreadable)


async def why_incomplete(url: str, namespace: str, version: str, *, live: str | None = None) -> str | None:
    """Why a version must not be promoted yet as far as its lists are concerned; None where they are complete.

    Args:
        url: of the user store.
        namespace: of the deployment.
        version: of the bundle.
        live: the version that is live. Where nothing was ever precomputed for either, this deployment has no lists, and
            nothing is missing.
    """
    try:
        if live is not None and not any([await _was_begun(url, namespace, each) for each in (live, version)]):
            return None
        async with _opened(url, namespace, version) as store:
            found = await precompute_complete(store, version)
    except (redis.RedisError, ValueError) as error:
        return f"whether its precomputed lists are complete cannot be looked up: {error}"
    return None if found.complete else "; ".join(found.problems)


async def _was_begun(url: str, namespace: str, version: str) -> bool:
    """Whether anything was precomputed for a version lately."""
    async with _opened(url, namespace, version) as store:
        return await store.has_records()


@asynccontextmanager
async def _opened(url: str, namespace: str, version: str) -> AsyncIterator[BatchStore]:
    store = BatchStore.open(url, namespace, version)
    try:
        yield store
    finally:
        await store.close()


def _records_of_one_run(every: Sequence[ShardRecord]) -> tuple[ShardRecord, ...]:
    """Records that divide the users into the same number of shards: all of them complete, or else the latest."""
    by_count: dict[int, list[ShardRecord]] = {}
    for record in every:
        by_count.setdefault(record.task.shard.count, []).append(record)

    def rank(count: int) -> tuple[bool, float]:
        records = by_count[count]
        whole = len(records) == count and all(record.complete for record in records)
        return whole, max(record.updated_s for record in records)

    return tuple(sorted(by_count[max(by_count, key=rank)], key=lambda record: record.task.shard.index))


def _of_records(version: str, records: Sequence[ShardRecord]) -> list[str]:
    """What is wrong with the records alone."""
    problems = []
    count = records[0].task.shard.count
    there = {record.task.shard.index for record in records}
    missing = [f"{index}/{count}" for index in range(count) if index not in there]
    if missing:
        named = f"{', '.join(missing[:_NAMED])}{', ...' if len(missing) > _NAMED else ''}"
        problems.append(
            f"{len(missing)} of {count} shards have not been begun: {named}. "
            f"Run `terrace precompute {version} --shard {missing[0]}`"
        )
    for record in records:
        shard = record.task.shard
        if not record.complete:
            problems.append(
                f"shard {shard} is not complete: {record.counts.users:,} users are done. If nothing works on it any "
                f"more, go on with `terrace precompute {version} --shard {shard} --resume`"
            )
        if not record.counts.agree:
            problems.append(
                f"shard {shard}: its counts do not add up to its {record.counts.users:,} users. "
                f"Run `terrace precompute {version} --shard {shard} --again`"
            )
    for name in ("bundle", "users", "limit", "ttl_s"):
        different = {getattr(record.task, name) for record in records}
        if len(different) > 1:
            problems.append(
                f"shards were computed with different {name}: {', '.join(sorted(map(str, different))[:_NAMED])}. "
                f"Run all of them again with the same options and --again"
            )
    counts = sum((record.counts for record in records), Counts())
    if not missing and not counts.written:
        problems.append(
            f"of {counts.users:,} users none has a list. Are there users in this namespace of the store "
            "(`terrace ingest`), and is --active-days long enough?"
        )
    if failed := sum(counts.failed.values()):
        shown = ", ".join(f"{reason} {number:,}" for reason, number in list(counts.failed.items())[:_NAMED])
        if failed > FAILED_SHARE * counts.users:
            problems.append(
                f"{failed:,} of {counts.users:,} users have no list because the deep rung failed ({shown}). The log of "
                "the run says why"
            )
    return problems


async def _read_again(store: BatchStore, records: Sequence[ShardRecord]) -> tuple[int, dict[str, int]]:
    """How many lists were read again, and reason -> how many of these cannot be used."""
    drawn = [(user_id, record.task.items) for record in records for user_id in record.sample]
    drawn = random.sample(drawn, min(READ_AGAIN, len(drawn)))
    unreadable: Counter[str] = Counter()
    turns = asyncio.Semaphore(_READS_AT_A_TIME)

    async def look(user_id: str, items: int) -> None:
        async with turns:
            state = await store.read_list(user_id)
        found = state.precomputed
        if found is None:
            unreadable[state.no_list.value] += 1
        elif not len(found.rows) or found.rows.max() >= items:
            unreadable[Reason.UNREADABLE_LIST.value] += 1

    await asyncio.gather(*(look(*one) for one in drawn))
    return len(drawn), dict(unreadable)
