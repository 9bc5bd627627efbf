"""`terrace precompute` as an operator types it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import uuid
from inspect import signature
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from server.store.user_store import LIST_TTL_S
from terrace.cli.precompute import run
from tests.e2e.commands import terrace

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def version(built: tuple[Path, dict[str, Any]]) -> str:
    return next(built[0].iterdir()).name


@pytest.fixture(scope="module")
def bundles(built: tuple[Path, dict[str, Any]]) -> tuple[str, ...]:
    return ("--bundles", str(built[0]))


@pytest.fixture
def where(valkey: str) -> tuple[str, ...]:
    return ("--store-url", valkey, "--namespace", uuid.uuid4().hex)


def test_a_night_from_nothing_to_complete_lists(
    version: str, bundles: tuple[str, ...], where: tuple[str, ...], shop: tuple[str, ...]
) -> None:
    """Every step says what the next one is; what is complete is not computed twice, unless it is asked for."""
    run = ("precompute", version, *bundles, *where, "--users", "all")
    assert "Run `terrace precompute" in terrace("precompute", "status", version, *where, expect=1).stderr
    assert "0 lists of 0 users" in terrace(*run).stdout
    assert "of 0 users none has a list" in terrace("precompute", "status", version, *where, expect=1).stderr

    terrace("ingest", *shop, *where)
    assert "complete already, nothing to do" in terrace(*run).stdout
    done = terrace(*run, "--again", "--k", "20")
    assert "lists/s with 1 process" in done.stdout
    assert "complete; " in terrace("precompute", "status", version, *where).stdout
    status = json.loads(terrace("precompute", "status", version, *where, "--json").stdout)
    assert status["complete"]
    assert status["written"] + status["no_history"] == status["users"] == 260
    assert status["read_again"] == 200


def test_users_come_from_files_too(
    version: str, bundles: tuple[str, ...], where: tuple[str, ...], shop: tuple[str, ...], tmp_path: Path
) -> None:
    terrace("ingest", *shop, *where)
    some = tmp_path / "users.txt"
    known = pq.read_table(shop[1], columns=["user_id"])["user_id"].unique().to_pylist()[:2]
    some.write_text("\n".join([*known, "", "nobody-of-this-name"]), encoding="utf-8")
    run = ("precompute", version, *bundles, *where)

    of_file = terrace(*run, "--users", str(some)).stdout
    other = terrace(*run, "--users", "all", *shop, expect=2).stderr
    of_events = terrace(*run, "--users", "all", *shop, "--again").stdout

    assert "of 3 users (of the file" in of_file
    assert "1 without history" in of_file
    assert "begun with another users" in other
    assert "of 260 users (all, of " in of_events


def test_lists_live_as_long_as_the_store_keeps_them_by_default() -> None:
    assert signature(run).parameters["ttl_hours"].default * 3600 == LIST_TTL_S


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("20200101T000000Z",), "neither a bundle folder nor a version"),
        (("VERSION", "--shard", "4/4"), "--shard 4/4: shards of 4 are numbered from 0 to 3"),
        (("VERSION", "--shard", "half"), "expected INDEX/COUNT"),
        (("VERSION", "--users", "nowhere.txt"), "--users nowhere.txt: cannot be read"),
        (("VERSION", "--users", "some.txt", "--events", "e.csv"), "not both"),
        (("VERSION", "--events", "nowhere.parquet"), "nowhere.parquet"),
        (("VERSION", "--k", "0"), "--k"),
        (("VERSION", "--namespace", "a{b"), "the namespace must not have braces"),
        (("VERSION", "--store-url", "http://host"), "the store URL must start with"),
    ],
)
def test_what_is_asked_for_wrongly_is_one_message(
    version: str, bundles: tuple[str, ...], valkey: str, arguments: tuple[str, ...], said: str
) -> None:
    asked = [version if each == "VERSION" else each for each in arguments]
    store = () if "--store-url" in asked else ("--store-url", valkey)

    done = terrace("precompute", *asked, *bundles, *store, expect=2)

    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_bundle_without_a_model_has_nothing_to_precompute(shop: tuple[str, ...], valkey: str, tmp_path: Path) -> None:
    terrace("build", *shop, "--bundles", str(tmp_path), "--no-deep", "--no-evaluate")
    version = next(tmp_path.iterdir()).name

    done = terrace("precompute", version, "--bundles", str(tmp_path), "--store-url", valkey, expect=2)

    assert "has no deep model, so there is nothing to precompute" in done.stderr


def test_lists_of_a_bundle_that_is_not_signed_as_it_must_be_are_not_made(
    built: tuple[Path, dict[str, Any]], version: str, bundles: tuple[str, ...], where: tuple[str, ...], tmp_path: Path
) -> None:
    terrace("bundle", "keygen", str(tmp_path / "other"))
    run = ("precompute", version, *bundles, *where)

    refused = terrace(*run, "--public-key", str(tmp_path / "other.pub"), expect=2).stderr

    assert "not a signature of this manifest.json" in " ".join(refused.split())
    assert "0 lists of 0 users" in terrace(*run, "--public-key", str(built[0].parent / "key.pub")).stdout


def test_a_store_that_cannot_be_reached_is_said(version: str, bundles: tuple[str, ...]) -> None:
    for command in (("precompute", version, *bundles), ("precompute", "status", version)):
        done = terrace(*command, "--store-url", "redis://127.0.0.1:1", expect=3)
        assert "the user store: " in done.stderr


def test_who_is_asked_to_stop_says_how_to_go_on(version: str, bundles: tuple[str, ...]) -> None:
    """The store takes the connection and never answers, so that the process waits until it is stopped."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        command = [sys.executable, "-m", "terrace.cli", "precompute", version, *bundles, "--store-url", url]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            silent.settimeout(100)
            connection, _ = silent.accept()
            process.send_signal(signal.SIGTERM)
            _, error = process.communicate(timeout=100)
            connection.close()

    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped. What is done is noted; go on with --resume" in error
