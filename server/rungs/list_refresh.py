"""What the deep rung found for a user, kept as the user's precomputed list: so that frequent users' lists are never old.

The list is written after the answer, and nobody waits for it. Only a share of the calls does so, only those that met no
other call, and only a few at a time: under load this is the first thing that is left out.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from core.catalogue import NO_FILTERS
from core.precomputed import LIST_ROWS, PrecomputedList
from server.telemetry.rate_limited_log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from core.query import Request
    from core.types import Pool, Scores
    from server.rungs.request_record import RequestRecord
    from server.store.user_store import UserStore

Write: TypeAlias = Literal["written", "failed", "dropped"]
"""What became of a list that was to be written; ``dropped``: there was too much else to do."""
MOST_IN_FLIGHT = 4
"""Lists that are being written at a time. Where the store is slow, more would only wait for it."""
_log = logging.getLogger(__name__)


class ListRefresh:
    """Writes lists of one bundle from its answers; belongs to one event loop."""

    def __init__(
        self,
        store: UserStore,
        share: float,
        *,
        now_s: Callable[[], float] = time.time,
        rng: Callable[[], float] = random.random,
    ) -> None:
        """Nothing is written.

        Args:
            store: where to.
            share: part of the calls, 0 to 1.
            now_s: wall clock, seconds since the epoch.
            rng: uniform in [0, 1).
        """
        self._store = store
        self._share = share
        self._now_s = now_s
        self._rng = rng
        self._limited_log = RateLimitedLog(_log)
        self._tasks: set[asyncio.Task[None]] = set()
        self._writes: dict[Write, int] = dict.fromkeys(get_args(Write), 0)

    @property
    def writes(self) -> Mapping[Write, int]:
        """How many lists so far, by what became of them."""
        return self._writes

    def offer(self, request: Request, record: RequestRecord) -> None:
        """Write the user's list some time after this call of the event loop, if the call is one of those that do so.

        What the deep rung scored for the request is a list for any other one only where the request asks for nothing
        special, and where it was made with all that the store knows of the user.
        """
        if record.scored is None or not self._share or self._rng() >= self._share:
            return
        pool, scores = record.scored
        if request.filters != NO_FILTERS or request.exclude or request.allow_repeats or record.missing is not None:
            return
        if len(scores) < LIST_ROWS:
            return
        if not record.alone or len(self._tasks) >= MOST_IN_FLIGHT:
            self._writes["dropped"] += 1
            return
        task = asyncio.get_running_loop().create_task(self._write(request.user_id, pool, scores))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give up what is not written yet."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _write(self, user_id: str, pool: Pool, scores: Scores) -> None:
        try:
            await self._store.write_lists({user_id: best_of(pool, scores, self._now_s())})
        except Exception:  # noqa: BLE001 - whatever it is, the call has been answered
            self._writes["failed"] += 1
            self._limited_log.exception("a precomputed list could not be written")
        else:
            self._writes["written"] += 1


def best_of(pool: Pool, scores: Scores, created_s: float) -> PrecomputedList:
    """The best ``LIST_ROWS`` of the rows of a pool that were scored.

    Args:
        pool: [n] rows, best first by the prior.
        scores: [m], m <= n, of the first m rows.
        created_s: when they were, seconds since the epoch.
    """
    best = np.argsort(-scores, kind="stable")[:LIST_ROWS]
    return PrecomputedList(pool.rows[best], scores[best], created_s)
