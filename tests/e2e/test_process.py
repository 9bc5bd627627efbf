"""One serving process from start to end, as a deployment sees it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from server.app import EXIT_BUNDLE, MAX_MESSAGE_BYTES, run
from server.edge.servicer import SERVICE
from server.settings import Settings
from server.store.user_store import RedisUserStore
from terrace.client import AsyncClient, Client, Event, Tier
from tests.server import toy
from tests.server.bundle_folder import write_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from terrace.client import Answer

ROOT = Path(__file__).parents[2]
VIEW = Event("item-11", "view")
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Process:
    """A toy server that a test steers through pipes; see ``toy_server``."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        for name in ("load", "held", "go"):
            os.mkfifo(folder / name)
        self.target = f"127.0.0.1:{free_port()}"
        self.child = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.e2e.toy_server",
                str(folder),
                self.target.split(":")[1],
                json.dumps(settings),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.line() == "loading"

    def line(self) -> str:
        assert self.child.stdout is not None
        return self.child.stdout.readline().strip()

    def load(self) -> None:
        (self.folder / "load").write_bytes(b"now")
        assert self.line() == self.target.split(":")[1]

    def health(self, service: str = "", channel: grpc.Channel | None = None) -> int:
        """The status of a service, over a connection of its own or over one that is open."""
        with contextlib.ExitStack() as stack:
            stub = health_pb2_grpc.HealthStub(channel or stack.enter_context(grpc.insecure_channel(self.target)))
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=20, wait_for_ready=True)
        status: int = answer.status
        return status

    async def hold(self, client: AsyncClient) -> asyncio.Task[Answer]:
        """A call that the model has begun and keeps until ``go`` is written; calls that were lowered are made again."""
        (self.folder / "hold").touch()
        held = asyncio.create_task(asyncio.to_thread((self.folder / "held").read_bytes))
        while True:
            call = asyncio.create_task(client.recommend("ada", recent_events=[VIEW], timeout_ms=20_000))
            await asyncio.wait((held, call), return_when=asyncio.FIRST_COMPLETED)
            if not call.done():
                return call
            assert call.result().tier < Tier.DEEP

    def end(self) -> None:
        if self.child.poll() is None:
            self.child.kill()
        self.child.communicate()


@pytest.fixture
def process(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Process]:
    """A process that loads; with the settings that a test is parametrized with."""
    started = Process(tmp_path, **getattr(request, "param", {}))
    yield started
    started.end()


def test_nothing_listens_until_the_bundle_is_loaded_and_warm(process: Process) -> None:
    with Client(process.target) as client, pytest.raises(grpc.RpcError) as refused:
        client.recommend("ada", timeout_ms=20_000)
    process.load()
    after = [process.health(), process.health(SERVICE)]
    with Client(process.target) as client:
        answer = client.recommend("ada", timeout_ms=20_000)

    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert after == [SERVING] * 2
    assert len(answer.items) == 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_call_in_flight_is_answered_when_the_process_is_asked_to_end(
    process: Process, number: signal.Signals
) -> None:
    await asyncio.to_thread(process.load)
    async with AsyncClient(process.target) as client:
        call = await process.hold(client)
        process.child.send_signal(number)
        async with grpc.aio.insecure_channel(process.target) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=20)
            seen = []
            try:
                async for answer in watch:
                    seen.append(answer.status)
                    if answer.status == NOT_SERVING:
                        break
            except grpc.aio.AioRpcError:  # the port is closed already
                seen.append(NOT_SERVING)
        (process.folder / "go").write_bytes(b"go")
        answered = await call
    code = await asyncio.to_thread(process.child.wait, 20)

    assert seen[-1] == NOT_SERVING
    assert answered.tier is Tier.DEEP
    assert code == 0


def test_a_process_that_is_asked_to_end_while_it_loads_ends_at_once(process: Process) -> None:
    """The load goes on for ever: nothing is ever written into its pipe."""
    process.child.send_signal(signal.SIGTERM)

    assert process.child.wait(20) == 0


def test_a_process_that_is_asked_to_end_while_it_is_still_being_imported_ends_with_0(tmp_path: Path) -> None:
    """Python's lines about imports say when."""
    command = ["serve", "--bundle", str(write_bundle(tmp_path / "v1")), "--store-url", "unix:///nowhere", "--port", "0"]
    with subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "terrace.cli", *command], stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stderr is not None
        assert any(line.split("|")[-1].strip() == "prometheus_client" for line in child.stderr)
        child.terminate()
        try:
            child.communicate(timeout=20)
        finally:
            child.kill()

    assert child.returncode == 0


