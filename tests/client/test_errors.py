"""What calls raise that get no answer, from a real server of the toy bundle and from ports without one."""

from __future__ import annotations

import asyncio
import pickle
import traceback
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from terrace.client import (
    AsyncClient,
    Client,
    DeadlineExceededError,
    InternalError,
    InvalidRequestError,
    OverloadedError,
    TerraceError,
    UnavailableError,
)
from terrace.v1 import recommendation_pb2_grpc as pb_grpc
from tests.server import toy
from tests.server.running import Running, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

METHODS = ("recommend", "similar_items", "rank_items")
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "recommend": ("ada",),
    "similar_items": ("item-11",),
    "rank_items": ("ada", ["item-11"]),
}


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    async with running() as server:
        yield server


@pytest.fixture(params=["blocking", "asyncio"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def raised(kind: str, target: str, method: str = "recommend", *values: Any, **asked: Any) -> TerraceError:
    """The error of a call by one of the two clients."""
    values = values or ARGUMENTS[method]
    asked = {"timeout_ms": 20_000, **asked}

    def blocking() -> None:
        with Client(target) as client:
            getattr(client, method)(*values, **asked)

    async def with_asyncio() -> None:
        async with AsyncClient(target) as client:
            await getattr(client, method)(*values, **asked)

    with pytest.raises(TerraceError) as error:
        await (asyncio.to_thread(blocking) if kind == "blocking" else with_asyncio())
    return error.value


async def test_a_request_out_of_bounds_names_the_field(server: Running, kind: str) -> None:
    error = await raised(kind, server.address, "recommend", "ada", limit=1000)

    assert type(error) is InvalidRequestError
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "limit: 1 to 200, or 0 for 20"
    assert str(error) == f"INVALID_ARGUMENT: {error.details()}. Correct the request: it will be refused again"


async def test_a_call_that_is_shed_keeps_the_metadata_that_says_so(server: Running, kind: str) -> None:
    server.admission.admit = lambda *_: None  # type: ignore[method-assign]  # no room for anybody
    error = await raised(kind, server.address, criticality="batch")

    assert type(error) is OverloadedError
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert ("grpc-retry-pushback-ms", "-1") in error.trailing_metadata()
    assert "Do not retry" in str(error)


@pytest.mark.parametrize("method", METHODS)
async def test_a_fault_of_the_server_names_the_recommendation_in_its_log(
    server: Running, kind: str, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.pipeline._now_s = toy.fail
    error = await raised(kind, server.address, method)

    assert type(error) is InternalError
    assert error.code() is grpc.StatusCode.INTERNAL
    assert error.details().split()[-1] in caplog.text


async def test_a_server_without_a_bundle_is_unavailable(server: Running, kind: str) -> None:
    server.edge.versions = None
    error = await raised(kind, server.address)

    assert type(error) is UnavailableError
    assert error.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("method", METHODS)
async def test_where_nobody_listens_the_error_names_the_address(kind: str, method: str) -> None:
    async with running() as server:
        target = server.address
    error = await raised(kind, target, method)

    assert type(error) is UnavailableError
    assert target in error.details()
    assert "does a server listen there" in str(error)


@pytest.mark.parametrize("method", METHODS)
async def test_a_server_that_does_not_answer_in_time_is_a_deadline_exceeded(kind: str, method: str) -> None:
    async def never(*_: Any) -> None:
        await asyncio.Event().wait()

    servicer = pb_grpc.RecommendationServiceServicer()
    servicer.Recommend = servicer.SimilarItems = servicer.RankItems = never
    server = grpc.aio.server()
    pb_grpc.add_RecommendationServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    error = await raised(kind, f"127.0.0.1:{port}", method, timeout_ms=50)
    await server.stop(None)

    assert type(error) is DeadlineExceededError
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "longer timeout_ms" in str(error)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (grpc.StatusCode.UNIMPLEMENTED, TerraceError),
        (grpc.StatusCode.PERMISSION_DENIED, TerraceError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, InvalidRequestError),
    ],
    ids=str,
)
async def test_a_status_of_another_server_on_the_way_is_kept(
    kind: str, status: grpc.StatusCode, expected: type[TerraceError]
) -> None:
    """Without the server's word that it sheds load, RESOURCE_EXHAUSTED is gRPC's for a message that is too large."""

    async def refuse(_: Any, context: Any) -> None:
        await context.abort(status, "not here", (("why", "proxy"), ("raw-bin", b"\xff")))

    servicer = pb_grpc.RecommendationServiceServicer()
    servicer.Recommend = refuse
    server = grpc.aio.server()
    pb_grpc.add_RecommendationServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    error = await raised(kind, f"127.0.0.1:{port}")
    await server.stop(None)

    assert type(error) is expected
    assert (error.code(), error.details()) == (status, "not here")
    assert error.trailing_metadata() == (("why", "proxy"), ("raw-bin", b"\xff"))


async def test_an_error_is_one_of_grpcs_and_shows_none_of_its_private_classes(server: Running, kind: str) -> None:
    error = await raised(kind, server.address, "recommend", "")

    assert isinstance(error, grpc.RpcError)
    shown = "".join(traceback.format_exception(error))
    assert "_InactiveRpcError" not in shown
    assert "AioRpcError" not in shown


async def test_an_error_goes_to_another_process_whole(server: Running, kind: str) -> None:
    error = await raised(kind, server.address, "recommend", "")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes

    assert type(again) is type(error)
    assert (again.code(), again.details(), str(again)) == (error.code(), error.details(), str(error))
    assert again.trailing_metadata() == error.trailing_metadata()
