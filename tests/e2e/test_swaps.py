"""A release document moves servers from bundle to bundle, and nobody who calls notices."""

from __future__ import annotations

import os
import signal
import uuid
from typing import TYPE_CHECKING

import boto3
import pytest

from server.release.bundle_store import open_store
from terrace.cli.release_access import REFUSED
from tests.e2e.commands import terrace
from tests.e2e.released import answered, released, replica
from tests.e2e.served import callers, runs, serving, until
from tests.server.bundle_folder import flip, write_broken_model, write_bundle

if TYPE_CHECKING:
    from pathlib import Path

POPULARITY_FILE = "generators/popularity/score.npy"


def test_a_bundle_is_staged_tried_on_a_share_promoted_and_rolled_back(tmp_path: Path, valkey: str) -> None:
    with released(tmp_path, valkey) as (served, release), callers(served.target, 4) as (versions, failed):
        release("stage", "v2", "--share", "0.5")
        until(lambda: set(answered(served).values()) == {"v1", "v2"}, "users of both")
        trial = answered(served)
        again = answered(served)
        loaders = served.loaders
        release("promote")
        until(lambda: set(answered(served).values()) == {"v2"}, "all have the new one")
        release("rollback")
        until(lambda: set(answered(served).values()) == {"v1"}, "all have the old one")
        until(lambda: len(served.loaders) == 1, "the old workers have left")

        assert again == trial
        assert set(served.loaders) <= set(loaders)  # neither promote nor rollback has loaded anything
    assert failed == []
    assert all(set(each) <= {"v1", "v2"} for each in versions)
    assert "died" not in served.log


def test_a_version_is_loaded_when_the_workers_without_it_have_left(tmp_path: Path, valkey: str) -> None:
    """Before that, some connections would be answered from it and others not."""
    with released(tmp_path, valkey) as (served, release):
        before = served.workers
        release("stage", "v2")
        until(lambda: replica(release)["loaded"] == ["v1", "v2"], "both are loaded")

        assert not any(map(runs, before))
        release("promote")
        until(lambda: replica(release)["answers_from"] == "v2", "it has seen the document")
        assert set(answered(served).values()) == {"v2"}


def test_a_damaged_bundle_is_rejected_and_everybody_is_answered_from_the_old_one(tmp_path: Path, valkey: str) -> None:
    with released(tmp_path, valkey) as (served, release), callers(served.target, 2) as (versions, failed):
        flip(tmp_path / "bundles" / "v2" / POPULARITY_FILE)
        release("stage", "v2")
        until(lambda: "v2" in replica(release)["rejected"], "it says so")  # type: ignore[operator]
        before = served.loaders
        refused = release("promote", expect=REFUSED)

        assert f"{tmp_path / 'bundles' / 'v2' / POPULARITY_FILE}: its SHA-256" in str(replica(release)["rejected"])
        assert "v2" in refused.stderr
        assert set(answered(served).values()) == {"v1"}
        assert served.loaders == before
        assert served.values("terrace_bundle_rejected") == {'{cause="damaged",version="v2"}': 1.0}
    assert failed == []
    assert {version for each in versions for version in each} == {"v1"}


def test_a_bundle_without_its_deep_rung_is_not_put_beside_one_that_is_served(tmp_path: Path, valkey: str) -> None:
    with released(tmp_path, valkey) as (served, release):
        write_broken_model(tmp_path / "bundles" / "v3", version="v3")
        release("stage", "v3")
        until(lambda: "v3" in replica(release)["rejected"], "it says so")  # type: ignore[operator]

        assert set(answered(served).values()) == {"v1"}


def test_workers_that_die_of_the_newest_bundle_are_replaced_by_workers_without_it(tmp_path: Path, valkey: str) -> None:
    """Three deaths reject what was added last."""
    with released(tmp_path, valkey) as (served, release):
        release("stage", "v2", "--share", "1")
        until(lambda: set(answered(served).values()) == {"v2"}, "all have the new one")
        until(lambda: len(served.loaders) == 1 and len(served.workers) == 2, "the old workers have left")
        for died in range(1, 4):
            until(lambda: served.values("terrace_workers")['{state="ready"}'] == 2, "two answer")
            os.kill(served.workers[0], signal.SIGKILL)
            until(lambda n=died: served.values("terrace_worker_deaths_total")[""] == n, "it is seen")  # type: ignore[misc]
        until(lambda: set(answered(served).values()) == {"v1"}, "all have the old one again")

        assert "3 workers with it died" in str(replica(release)["rejected"])
        until(lambda: served.values("terrace_workers")['{state="ready"}'] == 2, "two answer")


