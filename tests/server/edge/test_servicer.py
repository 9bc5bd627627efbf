"""The gRPC edge over a real connection: what is refused and how, what comes back, and what never leaks."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from core.types import UserEvent
from server.edge.call_guard import CallGuard
from server.edge.servicer import SERVICE
from server.overload.admission import Admission
from server.settings import Settings
from terrace.v1 import recommendation_pb2 as pb
from tests.server import toy
from tests.server.running import Running, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SETTINGS = Settings(default_deadline_ms=20_000, max_request_ms=20_000, surfaces={"basket": True})
EVENT = pb.Event(item_id="item-11", event_type="view")


class World:
    """A server on a port of its own and a channel to it."""

    def __init__(self, server: Running, channel: grpc.aio.Channel) -> None:
        self.server = server
        self._channel = channel

    async def raw(self, method: str, data: bytes, *metadata: tuple[str, str]) -> bytes:
        return await self._channel.unary_unary(f"/{SERVICE}/{method}")(data, timeout=20, metadata=metadata)

    async def recommend(self, *metadata: tuple[str, str], **fields: Any) -> pb.RecommendResponse:
        message = pb.RecommendRequest(**{"user_id": "ada", **fields})
        return pb.RecommendResponse.FromString(await self.raw("Recommend", message.SerializeToString(), *metadata))

    async def similar(self, *metadata: tuple[str, str], **fields: Any) -> pb.SimilarItemsResponse:
        message = pb.SimilarItemsRequest(**{"item_id": "item-11", **fields})
        return pb.SimilarItemsResponse.FromString(
            await self.raw("SimilarItems", message.SerializeToString(), *metadata)
        )

    async def rank(self, *metadata: tuple[str, str], **fields: Any) -> pb.RankItemsResponse:
        message = pb.RankItemsRequest(**{"user_id": "ada", "item_ids": ["item-11"], **fields})
        return pb.RankItemsResponse.FromString(await self.raw("RankItems", message.SerializeToString(), *metadata))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running(SETTINGS) as server, grpc.aio.insecure_channel(server.address) as channel:
        yield World(server, channel)


def filters(**fields: Any) -> dict[str, Any]:
    return {"filters": pb.Filters(**fields)}


def attributes(**values: list[str]) -> dict[str, Any]:
    return filters(attributes={name: pb.AttributeValues(values=found) for name, found in values.items()})


def events(**fields: Any) -> dict[str, Any]:
    return {"recent_events": [pb.Event(**{"item_id": "item-11", "event_type": "view", **fields})]}


NAN, INF = float("nan"), float("inf")
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("recommend", {"user_id": ""}, "user_id: 1 to 256 bytes"),
    ("recommend", {"user_id": "a" * 257}, "user_id: 1 to 256 bytes"),
    ("recommend", {"user_id": "é" * 129}, "user_id: 1 to 256 bytes"),
    ("recommend", {"user_id": "\U0001f600" * 65}, "user_id: 1 to 256 bytes"),
    ("recommend", {"user_id": "a\n"}, "user_id: 1 to 256 bytes without control characters"),
    ("recommend", {"user_id": "a\0"}, "user_id: 1 to 256 bytes without control characters"),
    ("recommend", {"user_id": "\x7f"}, "user_id: 1 to 256 bytes without control characters"),
    ("recommend", {"user_id": "a\x85b"}, "user_id: 1 to 256 bytes without control characters"),
    ("recommend", {"surface": "Home"}, "surface: at most 64 characters"),
    ("recommend", {"surface": "a" * 65}, "surface: at most 64 characters"),
    ("recommend", {"limit": -1}, "limit: 1 to 200"),
    ("recommend", {"limit": 201}, "limit: 1 to 200"),
    ("recommend", {"limit": 2**31 - 1}, "limit: 1 to 200"),
    ("recommend", {"exclude_item_ids": ["x"] * 1001}, "exclude_item_ids: at most 1000"),
    ("recommend", {"recent_events": [EVENT] * 101}, "recent_events: at most 100"),
    ("recommend", events(item_id=""), "recent_events.item_id: an item id has 1 to 256 bytes"),
    ("recommend", events(item_id="é" * 129), "recent_events.item_id: an item id has 1 to 256 bytes"),
    ("recommend", events(event_type=""), "recent_events.event_type: 1 to 64 characters"),
    ("recommend", events(event_type="V"), "recent_events.event_type: 1 to 64 characters"),
    ("recommend", events(value=NAN), "recent_events.value: a finite number"),
    ("recommend", events(value=-INF), "recent_events.value: a finite number"),
    ("recommend", events(time=Timestamp(seconds=-1)), "recent_events.time: from the year 1970 to 9999"),
    ("recommend", events(time=Timestamp(seconds=253_402_300_800)), "recent_events.time: from the year 1970 to 9999"),
    ("recommend", events(time=Timestamp(nanos=-1)), "recent_events.time: from the year 1970 to 9999"),
    ("recommend", events(time=Timestamp(nanos=10**9)), "recent_events.time: from the year 1970 to 9999"),
    ("recommend", {"context": {str(i): "" for i in range(21)}}, "context: at most 20 entries"),
    ("recommend", {"context": {"a" * 65: ""}}, "context: keys and values have at most 64 characters"),
    ("recommend", {"context": {"a": "b" * 65}}, "context: keys and values have at most 64 characters"),
    ("recommend", filters(categories=["x"] * 101), "filters.categories: at most 100"),
    ("recommend", filters(exclude_categories=["x"] * 101), "filters.exclude_categories: at most 100"),
    ("recommend", filters(min_price=NAN), "filters.min_price: a finite number"),
    ("recommend", filters(min_price=-0.01), "filters.min_price: a finite number, 0 or more"),
    ("recommend", filters(max_price=INF), "filters.max_price: a finite number"),
    ("recommend", filters(min_price=2, max_price=1), "filters.max_price: at least min_price"),
    ("recommend", attributes(**{f"a{i}": ["x"] for i in range(21)}), "filters.attributes: at most 20"),
    ("recommend", attributes(colour=[]), "filters.attributes.values: 1 to 100"),
    ("recommend", attributes(colour=["x"] * 101), "filters.attributes.values: 1 to 100"),
    ("similar", {"item_id": ""}, "item_id: an item id has 1 to 256 bytes"),
    ("similar", {"item_id": "x" * 257}, "item_id: an item id has 1 to 256 bytes"),
    ("similar", {"limit": 201}, "limit: 1 to 200"),
    ("similar", {"surface": "!"}, "surface: at most 64 characters"),
    ("similar", filters(min_price=INF), "filters.min_price: a finite number"),
    ("similar", {"exclude_item_ids": ["x"] * 1001}, "exclude_item_ids: at most 1000"),
    ("rank", {"item_ids": []}, "item_ids: 1 to 500 items"),
    ("rank", {"item_ids": [str(i) for i in range(501)]}, "item_ids: 1 to 500 items"),
    ("rank", {"item_ids": ["x", ""]}, "item_ids: an item id has 1 to 256 bytes"),
    ("rank", {"item_ids": ["x", "y", "x"]}, "item_ids: each item once"),
    ("rank", {"user_id": ""}, "user_id: 1 to 256 bytes"),
    ("rank", {"surface": "!"}, "surface: at most 64 characters"),
    ("rank", {"recent_events": [EVENT] * 101}, "recent_events: at most 100"),
    ("rank", events(time=Timestamp(seconds=2**62)), "recent_events.time: from the year 1970 to 9999"),
    ("rank", {"context": {"a": "b" * 65}}, "context: keys and values have at most 64 characters"),
]


@pytest.mark.parametrize(("method", "fields", "text"), REFUSED)
async def test_what_breaks_a_bound_is_refused_with_field_and_bound(
    world: World, method: str, fields: dict[str, Any], text: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await getattr(world, method)(**fields)

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details().startswith(text)


@pytest.mark.parametrize(
    "fields",
    [
        {"user_id": "Aa0_:.@-" * 16, "limit": 200, "surface": "a" * 64},
        {"limit": 1, "exclude_item_ids": ["unheard-of"] * 1000, "recent_events": [EVENT] * 100},
        events(item_id="é" * 128, event_type="a" * 64, time=Timestamp(seconds=253_402_300_799, nanos=999_999_999)),
        {"context": {"é" * 60 + str(i): "é" * 64 for i in range(20)}},
        filters(min_price=1e308, max_price=1.7e308),
        filters(min_price=1, max_price=1, categories=["nonsense"] * 100, include_unavailable=True),
        attributes(**{f"a{i}": ["x"] * 100 for i in range(20)}),
    ],
)
async def test_what_is_just_within_the_bounds_is_answered(world: World, fields: dict[str, Any]) -> None:
    answer = await world.recommend(**fields)

    assert answer.info.tier != pb.TIER_UNSPECIFIED


@pytest.mark.parametrize(
    "user_id",
    [
        "auth0|6531f2a",
        "google-oauth2|1093",
        "dGVzdA+/==",
        "CN=Ada Lovelace,OU=R&D",
        "a b",
        "ada+news@example.org",
        "岡本かの子",
        "Zoë\u202e}{%s*",
        "a" * 256,
        "é" * 128,
        "\U0001f600" * 64,
    ],
)
async def test_whatever_an_identity_provider_calls_a_user_names_one(world: World, user_id: str) -> None:
    await world.server.store.append(user_id, [UserEvent("item-11", "view", 900.0)])

    recommended, ranked = await world.recommend(user_id=user_id), await world.rank(user_id=user_id)

    assert recommended.info.tier == ranked.info.tier == pb.TIER_DEEP


@pytest.mark.parametrize(
    "data", [b"\xff", b"\x0a\xff", b"nonsense" * 9, b"\x0a\x02\xc3\x28"], ids=["tag", "length", "text", "not UTF-8"]
)
@pytest.mark.parametrize("method", ["Recommend", "SimilarItems", "RankItems"])
async def test_malformed_bytes_are_the_callers_error(world: World, method: str, data: bytes) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.raw(method, data)

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_error_of_the_program_reaches_the_log_and_not_the_caller(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.server.pipeline._now_s = toy.fail

    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await world.recommend()

    assert failed.value.code() is grpc.StatusCode.INTERNAL
    named = re.fullmatch(r"internal error; recommendation_id ([0-9a-f]{32})", failed.value.details())
    assert named is not None
    assert named[1] in caplog.text
    assert "hunter2" in caplog.text


async def test_a_server_without_a_bundle_sends_callers_elsewhere(world: World) -> None:
    world.server.edge.versions = None

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.recommend()

    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_an_unset_limit_means_twenty(world: World) -> None:
    assert len((await world.recommend()).items) == 20
    assert len((await world.similar()).items) == 20


async def test_the_answer_says_how_it_came_to_be(world: World) -> None:
    answer = await world.recommend(recent_events=[EVENT], limit=30)

    info = answer.info
    assert re.fullmatch("[0-9a-f]{32}", info.recommendation_id)
    assert (info.tier, info.bundle_version) == (pb.TIER_DEEP, "toy")
    assert [(s.tier, s.reason) for s in info.skipped] == []
    assert [s.stage for s in info.stages] == ["store", "propose", "merge", "retrieve", "score", "select"]
    assert 0 < info.scored_rows <= info.pool_rows
    by_id = {item.item_id: item for item in answer.items}
    assert list(by_id["item-12"].sources) == ["neighbours"]
    assert list(by_id["item-18"].sources) == ["far"]
    assert list(by_id["item-31"].sources) == ["popularity"]
    assert by_id["item-12"].HasField("score")


async def test_skipped_tiers_have_reasons(world: World) -> None:
    info = (await world.recommend(user_id="cold")).info

    assert {(s.tier, s.reason) for s in info.skipped} == {
        (pb.TIER_CF, pb.REASON_NO_HISTORY),
        (pb.TIER_PRECOMPUTED, pb.REASON_NOT_CONFIGURED),
        (pb.TIER_DEEP, pb.REASON_NO_HISTORY),
    }


async def test_items_that_no_model_scored_have_no_score(world: World) -> None:
    answer = await world.recommend(recent_events=[EVENT], limit=48)

    unscored = [item for item in answer.items if not item.HasField("score")]
    assert len(unscored) == len(answer.items) - answer.info.scored_rows > 0
    assert {tuple(item.sources) for item in unscored} == {("popularity",)}


async def test_two_answers_have_two_names(world: World) -> None:
    first, second = await world.recommend(), await world.recommend()

    assert first.info.recommendation_id != second.info.recommendation_id


async def test_ranking_returns_every_item_once_and_unknown_ones_last_in_the_order_given(world: World) -> None:
    asked = ["zz", "item-31", "item-05", "aa", "item-59"]

    answer = await world.rank(item_ids=asked, recent_events=[EVENT])

    assert [item.item_id for item in answer.items] == ["item-31", "item-05", "item-59", "zz", "aa"]
    assert answer.unknown_items == 2
    assert [item.HasField("score") for item in answer.items] == [True, True, True, False, False]


async def test_a_surface_may_allow_items_of_the_users_past(world: World) -> None:
    """Bought long ago and proposed by a neighbour: only the basket offers it again."""
    await world.server.store.append(
        "ada", [UserEvent("item-12", "purchase", 10.0), UserEvent("item-11", "view", 900.0)]
    )

    basket = await world.recommend(surface="basket", limit=40)
    home = await world.recommend(surface="home", limit=40)

    assert "item-12" in {item.item_id for item in basket.items}
    assert "item-12" not in {item.item_id for item in home.items}


async def test_the_budget_is_the_smaller_of_the_callers_and_the_servers() -> None:
    edge = CallGuard(
        replace(SETTINGS, default_deadline_ms=100, max_request_ms=500),
        Admission(),
        [].append,
    )

    class Context:
        def __init__(self, left_s: float | None) -> None:
            self._left_s = left_s

        def time_remaining(self) -> float | None:
            return self._left_s

    left = [edge._deadline(Context(s)).left_s() for s in (None, 0.05, 3600.0)]  # type: ignore[arg-type]  # a part

    assert left == [pytest.approx(0.1, abs=0.02), pytest.approx(0.05, abs=0.02), pytest.approx(0.5, abs=0.02)]
