from __future__ import annotations

import asyncio
import json
import uuid
from typing import TYPE_CHECKING

import pytest

from server.store.user_store import RedisUserStore
from tests.faults.chaos import ROOT, Callers, ChaosServer
from tests.faults.chaos_model import write_model, write_tower
from tests.faults.chaos_world import USERS, events, world
from tests.faults.fault_proxy import HEALTHY, ProxyThread
from tests.faults.invariants import check
from tests.faults.machine import INVALID, Machine, MachineTooBusyError, watched_machine
from tests.faults.run_length import LONG, SHORT, RunLength
from tests.server import toy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator
    from pathlib import Path

KEPT = ROOT / "build" / "faults"
"""Where histories of failed tests are, what servers wrote on standard error, and figures of every run."""


_FAILED = pytest.StashKey[set[bool]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember of each failure whether the machine had time."""
    report = yield
    if report.failed and call.excinfo is not None:
        item.session.stash.setdefault(_FAILED, set()).add(call.excinfo.errisinstance(MachineTooBusyError))
    return report


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Tell failures from runs that say nothing."""
    if exitstatus == pytest.ExitCode.TESTS_FAILED and session.stash.get(_FAILED, set()) == {True}:
        session.exitstatus = INVALID


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Function) -> Generator[None, None, None]:
    """A test that fails says first whether the machine had time."""
    with item.funcargs["machine"].judging():
        return (yield)


@pytest.fixture(scope="session")
def idle_process() -> Iterator[Machine]:
    """One for all tests."""
    with watched_machine() as machine:
        yield machine


@pytest.fixture(autouse=True)
def machine(idle_process: Machine) -> Machine:
    """Measured from the beginning of every test."""
    idle_process.start()
    return idle_process


@pytest.fixture(scope="session")
def chaos_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models that misbehave on command."""
    folder = tmp_path_factory.mktemp("chaos")
    write_model(folder / "ranker.onnx", toy.WIDTH)
    write_tower(folder / "user_tower.onnx", toy.WIDTH)
    write_tower(folder / "endless_tower.onnx", toy.WIDTH, rounds=10**12)
    return folder


@pytest.fixture(scope="session")
def chaos_namespace(valkey: str) -> str:
    """Where in the store the users of ``chaos_world`` are."""
    name = uuid.uuid4().hex
    asyncio.run(_store_users(valkey, name))
    return name


async def _store_users(url: str, namespace: str) -> None:
    store = RedisUserStore(url, namespace, ("purchase",))
    await store.load({user: events(user) for user in USERS})
    await store.close()


@pytest.fixture(scope="module")
def redis_proxy(valkey: str) -> Iterator[ProxyThread]:
    """Between the chaos server and the store."""
    with ProxyThread(valkey.removeprefix("unix://")) as thread:
        yield thread


@pytest.fixture(scope="module")
def chaos_server(
    request: pytest.FixtureRequest, chaos_folder: Path, chaos_namespace: str, redis_proxy: ProxyThread
) -> Iterator[ChaosServer]:
    """One server for the tests of a file; ``server`` is it as good as new."""
    KEPT.mkdir(parents=True, exist_ok=True)
    log = KEPT / f"{request.path.stem}.log"
    url = f"redis://127.0.0.1:{redis_proxy.port}"
    with ChaosServer(chaos_folder, log, store_url=url, namespace=chaos_namespace) as server:
        yield server


@pytest.fixture
def server(chaos_server: ChaosServer, redis_proxy: ProxyThread) -> ChaosServer:
    """A server of which nothing is broken."""
    redis_proxy.mode = HEALTHY
    chaos_server.command("reset")
    return chaos_server


@pytest.fixture(params=[pytest.param(SHORT, id="short"), pytest.param(LONG, id="long", marks=pytest.mark.faults_long)])
def length(request: pytest.FixtureRequest) -> RunLength:
    """Every test of a fault is run in both lengths."""
    length: RunLength = request.param
    return length


@pytest.fixture
async def callers(server: ChaosServer, machine: Machine, request: pytest.FixtureRequest) -> AsyncIterator[Callers]:
    """Callers of ``server``; when the test is over, every invariant is held against what they got."""
    failed = request.session.testsfailed
    async with Callers(server.address, world()) as callers:
        yield callers
        await callers.settle()
        callers.history.served = server.stats()["served"]
        try:
            with machine.judging():
                assert server.alive
                check(callers.history)
        except AssertionError:
            failed = -1
            raise
        finally:
            if request.session.testsfailed != failed:
                callers.history.save(KEPT / f"{request.node.name}.jsonl")


@pytest.fixture
def figures(request: pytest.FixtureRequest, machine: Machine) -> Iterator[dict[str, object]]:
    """What a test measured, kept as a JSON line, and how busy the machine was."""
    found: dict[str, object] = {}
    yield found
    found["idle_late_share"], found["idle_late_ms"] = machine.late()
    with (KEPT / "figures.jsonl").open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({"test": request.node.name, **found}) + "\n")
