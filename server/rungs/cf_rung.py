"""The rung ``CF``: what the quick generators propose, on the event loop, in the order of the prior.

The pool is collected before the deep rung starts, which extends it. Should that fail, the pool is ordered; and what it has
fills up a precomputed list.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from candidate_gen.merge import by_prior, collect, propose
from core.types import Reason, Tier
from server.overload.breaker import Outcome
from server.telemetry.rate_limited_log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core.bundle import Bundle
    from core.types import Candidates, Pool, Query, Scorer
    from server.overload.breaker import Breaker
    from server.rungs.request_record import RequestRecord

_log = logging.getLogger(__name__)


class CfRung:
    """Proposes, collects and orders for one bundle; belongs to one event loop."""

    def __init__(self, bundle: Bundle, breakers: Mapping[str, Breaker], least_s: float) -> None:
        """Keep the parts.

        Args:
            bundle: what to answer from.
            breakers: by name of generator.
            least_s: with less time left than this, seconds, no rung above popularity is started.
        """
        self._popularity = bundle.popularity.name
        self._limits = bundle.limits
        self._least_s = least_s
        self._limited_log = RateLimitedLog(_log)
        self._sources = tuple(g.name for g in bundle.generators)
        self._quick = tuple((g, bundle.limits[g.name], breakers[g.name]) for g in bundle.generators if g.inline)
        self._personal = np.array([name != self._popularity for name in self._sources], np.bool_)

    def propose(self, query: Query, record: RequestRecord) -> list[Candidates] | None:
        """What the quick generators propose; None, and the reason in the record, where the CF rung is not to be tried."""
        # A pool is also what tops up a list where CF stands above it and is not to answer.
        reason = record.cap_reason(Tier.CF) if record.cap is Tier.POPULARITY else None
        if reason is None and not len(query.history):
            reason = record.missing or Reason.NO_HISTORY
        if reason is None and record.deadline.left_s() < self._least_s:
            reason = Reason.NO_TIME
        if reason is not None:
            record.reasons[Tier.CF] = reason
            record.ended("propose")
            return None
        found: list[Candidates] = []
        now_s = record.deadline.now_s
        for generator, limit, breaker in self._quick:
            permit = breaker.permit()
            if not permit:
                record.dropped[generator.name] = Reason.BREAKER_OPEN
                continue
            begun_s, filtered_s, outcome = now_s(), query.allowed().spent_s, Outcome.FAILURE
            try:
                found.append(propose(generator, query, limit))
                outcome = Outcome.SUCCESS
            except Exception:  # noqa: BLE001 - whatever a plug-in raises, the others answer
                self._limited_log.exception(f"generator {generator.name} failed")
                record.dropped[generator.name] = Reason.FAILED
            # What the caller's filters took is no fault of the generator.
            breaker.ended(permit, outcome, now_s() - begun_s - (query.allowed().spent_s - filtered_s))
        record.ended("propose")
        return found

    def popular_rows(self, query: Query, record: RequestRecord) -> int:
        """The most popular items that this request will ask for: to propose, or to fill up."""
        proposing = len(query.history) and record.cap >= Tier.CF
        return max(query.limit, self._limits.get(self._popularity, 0) if proposing else 0)

    def collect(self, query: Query, quick: list[Candidates] | None, record: RequestRecord) -> Pool | None:
        """The pool of the CF rung, not yet in order; None, and the reason in the record, where there is none."""
        if quick is None:
            return None
        try:
            pool = collect(quick, query, self._sources, partial(self._leave_out, quick, record))
        except Exception:  # noqa: BLE001 - whatever it is, popularity answers
            self._limited_log.exception("the CF rung failed")
            record.reasons[Tier.CF] = Reason.FAILED
            return None
        if not quick and self._quick:
            record.reasons[Tier.CF] = Reason.FAILED
        record.ended("merge")
        return pool

    def order(self, query: Query, pool: Pool | None, record: RequestRecord, prior: Scorer) -> Pool | None:
        """The pool in the order of the prior; None, and the reason in the record, where it is no answer of the CF rung."""
        if pool is None or Tier.CF in record.reasons:
            return None
        try:
            ordered = by_prior(pool, query, prior)
        except Exception:  # noqa: BLE001 - whatever it is, popularity answers
            self._limited_log.exception("the CF rung failed")
            record.reasons[Tier.CF] = Reason.FAILED
            return None
        if not np.isfinite(ordered.prior).all():
            record.reasons[Tier.CF] = Reason.INVALID_SCORES
        elif np.isnan(ordered.source_scores[:, self._personal]).all():
            record.reasons[Tier.CF] = Reason.NO_CANDIDATES
        return None if Tier.CF in record.reasons else ordered

    def _leave_out(self, quick: list[Candidates], record: RequestRecord, name: str) -> None:
        self._limited_log.exception(f"generator {name} does not keep to core.types.Candidates")
        record.dropped[name] = Reason.FAILED
        quick[:] = [found for found in quick if found.source != name]
