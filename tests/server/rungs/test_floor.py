"""The lowest rung has an answer whatever the bundle's popularity does."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.catalogue import Filters
from core.query import Request, build_query
from core.types import Candidates, Reason, Tier, UserState
from server.rungs.deadline import Deadline
from server.rungs.floor import Floor
from server.rungs.pipeline import Pipeline
from server.rungs.request_record import RequestRecord
from server.rungs.work_pool import WorkPool
from server.settings import Settings
from server.store.user_store import MemoryUserStore
from tests.server import toy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.bundle import Bundle
    from core.types import Query, Recommendation, Rows, Scores

ALL = np.arange(toy.ITEMS, dtype=np.int32)
IDS = toy.catalogue().ids


@dataclass
class Moody(toy.ToyPopularity):
    """Raises in what it is told to, and may score with NaN; ``mood`` may change once the server runs."""

    mood: str = ""

    def generate(self, query: Query, limit: int) -> Candidates:
        if "generate" in self.mood:
            toy.fail()
        return super().generate(query, limit)

    def score_rows(self, rows: Rows) -> Scores:
        if "score" in self.mood:
            toy.fail()
        scores = super().score_rows(rows)
        return np.where(rows == 59, np.nan, scores).astype(np.float32) if "nan" in self.mood else scores


def bundle_of(popularity: toy.ToyPopularity) -> Bundle:
    whole = toy.bundle()
    generators = tuple(popularity if g.name == "popularity" else g for g in whole.generators)
    return replace(whole, popularity=popularity, generators=generators)


class Served:
    """The pipeline without a deadline, from synchronous code."""

    def __init__(self, work: WorkPool, runner: asyncio.Runner) -> None:
        self._work, self._runner = work, runner

    def pipeline(self, bundle: Bundle) -> Pipeline:
        return Pipeline(bundle, MemoryUserStore(()), self._work, Settings(), now_s=lambda: 1000.0)

    def answer(
        self, pipeline: Pipeline, request: Request, ceiling: Tier = Tier.DEEP, restrict: tuple[str, ...] | None = None
    ) -> Recommendation:
        record = RequestRecord(Deadline.never(), ceiling)
        return self._runner.run(pipeline.answer(request, UserState(), record, restrict=restrict))


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    work = WorkPool(threads=1, max_jobs=4)
    with asyncio.Runner() as runner:
        yield Served(work, runner)
    work.close()


requests = st.builds(
    Request,
    user_id=st.just("ada"),
    limit=st.integers(1, 70),
    filters=st.builds(
        Filters,
        categories=st.sampled_from([(), ("book",), ("toy",)]),
        max_price=st.sampled_from([None, 12.0, 0.0]),
        available_only=st.booleans(),
    ),
    exclude=st.lists(st.sampled_from(IDS), max_size=60).map(tuple),
    recent_events=st.sampled_from([(), toy.HISTORY]),
)
from_the_start = st.sampled_from(["", "generate", "score", "generate score", "nan", "generate nan"])
later = st.sampled_from(["generate", "generate score"])


@settings(deadline=None)
@given(request=requests, mood=from_the_start, broken=later, ceiling=st.sampled_from([Tier.POPULARITY, Tier.DEEP]))
def test_a_broken_popularity_leaves_every_list_full_and_allowed_and_is_named(
    served: Served, request: Request, mood: str, broken: str, ceiling: Tier
) -> None:
    popularity = Moody(mood=mood)
    pipeline = served.pipeline(bundle_of(popularity))
    popularity.mood = broken
    answer = served.answer(pipeline, request, ceiling)

    query = build_query(pipeline.bundle, request, UserState(), 1000.0)
    allowed = query.allows(ALL)
    rows = answer.rows
    assert len(rows) == len(set(rows.tolist())) == min(request.limit, int(allowed.sum()))
    assert allowed[rows].all()
    asked = ceiling is not Tier.POPULARITY and bool(request.recent_events)  # it is one of the generators
    filled = answer.tier is Tier.POPULARITY or len(answer.rows) > answer.pool_rows
    assert answer.dropped == ({"popularity": Reason.FAILED} if asked or filled else {})


@settings(deadline=None)
@given(request=requests)
def test_the_list_in_memory_is_the_one_that_popularity_gives(served: Served, request: Request) -> None:
    """Not the items alone: their order and scores too."""
    popularity = Moody()
    pipeline = served.pipeline(bundle_of(popularity))
    well = served.answer(pipeline, request, Tier.POPULARITY)
    popularity.mood = "generate"
    broken = served.answer(pipeline, request, Tier.POPULARITY)

    assert broken.rows.tolist() == well.rows.tolist()
    assert broken.scores.tolist() == well.scores.tolist()
    assert (well.dropped, broken.dropped) == ({}, {"popularity": Reason.FAILED})


def test_rows_to_rank_are_ordered_by_what_was_known_at_the_start(served: Served) -> None:
    popularity = Moody()
    pipeline = served.pipeline(bundle_of(popularity))
    popularity.mood = "generate score"
    asked = ("item-05", "item-59", "item-31")
    answer = served.answer(pipeline, Request("ada", 3), Tier.POPULARITY, asked)

    assert [IDS[row] for row in answer.rows] == ["item-59", "item-31", "item-05"]


def test_without_any_score_the_catalogues_order_stands_in(caplog: pytest.LogCaptureFixture) -> None:
    floor = Floor(bundle_of(Moody(mood="generate score")))
    query = build_query(toy.bundle(), Request("ada", 4), UserState(), 1000.0)
    found = floor.generate(query, 4)

    assert found.rows.tolist() == [1, 2, 3, 4]
    assert found.scores.tolist() == [0, 0, 0, 0]
    assert "the catalogue's order stands in" in caplog.text


def test_a_score_that_is_none_is_the_lowest() -> None:
    floor = Floor(bundle_of(Moody(mood="generate nan")))
    query = build_query(toy.bundle(), Request("ada", toy.ITEMS), UserState(), 1000.0)
    found = floor.generate(query, toy.ITEMS)

    assert found.rows[0] == 58
    assert 59 in found.rows
    assert np.isfinite(found.scores).all()
    assert np.isfinite(floor.score_rows(ALL)).all()


def test_a_failure_is_counted_every_time_and_said_seldom(caplog: pytest.LogCaptureFixture) -> None:
    floor = Floor(bundle_of(Moody(mood="generate")))
    query = build_query(toy.bundle(), Request("ada", 4), UserState(), 1000.0)
    for _ in range(100):
        floor.generate(query, 4)

    assert floor.failures == 100
    assert len([record for record in caplog.records if "a list in memory answers" in record.message]) <= 8


@pytest.mark.parametrize("history", [(), toy.HISTORY], ids=["cold", "known"])
def test_with_every_generator_and_the_model_failing_at_once_there_is_a_full_list(
    served: Served, history: tuple[object, ...]
) -> None:
    popularity = Moody()
    bundle = replace(
        toy.bundle(
            near=toy.ToyGenerator("neighbours", True, 1, toy.fail),
            far=toy.ToyGenerator("far", False, 7, toy.fail),
            scorer=toy.ToyScorer(toy.fail),
        ),
        popularity=popularity,
    )
    bundle = replace(bundle, generators=(*bundle.generators[:2], popularity))
    pipeline = served.pipeline(bundle)
    popularity.mood = "generate score"
    answer = served.answer(pipeline, Request("ada", 8, recent_events=history))  # type: ignore[arg-type]

    assert (answer.tier, len(answer.rows)) == (Tier.POPULARITY, 8)
    failed = dict.fromkeys(("neighbours", "far", "popularity") if history else ("popularity",), Reason.FAILED)
    assert answer.dropped == failed
    wanted = (Reason.FAILED, Reason.NO_CANDIDATES) if history else (Reason.NO_HISTORY,) * 2
    assert (answer.skipped[Tier.CF], answer.skipped[Tier.DEEP]) == wanted


class Lost(toy.ToyPopularity):
    """Speaks of another catalogue."""

    def generate(self, query: Query, limit: int) -> Candidates:
        found = super().generate(query, limit)
        return Candidates(self.name, found.rows + np.int32(toy.ITEMS), found.scores)


def test_rows_of_another_catalogue_are_not_answered(served: Served) -> None:
    pipeline = served.pipeline(bundle_of(Lost()))

    answer = served.answer(pipeline, Request("ada", 8), Tier.POPULARITY)

    assert answer.rows.tolist() == [59, 58, 57, 56, 54, 53, 52, 51]
    assert answer.dropped == {"popularity": Reason.FAILED}
