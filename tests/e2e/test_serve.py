"""``terrace serve``: a supervisor, its loader process, its workers; real processes and real signals."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from server.edge.servicer import SERVICE
from terrace.client import Client, Event, Tier
from tests.e2e.commands import terrace
from tests.e2e.served import callers, free_port, runs, serving, until
from tests.server.bundle_folder import flip, seal, write_broken_model, write_bundle

if TYPE_CHECKING:
    from pathlib import Path

VIEW = Event("item-11", "view")
POPULARITY_FILE = "generators/popularity/score.npy"
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def samples(text: str, name: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(name)]


def test_a_folder_with_a_damaged_newest_bundle_is_served_from_an_older_one_and_metrics_say_so(tmp_path: Path) -> None:
    bundles = tmp_path / "bundles"
    write_broken_model(bundles / "v1", version="v1")
    flip(write_bundle(bundles / "v2", version="v2") / POPULARITY_FILE)
    with serving("--bundles", str(bundles), log=tmp_path / "log") as served:
        metrics = served.metrics()
        with grpc.insecure_channel(served.target) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            rungs = [
                stub.Check(health_pb2.HealthCheckRequest(service=f"{SERVICE}/{rung}"), timeout=20).status
                for rung in ("CF", "DEEP")
            ]
        with Client(served.target) as client:
            answer = client.recommend("ada", recent_events=[VIEW], timeout_ms=20_000)

    assert served.line.startswith("serving v1 on ")
    assert rungs == [SERVING, NOT_SERVING]
    assert (answer.bundle_version, answer.tier, answer.skipped[Tier.DEEP]) == ("v1", Tier.CF, "disabled")
    assert samples(metrics, "terrace_bundle") == [
        'terrace_bundle_info{version="v1",worker="0"} 1.0',
        'terrace_bundle_rejected{cause="damaged",version="v2"} 1.0',
    ]
    assert samples(metrics, "terrace_tier") == [
        'terrace_tier_disabled{cause="unusable",tier="DEEP",version="v1",worker="0"} 1.0'
    ]
    assert f"bundle v2 is rejected (damaged): {bundles / 'v2' / POPULARITY_FILE}: its SHA-256" in served.log


def test_a_damaged_bundle_that_is_named_is_not_replaced_by_another(tmp_path: Path) -> None:
    write_bundle(tmp_path / "v1", version="v1")
    flip(write_bundle(tmp_path / "v2", version="v2") / POPULARITY_FILE)
    done = terrace("serve", "--bundle", str(tmp_path / "v2"), "--store-url", "unix:///nowhere", "--port", "0", expect=2)

    assert "score.npy: its SHA-256" in done.stderr.splitlines()[-1]


def test_when_no_bundle_can_be_used_each_is_named_with_its_reason(tmp_path: Path) -> None:
    for version in ("v1", "v2"):
        write_bundle(tmp_path / version, version=version)
        flip(tmp_path / version / POPULARITY_FILE)
    seal(tmp_path / "v2", items=7, version="v2")
    done = terrace("serve", "--bundles", str(tmp_path), "--store-url", "unix:///nowhere", "--port", "0", expect=2)

    *_, first, newest, oldest = done.stderr.splitlines()
    assert first == "error: none of 2 bundles can be used, newest first:"
    assert newest == f"  v2: {tmp_path / 'v2' / 'catalogue'}: 60 items, the manifest says 7"
    assert oldest.startswith(f"  v1: {tmp_path / 'v1' / POPULARITY_FILE}: its SHA-256")


def test_a_bundle_in_a_folder_of_another_name_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path / "v2", version="v1")
    done = terrace("serve", "--bundles", str(tmp_path), "--store-url", "unix:///nowhere", "--port", "0", expect=2)

    assert f"{tmp_path / 'v2'}: holds version v1. The folder of a bundle has the name of its version" in done.stderr


def test_a_bundle_that_is_named_may_lie_in_a_folder_of_any_name(tmp_path: Path) -> None:
    with serving("--bundle", str(write_broken_model(tmp_path / "any", version="v1")), log=tmp_path / "log") as served:
        assert served.line.startswith("serving v1 on ")


def test_a_missing_bundle_is_one_line_on_standard_error_and_exit_code_2(tmp_path: Path) -> None:
    done = terrace("serve", "--bundle", str(tmp_path / "no"), "--store-url", "unix:///nowhere", "--port", "0", expect=2)

    assert "no such bundle folder" in done.stderr.splitlines()[-1]


def test_a_second_server_on_the_port_fails_and_says_so(tmp_path: Path) -> None:
    """Also before the first one listens, and although workers of one server do share the port."""
    bundle = write_bundle(tmp_path / "v1", version="v1")
    with serving("--bundle", str(bundle), log=tmp_path / "log") as served:
        port = served.target.split(":")[1]
        done = terrace("serve", "--bundle", str(bundle), "--store-url", "unix:///nowhere", "--port", port, expect=2)
        with Client(served.target) as client:
            answer = client.recommend("ada", timeout_ms=20_000)

    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert len(answer.items) == 20


def test_workers_share_the_port_and_one_page_of_metrics(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "v1", version="v1")
    with serving("--bundle", str(bundle), "--workers", "2", log=tmp_path / "log") as served:
        assert len(served.loaders) == 1
        assert len(served.workers) == 2
        for _ in range(40):  # connections, spread by a hash of their ports
            with Client(served.target) as client:
                client.recommend("ada", timeout_ms=20_000)
        until(lambda: sum(served.values("terrace_requests_total").values()) == 40, "calls of both workers are added up")
        by_worker = served.values("terrace_bundle_info")

    assert list(by_worker) == ['{version="v1",worker="0"}', '{version="v1",worker="1"}']


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_dies_is_replaced_and_the_death_is_told_once(tmp_path: Path, number: signal.Signals) -> None:
    bundle = write_bundle(tmp_path / "v1", version="v1")
    with serving("--bundle", str(bundle), "--workers", "2", log=tmp_path / "log") as served:
        before = set(served.workers)
        killed = min(before)
        os.kill(killed, number)
        until(lambda: killed not in served.workers and len(served.workers) == 2, "it is replaced")
        until(lambda: served.values("terrace_workers") == {'{state="ready"}': 2.0, '{state="wanted"}': 2.0}, "ready")
        with Client(served.target) as client:
            answer = client.recommend("ada", timeout_ms=20_000)
        restarts = served.values("terrace_worker_deaths_total")

    assert len(answer.items) == 20
    assert restarts == {"": 1.0}
    assert "died" in served.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_asked_to_end_loses_no_call_while_another_takes_its_place(
    tmp_path: Path, number: signal.Signals
) -> None:
    """No retries: a client's connection is closed gracefully at its age, and its next one goes to the new worker."""
    bundle = write_bundle(tmp_path / "v1", version="v1")
    options = ("--workers", "2", "--max-connection-age-s", "0.5")
    with serving("--bundle", str(bundle), *options, log=tmp_path / "log") as served:
        before = set(served.workers)
        with callers(served.target, 8) as (answered, failed):
            until(lambda: min(map(len, answered)) > 20, "calls")
            for count, worker in enumerate(before, 3):
                os.kill(worker, number)
                until(lambda w=worker: w not in served.workers, "it ends")  # type: ignore[misc]
                until(lambda n=count: served.log.count("serving bundle v1") == n, "another is ready")  # type: ignore[misc]
            after = [len(versions) + 20 for versions in answered]
            until(lambda: all(len(v) > n for v, n in zip(answered, after, strict=True)), "calls of the new workers")

    assert failed == []
    assert "died" not in served.log


