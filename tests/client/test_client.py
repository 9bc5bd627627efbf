"""The client: what it sends, what it makes of answers, how it fails."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from terrace import client as module
from terrace.client import Answer, AsyncClient, Client, Event, Filters, Item, TerraceError, Tier
from terrace.v1 import recommendation_pb2 as pb
from terrace.v1 import recommendation_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

INFO = pb.AnswerInfo(
    recommendation_id="ab" * 16,
    tier=pb.TIER_CF,
    skipped=[pb.SkippedTier(tier=pb.TIER_DEEP, reason=pb.REASON_NO_TIME)],
    bundle_version="v7",
    scored_rows=3,
    pool_rows=4,
    stages=[pb.StageTime(stage="store", duration_ms=0.5)],
    dropped_sources=[pb.DroppedSource(source="ann", reason=pb.REASON_LATE)],
)
ITEMS = [
    pb.RecommendedItem(item_id="x", score=0.5, sources=["ann", "content"], explained_by="w"),
    pb.RecommendedItem(item_id="y"),
]
ANSWER = Answer(
    items=(Item("x", 0.5, ("ann", "content"), "w"), Item("y", None, (), "")),
    recommendation_id="ab" * 16,
    tier=Tier.CF,
    skipped={Tier.DEEP: "no_time"},
    bundle_version="v7",
    scored_rows=3,
    pool_rows=4,
    stage_ms={"store": 0.5},
    dropped_sources={"ann": "late"},
)


class Recorder(pb_grpc.RecommendationServiceServicer):
    """Keeps what it is asked; refuses the first ``refusals`` calls."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.left_s: list[float] = []
        self.told: list[dict[str, str]] = []
        self.refusals = 0
        self.status = grpc.StatusCode.UNAVAILABLE

    async def _note(self, request: Any, context: Any) -> None:
        self.asked.append(request)
        self.left_s.append(context.time_remaining())
        self.told.append({name: value for name, value in context.invocation_metadata() if name.startswith("terrace-")})
        if self.refusals:
            self.refusals -= 1
            await context.abort(self.status, "not now")

    async def Recommend(self, request: Any, context: Any) -> pb.RecommendResponse:  # noqa: N802 - the contract's name
        await self._note(request, context)
        return pb.RecommendResponse(items=ITEMS, info=INFO)

    async def SimilarItems(self, request: Any, context: Any) -> pb.SimilarItemsResponse:  # noqa: N802 - the same
        await self._note(request, context)
        return pb.SimilarItemsResponse(items=ITEMS, info=INFO)

    async def RankItems(self, request: Any, context: Any) -> pb.RankItemsResponse:  # noqa: N802 - the same
        await self._note(request, context)
        return pb.RankItemsResponse(items=ITEMS, info=INFO, unknown_items=1)


@pytest.fixture
async def server() -> AsyncIterator[tuple[Recorder, str]]:
    recorder = Recorder()
    grpc_server = grpc.aio.server()
    pb_grpc.add_RecommendationServiceServicer_to_server(recorder, grpc_server)
    port = grpc_server.add_insecure_port("127.0.0.1:0")
    await grpc_server.start()
    yield recorder, f"127.0.0.1:{port}"
    await grpc_server.stop(None)


async def test_every_option_arrives(server: tuple[Recorder, str]) -> None:
    recorder, target = server
    async with AsyncClient(target) as client:
        await client.recommend(
            "ada",
            limit=7,
            surface="home",
            filters=Filters(("book",), ("toy",), 1.5, 9.0, include_unavailable=True, attributes={"size": ("L", "M")}),
            exclude=["p", "q"],
            recent_events=[Event("i", "view"), Event("j", "purchase", 12.5, 3.0)],
            context={"device": "phone"},
            timeout_ms=20_000,
        )

    asked = recorder.asked[0]
    assert asked == pb.RecommendRequest(
        user_id="ada",
        limit=7,
        surface="home",
        filters=pb.Filters(
            categories=["book"],
            exclude_categories=["toy"],
            min_price=1.5,
            max_price=9.0,
            include_unavailable=True,
            attributes={"size": pb.AttributeValues(values=["L", "M"])},
        ),
        exclude_item_ids=["p", "q"],
        recent_events=asked.recent_events,
        context={"device": "phone"},
    )
    now, then = asked.recent_events
    assert not now.HasField("time")
    assert (then.item_id, then.event_type, then.time.ToMicroseconds(), then.value) == ("j", "purchase", 12_500_000, 3.0)


async def test_unset_prices_stay_unset_and_a_price_of_zero_is_sent(server: tuple[Recorder, str]) -> None:
    recorder, target = server
    async with AsyncClient(target) as client:
        await client.recommend("ada", filters=Filters(min_price=0.0), timeout_ms=20_000)

    assert recorder.asked[0].filters.HasField("min_price")
    assert not recorder.asked[0].filters.HasField("max_price")


async def test_all_three_calls_have_typed_answers(server: tuple[Recorder, str]) -> None:
    _, target = server
    async with AsyncClient(target) as client:
        recommended = await client.recommend("ada", timeout_ms=20_000)
        similar = await client.similar_items("x", limit=3, exclude=["z"], timeout_ms=20_000)
        ranked = await client.rank_items("ada", ["y", "x"], recent_events=[Event("i", "view")], timeout_ms=20_000)

    assert recommended == similar == ANSWER
    assert ranked.unknown_items == 1
    assert recommended.item_ids == ("x", "y")


