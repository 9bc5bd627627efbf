"""Whatever bytes arrive: an answer or a refusal that names a field, a process that lives, memory that does not grow."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import TYPE_CHECKING, Any

import grpc
import psutil
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadtests.processes import Child, memory_mb
from server.edge.servicer import SERVICE
from server.overload.breaker import State
from server.settings import Settings
from terrace.v1 import recommendation_pb2 as pb
from tests.faults.figures import note
from tests.faults.fuzzer import KINDS, MARKER, Fuzzer, good
from tests.faults.in_process import InProcessClient
from tests.server.running import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor import Descriptor

    from tests.faults.fuzzer import RawRequest

SETTINGS = Settings(default_deadline_ms=20_000, max_request_ms=20_000)
GROWTH_MB = 5.0
"""What memory may grow by after the first requests, however many follow."""
FIRST = 2_000
GOOD_EVERY = 50
AT_ONCE, CHANNELS = 48, 8
_RESPONSES: dict[str, Any] = {
    "Recommend": pb.RecommendResponse,
    "SimilarItems": pb.SimilarItemsResponse,
    "RankItems": pb.RankItemsResponse,
}


def fields(descriptor: Descriptor, prefix: str = "", depth: int = 4) -> Iterator[str]:
    """Names of the fields of a message and of those in it, as refusals write them."""
    for field in descriptor.fields:
        yield prefix + field.name
        inner = field.message_type
        if inner is not None and depth:
            if inner.GetOptions().map_entry:
                inner = inner.fields_by_name["value"].message_type
            if inner is not None:
                yield from fields(inner, f"{prefix}{field.name}.", depth - 1)


NAMES = {name: frozenset(fields(kind.DESCRIPTOR)) for name, kind in KINDS.items()}
_BOUND = re.compile(r"[ -~]{3,90}").fullmatch


def judge(method: str, code: grpc.StatusCode, refusal: str, data: bytes) -> None:
    """What may come of a request, whatever it was."""
    if code is grpc.StatusCode.OK:
        ids = [item.item_id for item in _RESPONSES[method].FromString(data).items]
        assert len(set(ids)) == len(ids) <= 500
        return
    assert code is grpc.StatusCode.INVALID_ARGUMENT, (code, refusal)
    name, colon, bound = refusal.partition(": ")
    assert refusal == f"not a terrace.v1.{method}Request message" or (
        colon and name in NAMES[method] and _BOUND(bound) and MARKER not in bound
    ), refusal


ANY_TEXT = st.text(max_size=300)
EVENTS = st.lists(
    st.builds(
        pb.Event,
        item_id=ANY_TEXT,
        event_type=st.sampled_from(["view", "purchase"]) | ANY_TEXT,
        value=st.floats(),
        time=st.none()
        | st.builds(Timestamp, seconds=st.integers(-(2**63), 2**63 - 1), nanos=st.integers(-(2**31), 2**31 - 1)),
    ),
    max_size=3,
)
CONTEXT = st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=3)
USER, SURFACE = st.sampled_from(["ada", "bob"]) | ANY_TEXT, st.sampled_from(["", "home"]) | ANY_TEXT
LIMIT = st.integers(0, 200) | st.integers(-(2**31), 2**31 - 1)
FILTERS = st.none() | st.builds(
    pb.Filters,
    categories=st.lists(ANY_TEXT, max_size=3),
    exclude_categories=st.lists(ANY_TEXT, max_size=3),
    min_price=st.none() | st.floats(),
    max_price=st.none() | st.floats(),
    include_unavailable=st.booleans(),
    attributes=st.dictionaries(ANY_TEXT, st.builds(pb.AttributeValues, values=st.lists(ANY_TEXT, max_size=3))),
)
IDS = st.lists(st.sampled_from(["item-11", "item-02"]) | ANY_TEXT, max_size=5)
MESSAGES = st.one_of(
    st.builds(
        pb.RecommendRequest,
        user_id=USER,
        surface=SURFACE,
        limit=LIMIT,
        filters=FILTERS,
        exclude_item_ids=IDS,
        recent_events=EVENTS,
        context=CONTEXT,
    ),
    st.builds(
        pb.SimilarItemsRequest, item_id=ANY_TEXT, surface=SURFACE, limit=LIMIT, filters=FILTERS, exclude_item_ids=IDS
    ),
    st.builds(pb.RankItemsRequest, user_id=USER, surface=SURFACE, item_ids=IDS, recent_events=EVENTS, context=CONTEXT),
)


def test_any_message_is_answered_or_refused_by_field() -> None:
    with asyncio.Runner() as runner:
        serving = running(SETTINGS)
        client = InProcessClient(runner.run(serving.__aenter__()), SETTINGS)

        @settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(message=MESSAGES)
        def holds(message: Any) -> None:
            method = type(message).__name__.removesuffix("Request")
            judge(method, *runner.run(client.call(method, message.SerializeToString())))

        holds()
        runner.run(serving.__aexit__(None, None, None))


async def without_grpc(count: int) -> None:
    """So many requests without gRPC in between."""
    process = psutil.Process()
    async with running(SETTINGS) as server:
        client, fuzzer = InProcessClient(server, SETTINGS), Fuzzer(1)
        before_mb, begun_s, codes = 0.0, time.monotonic(), dict.fromkeys(("OK", "INVALID_ARGUMENT"), 0)
        for number, (method, data) in enumerate(fuzzer.requests(FIRST + count)):
            if number == FIRST:
                before_mb = process.memory_info().rss / 1e6
            outcome = await client.call(method, data)
            judge(method, *outcome)
            codes[outcome.code.name] += 1
            server.calls.clear()
            server.pipeline.bundle.scorer.scored.clear()  # type: ignore[union-attr]
        found = {
            **codes,
            "grew_mb": process.memory_info().rss / 1e6 - before_mb,
            "per_s": (FIRST + count) / (time.monotonic() - begun_s),
        }
        note(f"{count} requests in process", found)
        assert min(codes.values()) > count / 10, found
        assert found["grew_mb"] < GROWTH_MB, found
        assert (server.admission.in_flight, server.work.free_jobs) == (0, 16)
        assert {breaker.state for breaker in server.pipeline.breakers.values()} == {State.CLOSED}


async def test_thousands_of_broken_requests_are_refused_and_leave_no_memory_behind() -> None:
    await without_grpc(6_000)


@pytest.mark.faults_long
async def test_nine_hundred_thousand_broken_requests_leave_no_memory_behind() -> None:
    await without_grpc(900_000)


@pytest.fixture
def server() -> Iterator[Child]:
    with Child("tests.faults.busy_server", json.dumps({"port": 0, "exercise_share": 0.0}), "0.2") as child:
        yield child


async def over_the_wire(server: Child, count: int) -> None:
    """So many requests to a process of its own, many at a time, with good ones between them."""
    address, pid = f"127.0.0.1:{json.loads(server.ready)['port']}", server.process.pid
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(CHANNELS)]
    wires = [{name: channel.unary_unary(f"/{SERVICE}/{name}") for name in KINDS} for channel in channels]
    ended = dict.fromkeys(("OK", "INVALID_ARGUMENT"), 0)

    async def asker(number: int, requests: Iterator[RawRequest]) -> None:
        wire = wires[number % CHANNELS]
        for turn, (method, data) in enumerate(requests):
            try:
                answer = await wire[method](data, timeout=5)
            except grpc.aio.AioRpcError as error:
                judge(method, error.code(), error.details() or "", b"")
                ended[error.code().name] += 1
            else:
                judge(method, grpc.StatusCode.OK, "", answer)
                ended["OK"] += 1
            if turn % GOOD_EVERY == 0:
                answer = await wire["Recommend"](good("Recommend")[0].SerializeToString(), timeout=5)
                assert len(pb.RecommendResponse.FromString(answer).items) == 20

    async def ask(requests: Iterator[RawRequest]) -> None:
        async with asyncio.TaskGroup() as askers:
            for number in range(AT_ONCE):
                askers.create_task(asker(number, requests))

    fuzzer = Fuzzer(2)
    await ask(fuzzer.requests(FIRST))
    before_mb, begun_s = memory_mb(pid)["VmRSS"], time.monotonic()
    await ask(fuzzer.requests(count))
    took_s = time.monotonic() - begun_s
    for channel in channels:
        await channel.close()
    stats = json.loads(server.ask("stats"))
    found = {**ended, "grew_mb": memory_mb(pid)["VmRSS"] - before_mb, "per_s": count / took_s}
    note(f"{count} requests over the wire", found)
    assert server.process.poll() is None, found
    assert set(stats["served"]) == {"OK", "INVALID_ARGUMENT"}, stats["served"]
    assert min(ended.values()) > count / 10, found
    assert found["grew_mb"] < GROWTH_MB, found
    assert (stats["in_flight"], stats["free_jobs"]) == (0, 64), stats
    assert {breaker["opened"] for breaker in stats["breakers"].values()} == {0}, stats


async def test_thousands_of_broken_requests_over_the_wire_harm_nobody(server: Child) -> None:
    await over_the_wire(server, 4_000)


@pytest.mark.faults_long
async def test_a_hundred_thousand_broken_requests_over_the_wire_harm_nobody(server: Child) -> None:
    await over_the_wire(server, 100_000)
