"""Signals at bad moments: while a server starts, while bundles are replaced, to the process that workers come from."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from terrace.client import Client
from tests.e2e.released import answered, released, replica
from tests.e2e.served import callers, runs, serving, starting, until
from tests.server.bundle_folder import write_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.served import Served


def second_loader(served: Served, first: int) -> int:
    """The loader process beside the first one, as soon as there is one."""
    until(lambda: set(served.loaders) - {first}, "another generation starts")
    return (set(served.loaders) - {first}).pop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_asked_to_end_while_it_starts_ends_at_once_and_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    bundle = write_bundle(tmp_path / "v1", version="v1")
    with starting("--bundle", str(bundle), "--workers", "2", log=tmp_path / "log") as served:
        until(lambda: served.loaders, "it opens the bundle")
        started = [*served.loaders, *served.workers]
        served.child.send_signal(number)
        assert served.child.wait(60) == 0
        until(lambda: not any(map(runs, started)), "all of it ends")


def test_a_server_that_is_asked_to_end_while_it_replaces_workers_leaves_nothing(tmp_path: Path, valkey: str) -> None:
    with released(tmp_path, valkey) as (served, release):
        first = served.loaders[0]
        release("stage", "v2")
        second_loader(served, first)
        started = [*served.loaders, *served.workers]
        served.child.send_signal(signal.SIGTERM)
        assert served.child.wait(60) == 0
        until(lambda: not any(map(runs, started)), "all of it ends")
    assert "died" not in served.log


def test_a_worker_that_is_asked_to_end_while_workers_are_replaced_loses_no_call(tmp_path: Path, valkey: str) -> None:
    with released(tmp_path, valkey) as (served, release), callers(served.target, 2) as (versions, failed):
        first, ended = served.loaders[0], served.workers[0]
        release("stage", "v2")
        second_loader(served, first)
        os.kill(ended, signal.SIGTERM)
        until(lambda: replica(release)["loaded"] == ["v1", "v2"], "both are loaded")
        release("promote")
        until(lambda: set(answered(served).values()) == {"v2"}, "all have the new one")
    assert failed == []
    assert all(set(each) <= {"v1", "v2"} for each in versions)
    assert "died" not in served.log


def test_a_loader_process_that_is_killed_while_it_opens_a_bundle_changes_nothing_for_those_who_call(
    tmp_path: Path, valkey: str
) -> None:
    with released(tmp_path, valkey) as (served, release), callers(served.target, 2) as (versions, failed):
        first = served.loaders[0]
        release("stage", "v2")
        os.kill(second_loader(served, first), signal.SIGKILL)
        until(lambda: "v2" in replica(release)["rejected"], "it says so")  # type: ignore[operator]

        assert "killed by SIGKILL" in str(replica(release)["rejected"])
        assert served.loaders == [first]
    assert failed == []
    assert {version for each in versions for version in each} == {"v1"}


def test_a_loader_process_that_is_killed_is_replaced_with_its_workers_and_no_call_fails(tmp_path: Path) -> None:
    """Its workers answer on; but none could be forked in place of one that dies."""
    bundle = write_bundle(tmp_path / "v1", version="v1")
    options = ("--workers", "2", "--max-connection-age-s", "0.5")
    with serving("--bundle", str(bundle), *options, log=tmp_path / "log") as served:
        before = [*served.loaders, *served.workers]
        with callers(served.target, 2) as (_, failed):
            os.kill(before[0], signal.SIGKILL)
            until(lambda: not any(map(runs, before)), "all of the old ones end")
            until(lambda: len(served.workers) == 2, "there are others")
        with Client(served.target) as client:
            assert len(client.recommend("ada", timeout_ms=20_000).items) == 20
    assert failed == []
    assert "the loader process of v1 died" in served.log
