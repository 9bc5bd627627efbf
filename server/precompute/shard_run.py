"""One shard of a run: find its users, make their lists chunk by chunk, and note after each chunk how far it is."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from core.precompute_record import PrecomputeError, ShardRecord, begin, place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from core.precompute_record import Shard, Task
    from server.precompute.list_maker import Part
    from server.precompute.workers import Make
    from server.store.batch_store import BatchStore

CHUNK = 64
"""Users that are read, computed and written at a time: about a quarter of a second."""


class Progress(Protocol):
    """Called after every chunk."""

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """``done`` of ``total`` users are done; ``note`` is the rate."""
        ...


class Begun(NamedTuple):
    """A shard that may be worked on.

    Attributes:
        record: complete = there is nothing to do.

        stored: the record as it lies in the store.

        from_scratch: why a run that stopped half way is not gone on with although that was asked for; empty where it is.
    """

    record: ShardRecord
    stored: str
    from_scratch: str = ""


@dataclass(frozen=True, slots=True)
class Rates:
    """How quick this process was.

    Attributes:
        lists: that were written.

        answer_s: seconds that the pipeline took for them, of all processes together.

        seconds: from the first chunk to the last, with store, encoding and records.

        processes: that worked.
    """

    lists: int
    answer_s: float
    seconds: float
    processes: int

    @property
    def per_s(self) -> float:
        """Lists a second, everything included."""
        return self.lists / self.seconds if self.seconds else 0.0

    @property
    def pipeline_per_s(self) -> float:
        """Answers of the deep rung a second of one process that does nothing else."""
        return self.lists / self.answer_s if self.answer_s else 0.0

    @property
    def share(self) -> float:
        """Of that rate, the part that each process reached."""
        return self.answer_s / (self.seconds * self.processes) if self.seconds else 0.0


async def begin_shard(store: BatchStore, task: Task, run: str, *, resume: bool, again: bool, now_s: float) -> Begun:
    """Look at the stored record, and store the one that this process begins from.

    Args:
        store: where records are.
        task: what is to be done.
        run: id of a new run.
        resume: see ``core.precompute_record.begin``.
        again: the same.
        now_s: seconds since the epoch.

    Raises:
        PrecomputeError: see ``core.precompute_record.begin``.
        redis.RedisError: the store failed.
    """
    stored = await store.stored_record(task.shard)
    try:
        found = ShardRecord.from_json(stored) if stored else None
    except PrecomputeError:
        if not again:
            raise
        found = None
    record = begin(task, found, run, now_s, resume=resume, again=again)
    if record is found:
        return Begun(record, stored)
    stored = await store.swap_record(stored, record)
    if resume and found is not None and not found.complete and record.run != found.run:
        hours = abs(now_s - found.started_s) / 3600
        return Begun(record, stored, f"the run that stopped half way began {hours:.1f} h ago or had other options")
    return Begun(record, stored)


def users_left(shard: Shard, position: str, user_ids: Iterable[str]) -> list[str]:
    """The users of a shard who come after a position, each once, in the order of their places."""
    places = {user_id: place_of(user_id) for user_id in user_ids}
    left = [user_id for user_id, place in places.items() if place > position and shard.owns(place)]
    return sorted(left, key=places.__getitem__)


async def compute(
    store: BatchStore,
    begun: Begun,
    user_ids: Sequence[str],
    make: Make,
    *,
    processes: int = 1,
    progress: Progress,
    now_s: Callable[[], float] = time.time,
) -> tuple[ShardRecord, Rates]:
    """Make the lists of all users of a shard who are left.

    Args:
        store: where records are.
        begun: the shard.
        user_ids: what ``users_left`` gave.
        make: makes the lists of a chunk of users.
        processes: chunks that it takes at a time.
        progress: called after every chunk.
        now_s: wall clock, seconds since the epoch.

    Returns:
        The complete record.

    Raises:
        redis.RedisError: the store failed; what is done is noted, and a run can go on from there.
        PrecomputeError: a process died, or another one works on the same shard.
    """
    record, stored = begun.record, begun.stored
    done, total = record.counts.users, record.counts.users + len(user_ids)
    lists, answer_s, begun_s = 0, 0.0, time.perf_counter()
    pending: deque[asyncio.Future[Part]] = deque()
    starts = iter(range(0, len(user_ids), CHUNK))
    try:
        while True:
            while len(pending) < processes and (start := next(starts, None)) is not None:
                pending.append(asyncio.ensure_future(make(user_ids[start : start + CHUNK])))
            if not pending:
                break
            part = await pending.popleft()  # in the order of places, so that a position says what is done
            record = record.after(part.position, part.counts, part.written, now_s())
            stored = await store.swap_record(stored, record)
            done, lists, answer_s = done + part.counts.users, lists + part.counts.written, answer_s + part.answer_s
            progress("lists", done, total, f"{lists / (time.perf_counter() - begun_s):,.0f}/s")
    finally:
        for each in pending:
            each.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
    record = replace(record, complete=True, updated_s=now_s())
    await store.swap_record(stored, record)
    return record, Rates(lists, answer_s, time.perf_counter() - begun_s, processes)
