"""Lists for a few users at a time: read what is known of them, ask the pipeline that serves, write what it answers."""

from __future__ import annotations

import gc
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Self

from core.precompute_record import Counts, place_of
from core.precomputed import PrecomputedList
from core.query import Request
from core.types import Reason, Tier
from server.loader import load_bundle
from server.overload.breaker import Breaker
from server.rungs.deadline import Deadline
from server.rungs.pipeline import Pipeline
from server.rungs.request_record import RequestRecord
from server.rungs.warm_up import warm_up
from server.rungs.work_pool import WorkPool
from server.settings import Settings
from server.signature import trusted
from server.store.batch_store import BatchStore
from server.store.user_store import MemoryUserStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from core.bundle import Bundle
    from core.types import Recommendation, UserState
    from server.overload.breaker import Rule

_NEVER = 2**31
_WARM_UP_ROUNDS = 1


@dataclass(frozen=True)
class MakerOptions:
    """What a list maker needs, in plain values, so that it can be made in another process.

    Attributes:
        bundle: its folder.

        store_url: of the user store.

        limit: rows of a list at most.

        ttl_s: lifetime of a list before jitter, seconds.

        active_s: users whose newest event is older than this many seconds are left out; None = nobody is.

        public_keys: files of which one must fit the bundle's signature; none = it needs no signature.
    """

    bundle: Path
    store_url: str
    namespace: str
    limit: int
    ttl_s: float
    active_s: float | None
    public_keys: tuple[Path, ...] = ()


class Part(NamedTuple):
    """What became of some users.

    Attributes:
        position: place of the last of them.

        written: ids of those who have a list.

        answer_s: seconds that the pipeline took for their lists.
    """

    position: str
    counts: Counts
    written: list[str]
    answer_s: float


class ListMaker:
    """Makes lists from one bundle; belongs to one event loop.

    Attributes:
        bundle: what it answers from.
    """

    def __init__(
        self,
        bundle: Bundle,
        store: BatchStore,
        options: MakerOptions,
        *,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """Keep the parts.

        Args:
            bundle: with a deep rung.
            store: users and lists; closed with this.
            options: ``limit``, ``ttl_s`` and ``active_s`` are looked at.
            now_s: wall clock, seconds since the epoch.
        """
        self.bundle = bundle
        self._store, self._options, self._now_s = store, options, now_s
        self._work = WorkPool(threads=1, max_jobs=len(bundle.generators) + 1)
        users = MemoryUserStore(bundle.manifest.seen_types)  # read in bulk instead
        self._pipeline = Pipeline(bundle, users, self._work, Settings(), breaker=_closed_breaker)

    @classmethod
    async def open(cls, options: MakerOptions) -> Self:
        """Load the bundle and repeat its golden requests.

        Raises:
            BundleError: it is damaged, or does not answer as it did when it was built.
        """
        bundle = load_bundle(options.bundle, trusted(options.public_keys))
        maker = cls(bundle, BatchStore.open(options.store_url, options.namespace, bundle.version), options)
        await warm_up(maker._pipeline, _WARM_UP_ROUNDS)
        gc.collect()
        gc.freeze()  # what was loaded stays: no collection needs to look at it
        return maker

    async def make(self, user_ids: Sequence[str]) -> Part:
        """Write the lists of some users; their order is that of their places.

        Raises:
            redis.RedisError: the store failed; some of the lists may be written.
        """
        states = await self._store.read_many(user_ids)
        lists: dict[str, PrecomputedList] = {}
        failed: Counter[str] = Counter()
        without: Counter[str] = Counter()
        inactive = no_history = partly_read = 0
        answer_s = 0.0
        for user_id, state in zip(user_ids, states, strict=True):
            now_s = self._now_s()
            if self._is_inactive(state, now_s):
                inactive += 1
                continue
            begun_s = time.perf_counter()
            answer = await self._answer(user_id, state, now_s)
            if answer.tier is Tier.DEEP:
                answer_s += time.perf_counter() - begun_s
                lists[user_id] = PrecomputedList.of(answer, now_s)
                partly_read += state.missing is not None
                without.update(list(answer.dropped))
            elif (reason := answer.skipped[Tier.DEEP]) is Reason.NO_HISTORY:
                no_history += 1
            else:
                failed[reason.value] += 1
        await self._store.write_lists(lists, self._options.ttl_s)
        counts = Counts(len(user_ids), len(lists), inactive, no_history, dict(failed), partly_read, dict(without))
        return Part(place_of(user_ids[-1]), counts, list(lists), answer_s)

    async def close(self) -> None:
        """Let go of threads and connections."""
        self._work.close()
        await self._store.close()

    async def _answer(self, user_id: str, state: UserState, now_s: float) -> Recommendation:
        request = Request(user_id=user_id, limit=self._options.limit)
        return await self._pipeline.answer(request, state, RequestRecord(Deadline.never()), now_s=now_s)

    def _is_inactive(self, state: UserState, now_s: float) -> bool:
        longest_s = self._options.active_s
        return longest_s is not None and bool(state.events) and now_s - state.events[0].timestamp_s > longest_s


def _closed_breaker(name: str, rule: Rule) -> Breaker:
    """Never opens: nobody waits for a batch, so a part that is slow need not be left alone, and one that fails is counted."""
    return Breaker(name, replace(rule, min_calls=_NEVER))
