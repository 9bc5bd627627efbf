"""Input that breaks the contract is the caller's error, costs little, and leaves no trace in the server."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from server.app import MAX_MESSAGE_BYTES, _listen
from server.edge.accept_queue import AcceptQueueProbe
from server.edge.servicer import SERVICE, Servicer
from server.health import Health
from server.listening import reserved_port
from server.overload.breaker import State
from server.settings import Settings
from terrace.v1 import recommendation_pb2 as pb
from tests.faults.fuzzer import KINDS, MARKER, good, nested_groups, nested_messages
from tests.faults.in_process import InProcessClient
from tests.server.running import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from google.protobuf.message import Message

    from tests.server.running import Running

SETTINGS = Settings(default_deadline_ms=20_000, max_request_ms=20_000)
NAN, INF = float("nan"), float("inf")
INVALID, TOO_MUCH = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED
ALL = tuple(KINDS)


class World:
    """A server with the options of a real one, and a channel that lets everything out."""

    def __init__(self, server: Running, channel: grpc.aio.Channel) -> None:
        self.server, self._channel = server, channel

    async def ask(self, method: str, data: bytes, *metadata: tuple[str, Any]) -> bytes:
        return await self._channel.unary_unary(f"/{SERVICE}/{method}")(data, timeout=20, metadata=metadata)

    async def refusal(self, method: str, data: bytes, *metadata: tuple[str, Any]) -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await self.ask(method, data, *metadata)
        return refused.value


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running(SETTINGS) as server:
        door = AcceptQueueProbe(lambda: 0)
        handlers = Servicer(SETTINGS, now_s=lambda: 1000.0).handler(server.edge), door.handler()
        with reserved_port("127.0.0.1", 0) as port:
            listening = await _listen(Settings(port=port), handlers, Health(SERVICE), door.address)
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield World(server, channel)
            await listening.stop(None)


def request(method: str, **fields: Any) -> bytes:
    """A good request of a method but for ``fields``."""
    message = KINDS[method]()
    message.CopyFrom(good(method)[0])
    changed: Message = KINDS[method](**fields)
    for name in fields:
        message.ClearField(name)
    message.MergeFrom(changed)
    return message.SerializeToString()


def event(**fields: Any) -> list[pb.Event]:
    return [pb.Event(**{"item_id": "item-11", "event_type": "view", **fields})]


def text(field: int, data: bytes) -> bytes:
    """A length-prefixed field of fewer than 128 bytes."""
    return bytes((field << 3 | 2, len(data))) + data


BAD: dict[str, tuple[str, bytes, str]] = {
    **{
        f"k {limit}": ("Recommend", request("Recommend", limit=limit), "limit")
        for limit in (-1, 201, 10**9, 2**31 - 1, -(2**31))
    },
    "k -1 of similar items": ("SimilarItems", request("SimilarItems", limit=-1), "limit"),
    **{
        f"user of {why}": (method, request(method, user_id=user_id), "user_id")
        for method in ("Recommend", "RankItems")
        for why, user_id in {
            "nothing": "",
            "300 characters": MARKER * 43,
            "NUL": f"{MARKER}\0",
            "line break": f"{MARKER}\n",
            "a C1 control": f"\x85{MARKER}",
        }.items()
    },
    "item of 1 MB less": ("SimilarItems", request("SimilarItems", item_id=MARKER * 30_000), "item_id"),
    **{
        f"value {number}": ("Recommend", request("Recommend", recent_events=event(value=number)), "recent_events.value")
        for number in (NAN, INF, -INF)
    },
    **{
        f"price {number}": (
            "Recommend",
            request("Recommend", filters=pb.Filters(max_price=number)),
            "filters.max_price",
        )
        for number in (NAN, INF, -INF, -1)
    },
    **{
        f"time of {seconds} s and {nanos} ns": (
            "RankItems",
            request("RankItems", recent_events=event(time=Timestamp(seconds=seconds, nanos=nanos))),
            "recent_events.time",
        )
        for seconds, nanos in ((-1, 0), (253_402_300_800, 0), (2**63 - 1, 0), (-(2**63), 0), (0, -1), (0, 10**9))
    },
    "60,000 excluded": ("Recommend", request("Recommend", exclude_item_ids=["x"] * 60_000), "exclude_item_ids"),
    "the same item twice": ("RankItems", request("RankItems", item_ids=["x", "x"]), "item_ids"),
    "a map of 9,000": ("Recommend", request("Recommend", context={f"{i}": MARKER for i in range(9000)}), "context"),
    "5,000 attributes": (
        "SimilarItems",
        request(
            "SimilarItems",
            filters=pb.Filters(attributes={f"{i}": pb.AttributeValues(values=[MARKER]) for i in range(5000)}),
        ),
        "filters.attributes",
    ),
    "nothing at all for a user": ("Recommend", b"", "user_id"),
    "nothing at all for an item": ("SimilarItems", b"", "item_id"),
    "nothing at all to rank": ("RankItems", b"", "item_ids"),
    **{
        f"{why} for {method}": (method, data, f"not a terrace.v1.{method}Request message")
        for method in ALL
        for why, data in {
            "not UTF-8": text(1, b"\xff\xfe" + MARKER.encode()),
            "half a surrogate": text(1, b"\xed\xa0\x80"),
            "noise": b"\xff" * 300,
            "a length beyond the end": b"\x0a\x7fabc",
            "a number of 11 bytes": b"\x18" + b"\xff" * 10 + b"\x01",
            "field 0": b"\x02\x01a",
            "wire type 7": b"\x0f",
            "a group that never ends": b"\x9b\x06",
            "groups 5,000 deep": nested_groups(5000),
        }.items()
    },
    "messages 5,000 deep": ("Recommend", nested_messages(5000), "user_id"),
}


async def test_what_breaks_the_contract_is_refused_with_the_fields_name_and_not_its_value(world: World) -> None:
    for case, (method, data, names) in BAD.items():
        refused = await world.refusal(method, data)

        details = refused.details() or ""
        assert (refused.code(), details.partition(":")[0]) == (INVALID, names), case
        assert MARKER not in details, case


async def test_what_nobody_knows_is_passed_over(world: World) -> None:
    """Fields of a later version, of every wire type; a client may be newer than a server."""
    strangers = b"\x98\x06\x07" + b"\x99\x06" + b"\0" * 8 + b"\x9a\x06\x01a" + b"\x9d\x06\0\0\0\0" + nested_groups(50)

    for method in ALL:
        assert await world.ask(method, request(method) + strangers)


async def test_items_that_nobody_knows_are_no_error(world: World) -> None:
    data = request("Recommend", exclude_item_ids=["unheard-of"] * 1000, recent_events=event(item_id="unheard-of"))

    answer = pb.RecommendResponse.FromString(await world.ask("Recommend", data))

    assert answer.info.tier == pb.TIER_POPULARITY
    assert len(answer.items) == 20


async def test_a_message_beyond_the_limit_never_reaches_the_program(world: World) -> None:
    for method in ALL:
        for size in (MAX_MESSAGE_BYTES + 1, 5_000_000):
            assert (await world.refusal(method, b"\0" * size)).code() is TOO_MUCH

    assert world.server.calls == []


async def test_a_million_excluded_items_are_a_message_beyond_the_limit(world: World) -> None:
    refused = await world.refusal("Recommend", request("Recommend", exclude_item_ids=["item-00"] * 1_000_000))

    assert refused.code() is TOO_MUCH


async def test_metadata_beyond_the_limit_never_reach_the_program(world: World) -> None:
    for count in (1, 200):
        too_much = [(f"x-{i}", "v" * (20_000 // count)) for i in range(count)]
        assert (await world.refusal("Recommend", request("Recommend"), *too_much)).code() is TOO_MUCH

    assert world.server.calls == []


async def test_metadata_of_ours_that_make_no_sense_are_refused_by_name(world: World) -> None:
    for key in ("terrace-criticality", "terrace-exercise", "terrace-tier"):
        for value in ("", "USER ", MARKER, "0", "v" * 5000):
            refused = await world.refusal("Recommend", request("Recommend"), (key, value))

            details = refused.details() or ""
            assert (refused.code(), details.partition(":")[0]) == (INVALID, key), value
            assert MARKER not in details


async def test_a_trace_that_is_none_is_no_error(world: World) -> None:
    for value in ("", "00", f"00-{'f' * 32}-{'0' * 16}-ff", "00-" + "0" * 53, "-" * 3000):
        assert await world.ask("Recommend", request("Recommend"), ("traceparent", value)), value


async def test_a_method_that_is_none_is_unimplemented(world: World) -> None:
    assert (await world.refusal(MARKER, b"")).code() is grpc.StatusCode.UNIMPLEMENTED


async def test_bad_input_moves_neither_breakers_nor_limit_nor_costs_and_good_calls_are_answered(world: World) -> None:
    server = world.server
    costs = dict(server.admission.cost_s)
    for _ in range(5):
        for method, data, _ in BAD.values():
            await world.refusal(method, data)

    assert server.admission.cost_s == costs
    assert (server.admission.in_flight, server.admission.pressure) == (0, 0)
    assert server.work.free_jobs == 16
    assert {breaker.state for breaker in server.pipeline.breakers.values()} == {State.CLOSED}
    assert not any(sum(breaker.transitions.values()) for breaker in server.pipeline.breakers.values())
    assert {call.status for call in server.calls} == {"INVALID_ARGUMENT"}
    answer = pb.RecommendResponse.FromString(await world.ask("Recommend", request("Recommend")))
    assert answer.info.tier == pb.TIER_DEEP


async def test_bad_input_costs_no_more_than_a_good_call() -> None:
    """Side by side, so that whatever else the machine does slows both: the median of each case."""
    took_s: dict[str, list[float]] = {"good": [], **{case: [] for case in BAD}}
    async with running(SETTINGS) as server:
        client = InProcessClient(server, SETTINGS)
        for _ in range(15):
            for case, (method, data, _) in {"good": ("Recommend", request("Recommend"), ""), **BAD}.items():
                begun_s = time.perf_counter()
                await client.call(method, data)
                took_s[case].append(time.perf_counter() - begun_s)

    typical = {case: statistics.median(times) for case, times in took_s.items()}
    good_s = typical.pop("good")
    huge = {case for case, (_, data, _) in BAD.items() if len(data) > 50_000}
    assert statistics.median(typical.values()) < good_s / 2
    assert max(each for case, each in typical.items() if case not in huge) < good_s
    assert max(typical[case] for case in huge) < max(10 * good_s, 0.02)