async def test_the_blocking_client_asks_and_answers_alike(server: tuple[Recorder, str]) -> None:
    recorder, target = server

    def calls() -> list[Answer]:
        with Client(target) as client:
            return [
                client.recommend("ada", timeout_ms=20_000),
                client.similar_items("x", timeout_ms=20_000),
                client.rank_items("ada", ["y"], timeout_ms=20_000),
            ]

    answers = await asyncio.to_thread(calls)

    assert answers[0] == answers[1] == ANSWER
    assert [type(asked).__name__ for asked in recorder.asked] == [
        "RecommendRequest",
        "SimilarItemsRequest",
        "RankItemsRequest",
    ]


async def test_every_call_carries_its_own_deadline(server: tuple[Recorder, str]) -> None:
    recorder, target = server
    async with AsyncClient(target) as client:
        await client.recommend("ada", timeout_ms=20_000)
        await client.recommend("ada", timeout_ms=7_000)

    assert 10 < recorder.left_s[0] < 21
    assert 1 < recorder.left_s[1] < 8


async def test_a_call_says_who_waits_for_it_and_how_high_it_may_climb(server: tuple[Recorder, str]) -> None:
    recorder, target = server
    async with AsyncClient(target) as client:
        await client.recommend("ada", criticality="prefetch", exercise=False, max_tier=Tier.CF, timeout_ms=20_000)
        await client.similar_items("x", criticality="batch", timeout_ms=20_000)
        await client.rank_items("ada", ["x"], max_tier=Tier.POPULARITY, timeout_ms=20_000)

    assert recorder.told == [
        {"terrace-criticality": "prefetch", "terrace-exercise": "off", "terrace-tier": "CF"},
        {"terrace-criticality": "batch"},
        {"terrace-tier": "POPULARITY"},
    ]
    assert recorder.asked[0] == pb.RecommendRequest(user_id="ada")


async def test_what_is_the_default_is_not_sent(server: tuple[Recorder, str]) -> None:
    recorder, target = server
    async with AsyncClient(target) as client:
        await client.recommend("ada", timeout_ms=20_000)
        await client.recommend("ada", criticality="user", exercise=True, timeout_ms=20_000)

    assert recorder.told == [{}, {}]


async def test_the_blocking_client_says_the_same_of_its_calls(server: tuple[Recorder, str]) -> None:
    recorder, target = server

    def call() -> None:
        with Client(target) as client:
            client.recommend("ada", criticality="batch", exercise=False, max_tier=Tier.DEEP, timeout_ms=20_000)

    await asyncio.to_thread(call)

    assert recorder.told == [{"terrace-criticality": "batch", "terrace-exercise": "off", "terrace-tier": "DEEP"}]


@pytest.mark.parametrize(
    ("ask", "named"),
    [
        (lambda client: client.recommend(17), "user_id: expected a str, not int"),
        (lambda client: client.rank_items(17, ["x"]), "user_id: expected a str, not int: user_id=str"),
        (lambda client: client.similar_items(17), "item_id: expected a str, not int"),
        (lambda client: client.recommend("ada", recent_events=[Event(17, "view")]), "Event.item_id: expected a str"),
        (lambda client: client.rank_items("ada", "item-11"), "item_ids: expected a sequence of str, not one str"),
        (lambda client: client.recommend("ada", exclude="item-11"), "exclude: expected a sequence of str"),
        (lambda client: client.similar_items("x", exclude="item-11"), "exclude: expected a sequence of str, not"),
        (lambda client: client.recommend("ada", filters=Filters(categories="shoes")), "Filters.categories: expected a"),
        (
            lambda client: client.recommend("ada", filters=Filters(exclude_categories="shoes")),
            "Filters.exclude_categories: expected a sequence",
        ),
        (
            lambda client: client.recommend("ada", filters=Filters(attributes={"size": "XL"})),
            "Filters.attributes['size']: expected a sequence",
        ),
    ],
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_an_id_that_is_no_text_and_one_text_for_several_are_refused_by_name(
    server: tuple[Recorder, str], kind: type[Any], ask: Any, named: str
) -> None:
    """A text is a sequence of texts, so that no type checker sees it, and its letters would be sent as ids."""
    recorder, target = server
    client = kind(target)

    with pytest.raises(TypeError, match=re.escape(named)):
        await ask(client)
    closing = client.close()
    if closing is not None:
        await closing
    assert not recorder.asked


def test_no_timeout_is_in_the_service_config() -> None:
    """grpcio would let such calls expire almost two seconds early."""
    assert "timeout" not in json.dumps(module._SERVICE_CONFIG)


async def test_a_call_that_a_server_refuses_to_start_is_tried_once_more(server: tuple[Recorder, str]) -> None:
    recorder, target = server
    recorder.refusals = 1
    async with AsyncClient(target) as client:
        answer = await client.recommend("ada", timeout_ms=20_000)

    assert answer == ANSWER
    assert len(recorder.asked) == 2


@pytest.mark.parametrize(
    ("status", "attempts"),
    [(grpc.StatusCode.UNAVAILABLE, 2), (grpc.StatusCode.RESOURCE_EXHAUSTED, 1), (grpc.StatusCode.INTERNAL, 1)],
    ids=str,
)
async def test_a_call_is_never_tried_a_third_time_and_after_an_error_not_again(
    server: tuple[Recorder, str], status: grpc.StatusCode, attempts: int
) -> None:
    recorder, target = server
    recorder.refusals, recorder.status = 9, status
    async with AsyncClient(target) as client:
        with pytest.raises(TerraceError) as refused:
            await client.recommend("ada", timeout_ms=20_000)

    assert refused.value.code() is status
    assert len(recorder.asked) == attempts