def test_a_process_that_is_asked_to_end_while_it_loads_in_native_code_does_not_crash(tmp_path: Path) -> None:
    (tmp_path / "native").touch()
    process = Process(tmp_path)
    process.child.send_signal(signal.SIGTERM)
    try:
        assert process.child.wait(20) == 0
    finally:
        process.end()


@pytest.mark.parametrize("process", [{"score_timeout_ms": 60_000}], indirect=True)
def test_a_process_that_is_asked_to_end_while_it_warms_up_ends_at_once(process: Process) -> None:
    (process.folder / "hold").touch()
    (process.folder / "load").write_bytes(b"now")
    (process.folder / "held").read_bytes()  # the model computes, and is never let go
    process.child.send_signal(signal.SIGTERM)

    assert process.child.wait(20) == 0


@pytest.mark.parametrize("process", [{"lame_duck_s": 3600}], indirect=True)
def test_a_process_that_is_asked_to_end_answers_on_until_it_is_asked_again(process: Process) -> None:
    """Who looks at its health can turn elsewhere before anything is refused."""
    process.load()
    process.child.send_signal(signal.SIGTERM)
    with grpc.insecure_channel(process.target) as channel:
        seen = [process.health("", channel)]
        while seen[-1] == SERVING:
            seen.append(process.health("", channel))
        names = (SERVICE, f"{SERVICE}/POPULARITY", f"{SERVICE}/DEEP")
        assert [process.health(name, channel) for name in names] == [NOT_SERVING] * 3
    with Client(process.target) as client:  # also over a connection that is made now
        answer = client.recommend("ada", recent_events=[VIEW], timeout_ms=20_000)
    assert process.child.poll() is None
    process.child.send_signal(signal.SIGINT)

    assert answer.tier is Tier.DEEP
    assert process.child.wait(20) == 0


@pytest.mark.parametrize("process", [{"lame_duck_s": 0.05}], indirect=True)
def test_the_time_of_answering_on_ends_by_itself(process: Process) -> None:
    process.load()
    process.child.send_signal(signal.SIGTERM)

    assert process.child.wait(20) == 0


def test_health_has_a_service_for_each_rung(process: Process) -> None:
    process.load()
    rungs = ("POPULARITY", "CF", "PRECOMPUTED", "DEEP")

    assert [process.health(f"{SERVICE}/{rung}") for rung in rungs] == [SERVING, SERVING, NOT_SERVING, SERVING]


def test_a_second_process_on_the_port_fails_and_says_so(
    process: Process, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    process.load()
    other = tmp_path / "other"
    other.mkdir()

    code = run(Settings(port=int(process.target.split(":")[1])), other)

    assert code == EXIT_BUNDLE
    assert f"cannot listen on 127.0.0.1:{process.target.split(':')[1]}" in capfd.readouterr().err
    with Client(process.target) as client:
        assert len(client.recommend("ada", timeout_ms=20_000).items) == 20


def test_a_missing_bundle_is_one_line_on_standard_error_and_exit_code_2(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = run(Settings(port=0), tmp_path / "nowhere")

    error = capfd.readouterr().err
    assert code == EXIT_BUNDLE
    assert error.startswith("error: ")
    assert "no such bundle folder" in error
    assert error.count("\n") == 1


def test_messages_above_the_bound_are_refused_and_the_process_goes_on(process: Process) -> None:
    process.load()
    with grpc.insecure_channel(process.target) as channel:
        call = channel.unary_unary("/terrace.v1.RecommendationService/Recommend")
        with pytest.raises(grpc.RpcError) as refused:
            call(b"x" * (MAX_MESSAGE_BYTES + 1), timeout=20)
    with Client(process.target) as client:
        answer = client.recommend("ada", timeout_ms=20_000)

    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(answer.items) == 20


async def test_what_the_store_knows_changes_the_answer_and_a_dead_store_costs_nothing_but_that(
    tmp_path: Path, valkey: str
) -> None:
    store = RedisUserStore(valkey, "default", ("purchase",))
    await store.load({"ada": toy.HISTORY})
    await store.close()
    live = tmp_path / "live"
    live.mkdir()
    dead = tmp_path / "dead"
    dead.mkdir()
    answers = []
    for folder, url in ((live, valkey), (dead, "redis://127.0.0.1:1")):
        process = await asyncio.to_thread(Process, folder, store_url=url)
        try:
            await asyncio.to_thread(process.load)
            async with AsyncClient(process.target) as client:
                answers.append(await client.recommend("ada", limit=7, timeout_ms=20_000))
        finally:
            await asyncio.to_thread(process.end)
    known, unknown = answers

    assert known.tier is Tier.DEEP
    assert (unknown.tier, unknown.skipped[Tier.DEEP]) == (Tier.POPULARITY, "store_failed")
    assert unknown.dropped_sources == {"user_store": "store_failed"}
    assert len(known.items) == len(unknown.items) == 7
