"""A hand-made bundle of 80 items behind a stand-in for the serving code whose lists are given, and a log of events.

Items are ``i0`` to ``i79``; even ones are "book", odd ones "toy", 79 has no category. Rungs give the lists they are
set to, less what the request excludes or the catalogue does not have.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from core.catalogue import Catalogue
from core.manifest import Manifest
from core.query import build_query
from core.types import Candidates, Recommendation, Tier, UserState
from offline.evaluate.recommended_lists import EvaluationSet
from offline.read.event_log import EventLog
from offline.split.cases import Cases

if TYPE_CHECKING:
    from core.query import Request
    from core.types import Mask, Pool, Query, Scores

N = 80
DAY_S = 86_400


def catalogue() -> Catalogue:
    return Catalogue(
        ids=[f"i{n}" for n in range(N)],
        available=np.ones(N, np.bool_),
        price=np.ones(N, np.float32),
        created_at=np.zeros(N, np.int64),
        category_ptr=np.array([*range(N), N - 1], np.int32),
        category_idx=(np.arange(N - 1) % 2).astype(np.int32),
        category_names=("book", "toy"),
        attributes={},
    )


class Listed:
    """A generator that always proposes the same rows, allowed or not."""

    inline = True

    def __init__(self, name: str, rows: list[int]) -> None:
        self.name, self.rows = name, np.array(rows, np.int32)
        self.calls = 0

    def generate(self, query: Query, limit: int) -> Candidates:
        del query
        self.calls += 1
        rows = self.rows[:limit]
        return Candidates(self.name, rows, np.arange(len(rows), 0, -1).astype(np.float32))


class HighestRow:
    """A prior that puts higher rows first."""

    def score(self, query: Query, pool: Pool) -> Scores:
        del query
        return pool.rows.astype(np.float32)


class Recorded:
    """A served bundle whose list for each rung is given; keeps the requests."""

    def __init__(self, lists: dict[Tier, list[int]], *, found: int = 12, generators: tuple[Listed, ...] = ()) -> None:
        manifest = Manifest("v", "", 0.0, "", N, {}, ("buy",), ("buy",), {}, {})
        self.bundle: Any = SimpleNamespace(
            catalogue=catalogue(),
            manifest=manifest,
            scorer=object() if Tier.DEEP in lists else None,
            encoder=None,
            generators=generators or (Listed("first", [0, 1, 2]), Listed("second", [2, 3])),
            limits={"first": 2, "second": 2},
            prior=HighestRow(),
        )
        self.lists, self.found = lists, found
        self.requests: list[tuple[Request, float, Tier]] = []
        self.warmed_up = 0

    def recommend(self, request: Request, user: UserState, now_s: float, max_tier: Tier) -> Recommendation:
        """DEEP and CF need something known of the user, as the pipeline does."""
        self.requests.append((request, now_s, max_tier))
        query = build_query(self.bundle, request, user, now_s)
        tier = max_tier if max_tier in self.lists else max(self.lists)
        if not (user.events or request.recent_events):
            tier = Tier.POPULARITY
        rows = np.array(self.lists[tier], np.int32)
        rows = rows[query.allows(rows)][: request.limit]
        names = tuple(generator.name for generator in self.bundle.generators)
        because = np.full(len(rows), query.history[0] if len(query.history) else -1, np.int32)
        proposed = np.full(len(rows), 0b10, np.uint32)
        scores = np.zeros(len(rows), np.float32)
        return Recommendation(rows, scores, proposed, names, because, tier, {}, {}, "v", 3, self.found, {})

    def warm_up(self) -> None:
        self.warmed_up += 1

    def recommend_within(self, request: Request, user: UserState, now_s: float, budget_s: float) -> Recommendation:
        """Popularity below 5 ms."""
        return self.recommend(request, user, now_s, Tier.POPULARITY if budget_s < 0.005 else Tier.DEEP)

    def restricted(self, available: Mask) -> Recorded:
        other = Recorded(self.lists, found=self.found, generators=self.bundle.generators)
        other.bundle.catalogue = replace(other.bundle.catalogue, available=available)
        return other


def log_of(*events: tuple[int, int, float], users: int) -> EventLog:
    """(user, item, day) of purchases, in the order of users and days."""
    users_of = np.array([user for user, _, _ in events])
    return EventLog(
        ptr=np.searchsorted(users_of, np.arange(users + 1)).astype(np.int64),
        items=np.array([item for _, item, _ in events], np.int32),
        types=np.ones(len(events), np.int8),
        weights=np.ones(len(events), np.float32),
        times=np.array([day * DAY_S for _, _, day in events], np.int64),
    )


def evaluation_set(
    log: EventLog, cut_day: float, relevant: dict[int, list[int]], *, allow_repeats: bool = False
) -> EvaluationSet:
    """Cases of these users at ``cut_day``, with what the log knows of them."""
    ends = log.ends_before(cut_day * DAY_S)
    users = np.array(list(relevant), np.int64)
    cases = Cases(
        users,
        ends[users],
        np.full(len(users), cut_day * DAY_S),
        tuple(np.array(r, np.int32) for r in relevant.values()),
    )
    ids = catalogue().ids
    states = [log.user_state(int(u), int(ends[u]), ids, ("buy",), frozenset({1})) for u in users]
    return EvaluationSet(cases, states, allow_repeats)
