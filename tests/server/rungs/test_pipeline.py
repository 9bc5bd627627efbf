"""What every answer promises, whatever is asked."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.catalogue import Filters
from core.precomputed import PrecomputedList
from core.query import Request
from core.types import Reason, Tier, UserEvent, UserState
from server.rungs.deadline import Deadline
from server.rungs.pipeline import Pipeline
from server.rungs.request_record import RequestRecord
from server.rungs.work_pool import WorkPool
from server.settings import Settings
from server.store.user_store import MemoryUserStore
from tests.server import toy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.types import Recommendation

IDS = [f"item-{row:02}" for row in range(toy.ITEMS)]
HASHES = toy.catalogue().hashes
NOW_S = 1000.0

item_ids = st.sampled_from([*IDS, "unheard-of"])
events = st.builds(
    UserEvent,
    item_ids,
    st.sampled_from(["view", "purchase", "dismiss", "never-seen-type"]),
    st.floats(0, 2 * NOW_S),
)
filters = st.builds(
    Filters,
    categories=st.sampled_from([(), ("book",), ("toy", "book"), ("nonsense",)]),
    exclude_categories=st.sampled_from([(), ("toy",)]),
    min_price=st.sampled_from([None, 0.0, 12.5]),
    max_price=st.sampled_from([None, 20.0, 12.0]),
    available_only=st.booleans(),
    attributes=st.sampled_from([{}, {"colour": ("red",)}, {"colour": ("red", "blue")}, {"size": ("L",)}]),
)
requests = st.builds(
    Request,
    user_id=st.just("ada"),
    limit=st.integers(1, 70),
    filters=filters,
    exclude=st.lists(item_ids, max_size=60).map(tuple),
    recent_events=st.lists(events, max_size=8).map(tuple),
    allow_repeats=st.booleans(),
)
lists = st.lists(st.integers(0, toy.ITEMS - 1), unique=True, max_size=40).map(
    lambda rows: PrecomputedList(np.array(rows, np.int32), np.linspace(1, 0, len(rows), dtype=np.float32), 900.0)
)
states = st.builds(
    UserState,
    st.lists(events, max_size=8).map(lambda found: tuple(sorted(found, key=lambda e: -e.timestamp_s))),
    st.lists(item_ids, max_size=20).map(lambda ids: toy.catalogue().hashes[[IDS.index(i) for i in ids if i in IDS]]),
    precomputed=st.none() | lists,
)


class Replay:
    """The pipeline without a deadline, from synchronous code: Hypothesis drives no coroutines."""

    def __init__(self, work: WorkPool, runner: asyncio.Runner) -> None:
        self.bundle = toy.bundle()
        self._runner = runner
        self._pipeline = Pipeline(self.bundle, MemoryUserStore(()), work, Settings())

    def recommend(self, request: Request, user: UserState, ceiling: Tier) -> Recommendation:
        record = RequestRecord(Deadline.never(), ceiling)
        return self._runner.run(self._pipeline.answer(request, user, record, now_s=NOW_S))


@pytest.fixture(scope="module")
def replay() -> Iterator[Replay]:
    work = WorkPool(threads=1, max_jobs=4)
    with asyncio.Runner() as runner:
        yield Replay(work, runner)
    work.close()


def may_be_answered(row: int, request: Request, state: UserState) -> bool:
    """Written out plainly, by what ``toy`` says of its items, so that nothing that is tested judges itself."""
    item_id, wanted = IDS[row], request.filters
    category, colour = ("book", "toy")[row % 3 != 0], ("red", "blue")[row % 2]
    about = [event for event in (*request.recent_events, *state.events) if event.item_id == item_id]
    newest = max(about, key=lambda event: event.timestamp_s, default=None)
    bought = any(event.event_type == "purchase" for event in request.recent_events if event.item_id == item_id)
    seen = bought or int(HASHES[row]) in set(state.seen.tolist())
    return (
        item_id not in request.exclude
        and (newest is None or newest.event_type != "dismiss")
        and (request.allow_repeats or not seen)
        and (row % 5 != 0 or not wanted.available_only)
        and (not wanted.categories or category in wanted.categories)
        and category not in wanted.exclude_categories
        and (wanted.min_price is None or row / 2 >= wanted.min_price)
        and (wanted.max_price is None or row / 2 <= wanted.max_price)
        and all(name == "colour" and colour in values for name, values in wanted.attributes.items())
    )


@given(request=requests, state=states, ceiling=st.sampled_from(Tier))
def test_every_answer_is_unique_allowed_finite_and_as_long_as_can_be(
    replay: Replay, request: Request, state: UserState, ceiling: Tier
) -> None:
    answer = replay.recommend(request, state, ceiling)

    allowed = np.array([may_be_answered(row, request, state) for row in range(toy.ITEMS)])
    assert len(set(answer.rows.tolist())) == len(answer.rows)
    assert allowed[answer.rows].all()
    assert len(answer.rows) == min(request.limit, int(allowed.sum()))
    assert not np.isinf(answer.scores).any()
    assert len(answer.scores) == len(answer.proposed) == len(answer.explained_by) == len(answer.rows)
    assert set(answer.skipped) == {tier for tier in Tier if tier > answer.tier}
    own = {event.item_id for event in (*request.recent_events, *state.events)}
    assert {IDS[row] for row in answer.explained_by.tolist() if row >= 0} <= own
    scored = answer.scores[~np.isnan(answer.scores)]
    assert (np.diff(scored) <= 0).all()
    assert not np.isnan(answer.scores[: min(answer.scored_rows, len(answer.rows))]).any()


@pytest.fixture
def served() -> Iterator[Pipeline]:
    work = WorkPool(threads=1, max_jobs=4)
    store = MemoryUserStore(("purchase",))
    yield Pipeline(toy.bundle(), store, work, Settings(), now_s=lambda: NOW_S)
    work.close()


def ids_of(answer: Recommendation) -> list[str]:
    return [IDS[row] for row in answer.rows.tolist()]


SIMILAR = Request(user_id="", limit=8)


async def test_similar_items_start_with_neighbours_and_go_on_with_popular_ones(served: Pipeline) -> None:
    answer = await served.similar("item-11", SIMILAR, RequestRecord(Deadline.never(), Tier.CF))

    assert ids_of(answer)[:3] == ["item-12", "item-13", "item-14"]
    assert len(answer.rows) == SIMILAR.limit
    assert (answer.tier, answer.skipped) == (
        Tier.CF,
        {Tier.PRECOMPUTED: Reason.NOT_ASKED, Tier.DEEP: Reason.NOT_ASKED},
    )


@pytest.mark.parametrize("item_id", IDS)
async def test_no_item_is_similar_to_itself_and_the_list_is_full(served: Pipeline, item_id: str) -> None:
    answer = await served.similar(item_id, replace(SIMILAR, limit=40), RequestRecord(Deadline.never(), Tier.CF))

    assert item_id not in ids_of(answer)
    assert len(answer.rows) == 40


async def test_an_unknown_item_has_popular_items_and_the_reason_is_said(served: Pipeline) -> None:
    answer = await served.similar("unheard-of", SIMILAR, RequestRecord(Deadline.never(), Tier.CF))

    assert (answer.tier, answer.skipped[Tier.CF]) == (Tier.POPULARITY, Reason.UNKNOWN_ITEM)
    assert len(answer.rows) == SIMILAR.limit


async def test_similar_items_keep_to_filters_and_exclusions(served: Pipeline) -> None:
    request = replace(SIMILAR, exclude=("item-12",), filters=Filters(categories=("toy",)))

    answer = await served.similar("item-11", request, RequestRecord(Deadline.never(), Tier.CF))

    assert ids_of(answer)[:2] == ["item-13", "item-14"]
    assert all(row % 3 for row in answer.rows.tolist())


@pytest.mark.parametrize("tier", [Tier.POPULARITY, Tier.CF, Tier.DEEP])
async def test_what_the_caller_excludes_is_on_no_list(served: Pipeline, tier: Tier) -> None:
    user = UserState(toy.HISTORY)
    request = Request(user_id="ada", limit=10)
    usual = ids_of(await served.answer(request, user, RequestRecord(Deadline.never(), tier)))

    answer = await served.answer(
        replace(request, exclude=tuple(usual[:2])), user, RequestRecord(Deadline.never(), tier)
    )

    assert answer.tier is tier
    assert set(usual[:2]).isdisjoint(ids_of(answer))
    assert len(answer.rows) == request.limit


@pytest.mark.parametrize("history", [(), toy.HISTORY], ids=["cold", "known"])
async def test_ranking_gives_every_known_item_once_whatever_filters_would_say(
    served: Pipeline, history: tuple[UserEvent, ...]
) -> None:
    """item-05 is not available and item-02 was bought before: the caller's items come back all the same."""
    asked = ("item-05", "item-59", "unheard-of", "item-02", "item-31")
    request = Request(user_id="ada", limit=len(asked), recent_events=history)

    answer = await served.rank(asked, request, RequestRecord(Deadline.never()))

    assert sorted(ids_of(answer)) == ["item-02", "item-05", "item-31", "item-59"]
    assert answer.tier is (Tier.DEEP if history else Tier.POPULARITY)
    assert ids_of(answer)[0] == ("item-31" if history else "item-59")


async def test_ranking_nothing_that_is_known_is_an_empty_answer(served: Pipeline) -> None:
    answer = await served.rank(
        ("what", "ever"), Request("ada", 2, recent_events=toy.HISTORY), RequestRecord(Deadline.never())
    )

    assert len(answer.rows) == 0


async def test_events_of_the_request_join_the_stored_ones(served: Pipeline) -> None:
    await served._store.append("ada", [toy.HISTORY[1]])
    request = Request(user_id="ada", limit=8, recent_events=(toy.HISTORY[0],))

    answer = await served.recommend(request, RequestRecord(Deadline.never(), Tier.CF))

    assert {"item-12", "item-13", "item-14", "item-03", "item-04"} <= set(ids_of(answer))
    assert "item-02" not in ids_of(answer)


async def test_the_same_request_has_the_same_answer(served: Pipeline) -> None:
    request = Request(user_id="ada", limit=8, recent_events=toy.HISTORY)

    first, second = [await served.recommend(request, RequestRecord(Deadline.never())) for _ in range(2)]

    assert first.rows.tolist() == second.rows.tolist()
    assert first.scores.tolist() == second.scores.tolist()