def test_a_server_that_starts_while_the_store_is_away_answers_as_it_did_before(tmp_path: Path, valkey: str) -> None:
    with released(tmp_path, valkey) as (served, release):
        release("stage", "v2")
        until(lambda: replica(release)["loaded"] == ["v1", "v2"], "both are loaded")
        copies = list((tmp_path / "data").glob("release-*.json"))
        namespace = copies[0].stem.removeprefix("release-")
        assert served.child.poll() is None
    write_bundle(tmp_path / "bundles" / "v3", version="v3")  # newer, but nobody has released it
    options = ("--data", str(tmp_path / "data"), "--namespace", namespace, "--store-url", "redis://127.0.0.1:1")
    with serving("--bundles", str(tmp_path / "bundles"), *options, log=tmp_path / "log2") as served:
        assert served.line.startswith("serving v1 on ")
        assert served.values("terrace_bundle_info").keys() >= {'{version="v1",worker="0"}', '{version="v2",worker="0"}'}


def test_bundles_come_from_object_storage_and_a_start_without_it_finds_them_in_the_cache(
    tmp_path: Path, valkey: str, s3: str
) -> None:
    bucket = uuid.uuid4().hex
    boto3.client("s3", endpoint_url=s3).create_bucket(Bucket=bucket)
    url, cache = f"s3://{bucket}/bundles", str(tmp_path / "cache")
    store = open_store(url)
    for version in ("v1", "v2"):
        store.push(write_bundle(tmp_path / version, version=version))
    where = ("--store-url", valkey, "--namespace", bucket)
    options = ("--cache", cache, "--data", str(tmp_path / "data"), *where)
    with serving("--bundles", url, *options, log=tmp_path / "log") as served:
        assert served.line.startswith("serving v2 on ")
        until(
            lambda: replica(lambda *arguments: terrace("release", *arguments, *where)).get("answers_from") == "v2",
            "it has reported",
        )
        terrace("release", "stage", "v1", *where)
        until(lambda: served.values("terrace_bundle_info").keys() >= {'{version="v1",worker="1"}'}, "both are loaded")
    boto3.client("s3", endpoint_url=s3).put_object(Bucket=bucket, Key="bundles/v3/manifest.json", Body=b"half")
    away = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    with serving("--bundles", url, *options, log=tmp_path / "log2", environment=away) as served:
        assert served.line.startswith("serving v2 on ")


def test_a_version_that_nobody_has_is_told_at_once(tmp_path: Path, valkey: str) -> None:
    with released(tmp_path, valkey) as (served, release):
        refused = release("stage", "v9", "--bundles", str(tmp_path / "bundles"), expect=REFUSED)

        assert "v9" in refused.stderr
        assert set(answered(served).values()) == {"v1"}


@pytest.mark.parametrize("swaps", [pytest.param(3, id="short"), pytest.param(20, id="long", marks=pytest.mark.slow)])
def test_no_call_fails_while_one_bundle_after_the_other_is_staged_and_promoted(
    tmp_path: Path, valkey: str, swaps: int
) -> None:
    with released(tmp_path, valkey) as (served, release), callers(served.target, 4) as (versions, failed):
        for turn in range(2, 2 + swaps):
            if turn > 2:
                write_bundle(tmp_path / "bundles" / f"v{turn}", version=f"v{turn}")
            release("stage", f"v{turn}", "--share", "0.1")
            release("promote")
            until(lambda v=f"v{turn}": set(answered(served).values()) == {v}, "all have the new one")  # type: ignore[misc]
        until(lambda: len(served.loaders) == 1, "the old workers have left")
    assert failed == []
    assert all(len(each) > swaps for each in versions)
    assert "died" not in served.log