def test_a_worker_that_hangs_is_killed_and_replaced(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "v1", version="v1")
    with serving("--bundle", str(bundle), "--workers", "2", log=tmp_path / "log") as served:
        hung = served.workers[0]
        os.kill(hung, signal.SIGSTOP)
        until(lambda: hung not in served.workers and len(served.workers) == 2, "it is replaced")

    assert "has been silent for" in served.log


def test_the_second_request_to_end_loses_no_time(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "v1", version="v1")
    with serving("--bundle", str(bundle), "--workers", "2", "--lame-duck-s", "3600", log=tmp_path / "log") as served:
        served.child.send_signal(signal.SIGTERM)
        with grpc.insecure_channel(served.target) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            until(
                lambda: stub.Check(health_pb2.HealthCheckRequest(), timeout=20).status == NOT_SERVING,
                "it says so first",
            )
        with Client(served.target) as client:  # also over a connection that is made now
            assert len(client.recommend("ada", timeout_ms=20_000).items) == 20
        assert served.child.poll() is None
        served.child.send_signal(signal.SIGINT)
        assert served.child.wait(60) == 0


def test_workers_do_not_outlive_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "v1", version="v1")
    with serving("--bundle", str(bundle), "--workers", "2", log=tmp_path / "log", expect=-9) as served:
        started = [*served.loaders, *served.workers]
        served.child.kill()
        until(lambda: not any(runs(pid) for pid in started), "they end")

    assert len(started) == 3


def test_the_port_of_metrics_that_is_taken_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "v1", version="v1")
    with serving("--bundle", str(bundle), log=tmp_path / "log") as served:
        taken = str(served._metrics_port)
        done = terrace(
            *("serve", "--bundle", str(bundle), "--store-url", "unix:///nowhere", "--port", str(free_port())),
            *("--metrics-port", taken),
            expect=2,
        )

    assert "cannot export telemetry" in done.stderr
