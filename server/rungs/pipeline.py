"""One request: from what is asked and what is known of the user to the best answer in time.

Owns the order of the rungs. Knows neither gRPC nor protobuf nor Redis; generators and scorers know no time.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from core.precomputed import RowSpace
from core.query import Request, build_query
from core.types import LADDER, LADDER_WITH_CF_ABOVE, NO_SCORES, Reason, Recommendation, Tier, UserEvent, UserState
from ranking.explain import explain
from ranking.select import by_popularity, select
from server.overload.breaker import Breaker
from server.overload.breaker_rules import INLINE_GENERATOR_RULE, THREADED_RULE, USER_STORE_RULE
from server.rungs.budget import Budget
from server.rungs.cf_rung import CfRung
from server.rungs.deep_rung import SCORER, TOWER, DeepResult, DeepRung
from server.rungs.floor import Floor
from server.rungs.list_refresh import ListRefresh
from server.rungs.list_rung import ListRung
from server.rungs.request_record import LOWERED
from server.store.user_store import nothing_known

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from core.bundle import Bundle
    from core.precomputed import PrecomputedList
    from core.types import Candidates, Pool, Query, Scorer, Scores
    from server.overload.breaker import Rule
    from server.rungs.request_record import RequestRecord
    from server.rungs.work_pool import WorkPool
    from server.settings import Settings
    from server.store.user_store import UserStore

USER_STORE = "user_store"
"""Name of the store among the breakers, and among what an answer was made without."""
NOBODY = UserState(no_list=Reason.NOT_ASKED)
_log = logging.getLogger(__name__)


class Pipeline:
    """Answers requests from one bundle; belongs to one event loop.

    Attributes:
        breakers: of the user store, every generator, the model and its user tower, by name.

        deep: the deep rung; None where the bundle has no model, or none that can be used.

        has_lists: whether the store holds lists of this bundle.

        ladder: the rungs from the lowest to the best.

        lists: the rung that answers from precomputed lists.

        refresh: keeps what the deep rung found as such lists.
    """

    def __init__(
        self,
        bundle: Bundle,
        store: UserStore,
        work: WorkPool,
        settings: Settings,
        *,
        now_s: Callable[[], float] = time.time,
        breaker: Callable[[str, Rule], Breaker] = Breaker,
    ) -> None:
        """Keep the parts.

        Args:
            bundle: what to answer from.
            store: what is known of users.
            work: threads for slow generators and the model.
            settings: shares of the budget.
            now_s: wall clock, seconds since the epoch: how old an event is.
            breaker: makes the breaker of a name.
        """
        self.bundle = bundle
        self._budget = Budget.of(settings)
        self.floor = Floor(bundle)
        rules = {USER_STORE: USER_STORE_RULE, SCORER: THREADED_RULE, TOWER: THREADED_RULE}
        rules |= {g.name: INLINE_GENERATOR_RULE if g.inline else THREADED_RULE for g in bundle.generators}
        self.breakers: Mapping[str, Breaker] = {name: breaker(name, rule) for name, rule in rules.items()}
        self.deep = None
        if bundle.scorer is not None:
            self.deep = DeepRung(bundle, bundle.scorer, work, self._budget, self.breakers)
        self.ladder: tuple[Tier, ...] = LADDER if bundle.manifest.precomputed_above_cf else LADDER_WITH_CF_ABOVE
        self._below_deep = [tier for tier in reversed(self.ladder) if Tier.POPULARITY < tier < Tier.DEEP]
        self._store = store
        self._store_breaker = self.breakers[USER_STORE]
        self._now_s = now_s
        self._settings = settings
        self._sources = tuple(g.name for g in bundle.generators)
        self._cf = CfRung(bundle, self.breakers, self._budget.least_for_cf_s)
        self.lists = ListRung(self._sources, settings.precomputed_first, self._budget.least_for_cf_s)
        own = RowSpace(bundle.version, len(bundle.catalogue))
        self.has_lists = store.lists == own
        self.refresh = ListRefresh(store, settings.refresh_share if self.has_lists else 0.0, now_s=now_s)
        if store.lists not in {None, own}:
            _log.error("lists are not used: the store has those of %s, this is bundle %s", store.lists, own)

    async def recommend(self, request: Request, record: RequestRecord) -> Recommendation:
        """Items for a user."""
        answer = await self.answer(request, await self._read_user(request.user_id, record), record)
        self.refresh.offer(request, record)
        return answer

    async def answer(
        self,
        request: Request,
        user: UserState,
        record: RequestRecord,
        *,
        now_s: float | None = None,
        restrict: tuple[str, ...] | None = None,
    ) -> Recommendation:
        """The answer for a user of whom ``user`` is known; ``recommend`` without the store.

        Args:
            request: what is asked.
            user: what is known of the user.
            record: budget and highest rung.
            now_s: the moment of asking, seconds since the epoch; now when not given.
            restrict: only these items, for ``rank``.
        """
        record.missing = user.missing
        query = build_query(self.bundle, request, user, self._now_s() if now_s is None else now_s, restrict=restrict)
        return await self._climb(query, user, record, self.bundle.prior)

    async def _climb(self, query: Query, user: UserState, record: RequestRecord, prior: Scorer) -> Recommendation:
        """Climb from rung to rung, each one in hand before the next is tried.

        Popularity needs nothing but the bundle: it is there whatever happens. A precomputed list came with the user. The
        pool of the CF rung is collected before the deep rung starts, which extends it. Should that fail, what is left to
        do is to order the pool and to select, and that is what the reserve is for. Where no rung above the list is to be
        tried and the list lacks nothing, it is the answer at once.
        """
        record.enter(self.ladder)
        found = self.lists.find(query, user, record)
        part = None if found is None else self._list_at_once(found, query, record)
        if part is not None and len(part.rows) >= query.limit:
            if (reason := self._no_deep(record)) is not None:
                record.reasons[Tier.DEEP] = reason
            return self._finish(Tier.PRECOMPUTED, query, self.lists.topped_up(part, None), part.scores, record)
        await self.floor.prepare(query, self._cf.popular_rows(query, record), record, self._budget.least_for_cf_s)
        quick = self._cf.propose(query, record)
        pool = self._cf.collect(query, quick, record)
        deep = await self._climb_deep(query, quick, pool, record)
        if deep.pool is not None and deep.scores is not None:
            record.scored = deep.pool, deep.scores
            return self._finish(Tier.DEEP, query, deep.pool, deep.scores, record)
        for tier in self._below_deep:
            if tier is Tier.PRECOMPUTED and found is not None:
                part = part or self.lists.usable(found, query, record)
                if part is not None:
                    more = None if len(part.rows) >= query.limit else self._cf.order(query, pool, record, prior)
                    return self._finish(tier, query, self.lists.topped_up(part, more), part.scores, record)
            elif tier is Tier.CF and record.cap_reason(tier) is None:
                ordered = self._cf.order(query, pool, record, prior)
                if ordered is not None:
                    return self._finish(tier, query, ordered, ordered.prior, record)
        return self._finish(Tier.POPULARITY, query, None, NO_SCORES, record)

    def _list_at_once(self, found: PrecomputedList, query: Query, record: RequestRecord) -> PrecomputedList | None:
        """What the query allows of a list, where no rung above it is to be tried; None where one is."""
        first = self.lists.comes_first(query)
        above = self.ladder[self.ladder.index(Tier.PRECOMPUTED) + 1 :]
        if not first and any(self._is_open(tier, record) for tier in above):
            return None
        part = self.lists.usable(found, query, record)
        if part is not None and first:
            record.lower(Tier.PRECOMPUTED, Reason.NOT_NEEDED)
        return part

    def _is_open(self, tier: Tier, record: RequestRecord) -> bool:
        """Whether a rung above the list is to be tried."""
        return (self._no_deep(record) if tier is Tier.DEEP else record.cap_reason(tier)) is None

    def _no_deep(self, record: RequestRecord) -> Reason | None:
        """Why the deep rung is not to be tried, whatever is found; None where it is."""
        if self.deep is None:
            return Reason.DISABLED if Tier.DEEP in self.bundle.disabled else Reason.NOT_CONFIGURED
        return record.cap_reason(Tier.DEEP)

    async def _read_user(self, user_id: str, record: RequestRecord) -> UserState:
        """What the store knows; it is not asked for a call that has no time, nor while its breaker is open.

        A call that stays on ``POPULARITY`` for any other reason is no different: what its user dismissed or has
        bought must not come back.
        """
        limit_s = min(record.deadline.share(self._settings.store_share), self._settings.store_timeout_ms / 1000)
        if record.cap < Tier.CF and record.why in LOWERED:
            user = nothing_known(self._store, record.why)
        elif limit_s <= 0:
            user = nothing_known(self._store, Reason.NO_TIME)
        elif permit := self._store_breaker.permit():
            user = await self._store.read(user_id, limit_s, partial(self._store_breaker.ended, permit))
        else:
            user = nothing_known(self._store, Reason.BREAKER_OPEN)
        if not self.has_lists and user.no_list is not Reason.NOT_CONFIGURED:  # rows of another catalogue
            user = replace(user, precomputed=None, no_list=Reason.NOT_CONFIGURED)
        if user.missing is not None:
            record.dropped[USER_STORE] = user.missing
        record.ended("store")
        return user

    async def _climb_deep(
        self, query: Query, quick: list[Candidates] | None, pool: Pool | None, record: RequestRecord
    ) -> DeepResult:
        """What the deep rung makes of the pool in hand; where it makes nothing, the reason is in the record too."""
        deadline = self._budget.deep_deadline(record.deadline, record.slack_s)
        if self.deep is None or self._no_deep(record) is not None:
            result = DeepResult(reason=self._no_deep(record))
        elif quick is None or pool is None:  # what keeps a request from CF keeps it from here
            result = DeepResult(reason=record.reasons[Tier.CF])
        elif deadline.left_s() <= 0:
            result = DeepResult(reason=Reason.NO_TIME)
        else:
            result = await self.deep.climb(query, quick, pool, record, deadline)
        if result.reason is not None:
            record.reasons[Tier.DEEP] = result.reason
        return result

    def _finish(
        self, tier: Tier, query: Query, pool: Pool | None, scores: Scores, record: RequestRecord
    ) -> Recommendation:
        """The answer of a rung: the one place where recommendations are made."""
        floor = self.floor
        failures = floor.failures
        chosen = by_popularity(query, floor) if pool is None else select(query, pool, scores, floor)
        if floor.failures > failures:
            record.dropped[floor.name] = Reason.FAILED
        explained_by = explain(query, chosen.rows, self.bundle.item_vectors)
        record.ended("select")
        return Recommendation(
            rows=chosen.rows,
            scores=chosen.scores,
            proposed=chosen.proposed,
            sources=self._sources if pool is None else pool.sources,
            explained_by=explained_by,
            tier=tier,
            skipped=record.skipped(tier),
            dropped=record.dropped,
            bundle_version=self.bundle.version,
            scored_rows=len(chosen.rows) if pool is None else len(scores),
            pool_rows=len(chosen.rows) if pool is None else len(pool),
            stage_ms=record.stage_ms,
        )

    async def rank(self, item_ids: tuple[str, ...], request: Request, record: RequestRecord) -> Recommendation:
        """Those of ``item_ids`` (unique) that the catalogue has, in the user's order."""
        user = await self._read_user(request.user_id, record)
        return await self.answer(request, user, record, restrict=item_ids)

    async def similar(self, item_id: str, request: Request, record: RequestRecord) -> Recommendation:
        """Items that go with an item, never the item itself: the CF answer to a history of that one item."""
        now_s = self._now_s()
        row = self.bundle.catalogue.row_of.get(item_id)
        if row is None:
            record.missing = Reason.UNKNOWN_ITEM
        event = UserEvent(item_id, "", now_s)
        query = build_query(self.bundle, replace(request, recent_events=(event,), allow_repeats=True), NOBODY, now_s)
        if row is not None:
            query = replace(query, exclude=np.append(query.exclude, np.int32(row)))
        return await self._climb(query, NOBODY, record, self.bundle.similar)
