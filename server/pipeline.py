"""One request: from what is asked and what is known of the user to the best answer in time.

Owns the clock and the order of the rungs. Knows neither gRPC nor protobuf nor Redis; generators and
scorers know no time.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from candidate_gen.merge import merge
from core.query import Request, build_query
from core.types import NO_SCORES, Reason, Recommendation, Tier, UserEvent, UserState
from ranking.select import by_popularity, explain, select
from server.ladder import Ascent, CostModel, Stop

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable

    from core.bundle import Bundle
    from core.types import Candidates, InterruptibleScorer, Pool, Query, Scorer, Scores
    from ranking.select import Selection
    from server.deadline import Deadline
    from server.fan_out import WorkPool
    from server.settings import Settings
    from server.user_store import UserStore

USER_STORE = "user_store"
"""Name under which a store that was late or failed stands among what an answer was made without."""
NOBODY = UserState()
_log = logging.getLogger(__name__)


class Pipeline:
    """Answers requests from one bundle; belongs to one event loop."""

    def __init__(
        self,
        bundle: Bundle,
        store: UserStore,
        work: WorkPool,
        settings: Settings,
        *,
        now_s: Callable[[], float] = time.time,
        cost: CostModel | None = None,
    ) -> None:
        """Keep the parts.

        Args:
            bundle: what to answer from.
            store: what is known of users.
            work: threads for slow generators and the model.
            settings: shares of the budget.
            now_s: wall clock, seconds since the epoch: how old an event is.
            cost: what scoring costs; learnt when not given.
        """
        self.bundle = bundle
        self.cost = cost or CostModel()
        self._store = store
        self._work = work
        self._now_s = now_s
        self._settings = settings
        self._reserve_s = settings.reserve_ms / 1000
        self._floor_s = settings.floor_ms / 1000
        self._sources = tuple(g.name for g in bundle.generators)
        self._inline = tuple((g, bundle.limits[g.name]) for g in bundle.generators if g.inline)
        self._slow = tuple((g, bundle.limits[g.name]) for g in bundle.generators if not g.inline)
        floor = bundle.popularity.name
        self._personal = np.array([name != floor for name in self._sources], np.bool_)

    async def recommend(self, request: Request, deadline: Deadline, *, max_tier: Tier = Tier.DEEP) -> Recommendation:
        """Items for a user, from ``max_tier`` at most."""
        ascent = Ascent(deadline, max_tier)
        user = await self._read_user(request.user_id, ascent)
        return await self.answer(request, user, ascent)

    async def rank(self, item_ids: tuple[str, ...], request: Request, deadline: Deadline) -> Recommendation:
        """Those of ``item_ids`` (unique) that the catalogue has, in the user's order."""
        ascent = Ascent(deadline, Tier.DEEP)
        user = await self._read_user(request.user_id, ascent)
        return await self.answer(request, user, ascent, restrict=item_ids)

    async def similar(self, item_id: str, request: Request, deadline: Deadline) -> Recommendation:
        """Items that go with an item, never the item itself: the CF answer to a history of that one item."""
        ascent, now_s = Ascent(deadline, Tier.CF), self._now_s()
        row = self.bundle.catalogue.row_of.get(item_id)
        if row is None:
            ascent.missing = Reason.UNKNOWN_ITEM
        event = UserEvent(item_id, "", now_s)
        query = build_query(self.bundle, replace(request, recent_events=(event,), allow_repeats=True), NOBODY, now_s)
        if row is not None:
            query = replace(query, exclude=np.append(query.exclude, np.int32(row)))
        return await self._climb(query, ascent, self.bundle.similar)

    async def answer(
        self,
        request: Request,
        user: UserState,
        ascent: Ascent,
        *,
        now_s: float | None = None,
        restrict: tuple[str, ...] | None = None,
    ) -> Recommendation:
        """The answer for a user of whom ``user`` is known; ``recommend`` without the store.

        Args:
            request: what is asked.
            user: what is known of the user.
            ascent: budget and highest rung.
            now_s: the moment of asking, seconds since the epoch; now when not given.
            restrict: only these items, for ``rank``.
        """
        ascent.missing = user.missing
        query = build_query(self.bundle, request, user, self._now_s() if now_s is None else now_s, restrict=restrict)
        return await self._climb(query, ascent, self.bundle.prior)

    async def _read_user(self, user_id: str, ascent: Ascent) -> UserState:
        settings = self._settings
        limit_s = min(ascent.deadline.share(settings.store_share), settings.store_timeout_ms / 1000)
        user = await self._store.read(user_id, limit_s)
        if user.missing is not None:
            ascent.dropped[USER_STORE] = user.missing
        ascent.ended("store")
        return user

    async def _climb(self, query: Query, ascent: Ascent, prior: Scorer) -> Recommendation:
        """Have the lower rungs' candidates in hand, try the deep rung, answer from the highest one reached."""
        candidates = self._propose(query, ascent)
        cheap = tuple(candidates)
        ascent.ended("propose")
        deep = await self._deep(query, candidates, ascent)
        if isinstance(deep, tuple):
            return self._finish(Tier.DEEP, query, *deep, ascent)
        ascent.reasons[Tier.DEEP] = deep
        pool = self._cf(query, cheap, ascent, prior)
        if not isinstance(pool, Reason):
            return self._finish(Tier.CF, query, pool, pool.prior, ascent)
        ascent.reasons[Tier.CF] = pool
        return self._finish(Tier.POPULARITY, query, None, NO_SCORES, ascent)

    def _propose(self, query: Query, ascent: Ascent) -> list[Candidates]:
        """What the quick generators propose; nothing for a user without history, who gets popularity."""
        found: list[Candidates] = []
        if not len(query.history) or ascent.ceiling < Tier.CF:
            return found
        if ascent.deadline.left_s() < self._floor_s:
            ascent.reasons[Tier.CF] = Reason.NO_TIME
            return found
        for generator, limit in self._inline:
            try:
                found.append(generator.generate(query, limit))
            except Exception:  # noqa: BLE001 - whatever a plug-in raises, the others answer
                _log.exception("generator %s failed", generator.name)
                ascent.dropped[generator.name] = Reason.FAILED
        return found

    def _cf(self, query: Query, candidates: tuple[Candidates, ...], ascent: Ascent, prior: Scorer) -> Pool | Reason:
        """The pool in the order of the prior, or why there is none worth answering."""
        if not len(query.history):
            return ascent.missing or Reason.NO_HISTORY
        if not candidates:
            return ascent.reasons.get(Tier.CF) or (Reason.FAILED if self._inline else Reason.NO_CANDIDATES)
        try:
            pool = merge(candidates, query, self._sources, prior)
        except Exception:  # noqa: BLE001 - whatever it is, popularity answers
            _log.exception("the CF rung failed")
            return Reason.FAILED
        ascent.ended("merge")
        if not np.isfinite(pool.prior).all():
            return Reason.INVALID_SCORES
        personal = ~np.isnan(pool.source_scores[:, self._personal])
        return pool if personal.any() else Reason.NO_CANDIDATES

    async def _deep(self, query: Query, candidates: list[Candidates], ascent: Ascent) -> tuple[Pool, Scores] | Reason:
        """The pool of all generators and the model's scores of its first rows, or why there are none."""
        scorer = self.bundle.scorer
        if scorer is None:
            return Reason.NOT_CONFIGURED
        if ascent.ceiling < Tier.DEEP:
            return Reason.NOT_ASKED
        if not len(query.history):
            return ascent.missing or Reason.NO_HISTORY
        if ascent.deadline.left_s() <= self._reserve_s:
            return Reason.NO_TIME
        await self._retrieve(query, candidates, ascent)
        ascent.ended("retrieve")
        scored = await self._score(scorer, query, candidates, ascent.deadline.sooner(self._reserve_s))
        ascent.ended("score")
        return scored

    async def _retrieve(self, query: Query, candidates: list[Candidates], ascent: Ascent) -> None:
        """Add what the slow generators find within their share; note those that do not."""
        share_s = ascent.deadline.sooner(self._reserve_s).share(self._settings.retrieve_share)
        started: list[tuple[str, Future[Candidates | Reason] | None]] = [
            (generator.name, self._work.start(partial(generator.generate, query, limit), share_s))
            for generator, limit in self._slow
        ]
        for name, future in started:
            outcome = Reason.NO_TIME if future is None else await future
            if isinstance(outcome, Reason):
                ascent.dropped[name] = outcome
            else:
                candidates.append(outcome)

    async def _score(
        self, scorer: InterruptibleScorer, query: Query, candidates: list[Candidates], deadline: Deadline
    ) -> tuple[Pool, Scores] | Reason:
        stop = Stop()
        job = partial(self._merge_and_score, scorer, query, candidates, deadline, stop)
        future = self._work.start(job, deadline.left_s(), stop.stop)
        if future is None:
            return Reason.NO_TIME
        try:
            return await future
        finally:
            if future.cancelled():  # the caller went away: free the thread
                stop.stop()

    def _merge_and_score(
        self,
        scorer: InterruptibleScorer,
        query: Query,
        candidates: list[Candidates],
        deadline: Deadline,
        stop: Stop,
    ) -> tuple[Pool, Scores] | Reason:
        """Score as many rows of the pool as fit the time; on a thread of the work pool."""
        cost = self.cost
        pool = merge(candidates, query, self._sources, self.bundle.prior)
        if not len(pool):
            return Reason.NO_CANDIDATES
        fitting = cost.rows_within(deadline.left_s())
        if fitting < min(len(pool), query.limit):
            cost.refused()
            return Reason.NO_TIME
        part = pool if fitting >= len(pool) else pool.take(slice(fitting))
        start_s, stopped = time.perf_counter(), True
        try:
            scores = scorer.score(query, part, stop)
            stopped = False
        finally:
            cost.observe(len(part), time.perf_counter() - start_s, stopped=stopped)
        if scores.shape != part.rows.shape or not np.isfinite(scores).all():
            _log.error("the model gave %s scores for %d rows, or not finite ones", scores.shape, len(part))
            return Reason.INVALID_SCORES
        return pool, scores

    def _finish(self, tier: Tier, query: Query, pool: Pool | None, scores: Scores, ascent: Ascent) -> Recommendation:
        """The answer of a rung: the one place where recommendations are made."""
        popularity = self.bundle.popularity
        chosen: Selection
        chosen = by_popularity(query, popularity) if pool is None else select(query, pool, scores, popularity)
        explained_by = explain(query, chosen.rows, self.bundle.item_vectors)
        ascent.ended("select")
        return Recommendation(
            rows=chosen.rows,
            scores=chosen.scores,
            proposed=chosen.proposed,
            sources=self._sources,
            explained_by=explained_by,
            tier=tier,
            skipped=ascent.skipped(tier),
            dropped=ascent.dropped,
            bundle_version=self.bundle.version,
            scored_rows=len(chosen.rows) if pool is None else len(scores),
            pool_rows=len(chosen.rows) if pool is None else len(pool),
            stage_ms=ascent.stage_ms,
        )
