"""`terrace release` and its gRPC service, as operators and programs use them."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from core.manifest import MANIFEST_NAME
from core.precompute_record import Shard, ShardRecord, Task
from server.release.release_store import ReleaseStore
from server.store.batch_store import BatchStore
from server.store.embedded import EmbeddedStore
from terrace.v1 import release_pb2 as pb
from terrace.v1.release_pb2_grpc import ReleaseServiceStub
from tests.e2e.commands import terrace
from tests.server.release.conftest import PATIENT_S
from tests.server.release.replicas import replica

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from server.release.replica_report import ReplicaReport


class Operator:
    """Somebody at a terminal, and the replicas of the namespace, which go on reporting."""

    def __init__(self, url: str) -> None:
        self.url, self.namespace = url, uuid.uuid4().hex
        self._replicas: dict[str, ReplicaReport] = {}
        self._over, self._sent = threading.Event(), threading.Event()
        self._reporting = threading.Thread(target=lambda: asyncio.run(self._report()))
        self._reporting.start()

    def __call__(self, *arguments: str, by: str = "ada", expect: int = 0) -> subprocess.CompletedProcess[str]:
        options = ["--store-url", self.url, "--namespace", self.namespace]
        options += [] if arguments[0] in {"status", "serve"} else ["--by", by]
        return terrace("release", *arguments, *options, expect=expect)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("status", "--json").stdout)
        return found

    def report(self, *reports: ReplicaReport) -> None:
        """What replicas report from now on."""
        self._replicas |= {each.replica_id: each for each in reports}
        for _ in range(2):  # the first of these may have begun before
            self._sent.clear()
            assert self._sent.wait(PATIENT_S)

    def close(self) -> None:
        self._over.set()
        self._reporting.join()

    async def _report(self) -> None:
        store = ReleaseStore(self.url, self.namespace, timeout_s=PATIENT_S)
        while not self._over.wait(0.05):
            for each in list(self._replicas.values()):
                await store.report(each)
            self._sent.set()
        await store.close()


@pytest.fixture
def release(valkey: str) -> Iterator[Operator]:
    operator = Operator(valkey)
    yield operator
    operator.close()


def test_from_the_first_version_to_a_promotion_and_back(release: Operator) -> None:
    assert "revision 1: v1 is live, the first one" in release("stage", "v1").stdout
    assert "v2 staged in green at 0 %" in release("stage", "v2").stdout
    waits = release("promote", expect=2).stderr
    assert "no replica reports" in waits
    release.report(replica("web-1", "v1", "v2"), replica("web-2", "v1", "v2"))
    assert "v2 at 5 %" in release("share", "0.05").stdout
    shown = release("status").stdout
    assert "2 of 2 ready" in shown
    assert "candidate, 5 % of the users" in shown
    assert "by ada at 20" in shown
    assert "v2 promoted, v1 before" in release("promote", by="bob").stdout
    assert release.status()["release"]["changed_by"] == "bob"
    assert "v2 rolled back to v1" in release("rollback", "--reason", "fewer clicks").stdout
    found = release.status()["release"]
    assert (found["slots"][found["live"]], found["revision"]) == ("v1", 5)
    assert found["note"] == "v2 rolled back to v1: fewer clicks"


def test_where_lists_are_precomputed_a_version_without_them_is_promoted_by_force_alone(release: Operator) -> None:
    async def precomputed() -> None:
        store = BatchStore.open(release.url, release.namespace, "v1")
        await store.swap_record("", ShardRecord(Task("v1", "", 60, Shard(), "all", 100, 3600.0), "run", 1, 0.0, 0.0))
        await store.close()

    asyncio.run(precomputed())
    for version in ("v1", "v2"):
        release("stage", version)
    release.report(replica("web-1", "v1", "v2"))

    refused = release("promote", expect=2).stderr

    assert "v2 cannot be promoted yet: nothing was precomputed for v2" in refused
    assert "v2 promoted, v1 before" in release("promote", "--force").stdout


def test_a_frozen_version_is_shown_with_its_reason_and_refused_until_it_is_released(release: Operator) -> None:
    release("stage", "v1")
    release("freeze", "v2", "--reason", "p99 [doubled]")

    assert "p99 [doubled]" in release("status").stdout
    assert "v2 is frozen: p99 [doubled]" in release("stage", "v2", expect=2).stderr
    assert "(forced)" in release("stage", "v2", "--force").stdout
    release("unfreeze", "v2")
    assert release.status()["release"]["frozen"] == {}


def test_status_says_which_replicas_are_not_ready_and_why(release: Operator) -> None:
    release("stage", "v1")
    release("stage", "v2")
    release.report(replica("web-1", "v1", "v2"), replica("web-2", "v1", rejected={"v2": "items.npy: changed"}))
    shown = release("status").stdout

    assert "1 of 2 ready" in shown
    assert "web-2: v2 was refused: items.npy: changed" in shown
    assert (release.status()["ready"], set(release.status()["not_ready"])) == (1, {"web-2"})


def test_the_second_of_two_operators_is_told(release: Operator) -> None:
    release("stage", "v1", "--if-revision", "0")
    release("stage", "v2", "--if-revision", "1", by="bob")
    told = release("stage", "v3", "--if-revision", "1", expect=2).stderr

    assert "revision 2 is there already, by bob at " in told
    assert "v2 staged in green" in told
    assert "repeat the command" in told


def test_a_version_that_is_in_no_folder_is_not_staged(release: Operator, tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / MANIFEST_NAME).touch()
    release("stage", "v1", "--bundles", str(tmp_path))

    assert "no bundle of version v7; the newest there are: v1" in (
        release("stage", "v7", "--bundles", str(tmp_path), expect=2).stderr
    )
    assert "no such folder of bundles" in release("stage", "v7", "--bundles", str(tmp_path / "x"), expect=2).stderr
    assert release.status()["release"]["revision"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("promote",), "there is no release in namespace"),
        (("share", "0.5"), "there is no release in namespace"),
        (("share", "7"), "between 0 and 1"),
        (("share", "nan"), "between 0 and 1"),
        (("stage", "../v1"), "is no version"),
        (("freeze", "v1", "--reason", " "), "a reason has 1 to 500 characters"),
    ],
)
def test_what_an_operator_can_mend_is_one_message(release: Operator, arguments: tuple[str, ...], said: str) -> None:
    done = release(*arguments, expect=2)

    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_store_that_is_away_is_one_message_and_its_exit_code() -> None:
    done = terrace("release", "status", "--store-url", "redis://:hunter2@127.0.0.1:1", expect=3)

    assert "cannot be reached" in done.stderr
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr


def test_an_embedded_store_that_a_server_uses_is_named_by_its_url(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path) as running:
        refused = terrace("release", "status", "--data", str(tmp_path), expect=2)
        shown = terrace("release", "status", "--store-url", running.url)

    assert running.url in refused.stderr
    assert "No release in namespace default" in shown.stdout


def test_watching_goes_on_until_ctrl_c(release: Operator) -> None:
    command = [sys.executable, "-m", "terrace.cli", "release", "status", "--json", "--watch"]
    command += ["--store-url", release.url, "--namespace", release.namespace]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        before = json.loads(watching.stdout.readline())
        release("stage", "v1")
        while (after := json.loads(watching.stdout.readline()))["release"] is None:
            pass
        watching.send_signal(signal.SIGINT)
        watching.stdout.read()
        code = watching.wait(PATIENT_S)

    assert before["release"] is None
    assert after["release"]["slots"]["blue"] == "v1"
    assert code == 0


class Service:
    """`terrace release serve` on a port of its own."""

    def __init__(self, process: subprocess.Popen[str], channel: grpc.Channel, address: str) -> None:
        self.process, self.channel, self.address = process, channel, address
        self.stub = ReleaseServiceStub(channel)  # type: ignore[no-untyped-call]

    def __call__(self, method: str, request: Any, timeout: float = PATIENT_S) -> Any:
        return getattr(self.stub, method)(request, timeout=timeout)

    def refused(self, method: str, request: Any, timeout: float = PATIENT_S) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as error:
            self(method, request, timeout)
        return error.value.code(), error.value.details()


@contextmanager
def serving(url: str, namespace: str, *options: str) -> Iterator[Service]:
    command = [sys.executable, "-m", "terrace.cli", "release", "serve", "--port", "0", "--store-url", url]
    command += ["--namespace", namespace, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline().strip()
            address = said.rpartition(" ")[2]
            with grpc.insecure_channel(address) as channel:
                yield Service(process, channel, address)
        finally:
            process.kill()


@pytest.fixture
def service(release: Operator, tmp_path: Path) -> Iterator[Service]:
    for version in ("v1", "v2", "v3"):
        (tmp_path / version).mkdir()
        (tmp_path / version / MANIFEST_NAME).touch()
    with serving(release.url, release.namespace, "--bundles", str(tmp_path)) as service:
        yield service


def test_a_program_does_all_that_an_operator_does(release: Operator, service: Service) -> None:
    by = pb.ChangeOptions(by="deploy-bot")
    first = service("Stage", pb.StageRequest(version="v1", options=by)).release
    second = service("Stage", pb.StageRequest(version="v2", options=by)).release
    release.report(replica("web-1", "v1", "v2"))
    status = service("GetStatus", pb.GetStatusRequest())
    shared = service("SetShare", pb.SetShareRequest(share=0.25, options=by)).release
    promoted = service("Promote", pb.PromoteRequest()).release
    back = service("Rollback", pb.RollbackRequest(reason="slow", options=by)).release
    frozen = service("Freeze", pb.FreezeRequest(version="v2", reason="slow", options=by)).release
    thawed = service("Unfreeze", pb.UnfreezeRequest(version="v2", options=by)).release

    assert (first.blue_version, first.green_version, first.live, first.changed_by) == (
        "v1", "", pb.SLOT_BLUE, "deploy-bot",
    )  # fmt: skip
    assert (second.green_version, second.changed_at.seconds > 0) == ("v2", True)
    assert (status.ready_replicas, [each.replica_id for each in status.replicas]) == (1, ["web-1"])
    assert (list(status.replicas[0].loaded), status.replicas[0].not_ready) == (["v1", "v2"], "")
    assert shared.candidate_share == 0.25
    assert (promoted.live, promoted.previous_version) == (pb.SLOT_GREEN, "v1")
    assert promoted.changed_by.startswith("ipv4:127.0.0.1")
    assert (back.live, back.note) == (pb.SLOT_BLUE, "v2 rolled back to v1: slow")
    assert (dict(frozen.frozen), dict(thawed.frozen)) == ({"v2": "slow"}, {})
    assert [each.revision for each in (first, second, shared, promoted, back, frozen, thawed)] == list(range(1, 8))


def test_a_program_is_refused_with_the_status_of_the_reason_and_the_text_of_the_command_line(
    release: Operator, service: Service
) -> None:
    stale = pb.ChangeOptions(expected_revision=7)
    service("Stage", pb.StageRequest(version="v1"))

    assert service.refused("Promote", pb.PromoteRequest()) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "no version is staged; stage one with `terrace release stage VERSION`",
    )
    assert "no version is staged; stage one" in release("promote", expect=2).stderr
    for method, request, code, said in (
        ("Stage", pb.StageRequest(version="v9"), grpc.StatusCode.NOT_FOUND, "no bundle of version v9"),
        ("Stage", pb.StageRequest(), grpc.StatusCode.INVALID_ARGUMENT, "'' is no version"),
        ("Stage", pb.StageRequest(version="v2", share=2), grpc.StatusCode.INVALID_ARGUMENT, "between 0 and 1"),
        ("Freeze", pb.FreezeRequest(version="v2"), grpc.StatusCode.INVALID_ARGUMENT, "a reason has 1 to 500"),
        ("Freeze", pb.FreezeRequest(options={"by": "\n"}), grpc.StatusCode.INVALID_ARGUMENT, "who makes a change"),
        ("Promote", pb.PromoteRequest(options=stale), grpc.StatusCode.ABORTED, "revision 1 is there already, by ipv4"),
        ("Rollback", pb.RollbackRequest(), grpc.StatusCode.FAILED_PRECONDITION, "nothing to roll back"),
    ):
        refused = service.refused(method, request)
        assert refused[0] is code
        assert said in refused[1]


def test_a_share_waits_for_replicas_inside_the_callers_deadline(release: Operator, service: Service) -> None:
    service("Stage", pb.StageRequest(version="v1"))
    release.report(replica("web-1", "v1"))
    with pytest.raises(grpc.RpcError) as error:
        service("Stage", pb.StageRequest(version="v2", share=0.1), timeout=5.0)

    assert error.value.code() in {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.DEADLINE_EXCEEDED}
    found = release.status()["release"]
    assert (found["slots"]["green"], found["candidate_share"]) == ("v2", 0.0)
    release.report(replica("web-1", "v1", "v2"))
    assert service("Stage", pb.StageRequest(version="v2", share=0.1)).release.candidate_share == 0.1


def test_malformed_bytes_are_the_callers_error(service: Service) -> None:
    call = service.channel.unary_unary("/terrace.v1.ReleaseService/Stage")
    with pytest.raises(grpc.RpcError) as error:
        call(b"\xff\xff\xff", timeout=PATIENT_S)

    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details() == "not a terrace.v1.StageRequest message"


def test_a_store_that_is_away_is_unavailable_and_health_stays() -> None:
    with serving("redis://:hunter2@127.0.0.1:1", "ns") as service:
        code, text = service.refused("GetStatus", pb.GetStatusRequest())
        health = health_pb2_grpc.HealthStub(service.channel)
        status = health.Check(health_pb2.HealthCheckRequest(service="terrace.v1.ReleaseService"), timeout=PATIENT_S)

    assert code is grpc.StatusCode.UNAVAILABLE
    assert "cannot be reached" in text
    assert "hunter2" not in text
    assert status.status == health_pb2.HealthCheckResponse.SERVING


def test_the_service_ends_cleanly_on_sigterm(service: Service) -> None:
    service("GetStatus", pb.GetStatusRequest())
    service.process.send_signal(signal.SIGTERM)
    _, errors = service.process.communicate(timeout=PATIENT_S)

    assert service.process.returncode == 0
    assert "Traceback" not in errors


def test_a_port_that_is_taken_is_one_message(release: Operator, service: Service) -> None:
    done = release("serve", "--port", service.address.rpartition(":")[2], expect=2)

    assert "Choose another port" in done.stderr
