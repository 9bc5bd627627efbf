"""Bundles in a folder or in object storage, through the commands a user types."""

from __future__ import annotations

import asyncio
import json
import socket
import uuid
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import typer
from typer.testing import CliRunner

from core.release import Release
from server.release.bundle_store import open_store
from server.release.release_store import ReleaseStore
from terrace.cli import bundle_storage
from terrace.cli.app import app
from tests.contracts.bundle_store_contract import BUNDLE_BYTES, is_whole, write_bundle
from tests.e2e.commands import terrace

if TYPE_CHECKING:
    from pathlib import Path

DAYS = tuple(f"202601{day:02}T020000Z" for day in range(1, 7))


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    """A folder of six bundles."""
    for version in DAYS:
        write_bundle(tmp_path / "bundles" / version, version, signed=version == DAYS[0])
    return tmp_path / "bundles"


@pytest.fixture
def release(valkey: str) -> tuple[str, ...]:
    """Options of a namespace whose second bundle is live, the first was live before, and the third is staged."""
    namespace = uuid.uuid4().hex
    document = Release.of(DAYS[0]).stage(DAYS[1]).promote().stage(DAYS[2]).freeze(DAYS[3], "worse")
    asyncio.run(store_release(valkey, namespace, document))
    return ("--store-url", valkey, "--namespace", namespace)


@pytest.fixture
def nobody() -> str:
    """URL of a Redis that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"redis://127.0.0.1:{free.getsockname()[1]}"


async def store_release(url: str, namespace: str, document: Release) -> None:
    store = ReleaseStore(url, namespace, timeout_s=60.0)
    await store.change(lambda _: document, "test")
    await store.close()


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["bundle", *map(str, arguments)], catch_exceptions=False)


def listed(bundles: Path, *options: str) -> dict[str, dict[str, Any]]:
    shown = json.loads(run("list", "--bundles", bundles, "--json", *options).stdout)
    return {row["version"]: row for row in shown["bundles"]}


def folders(bundles: Path) -> list[str]:
    return sorted(path.name for path in bundles.iterdir() if path.is_dir())


def test_a_list_says_what_each_bundle_is(bundles: Path) -> None:
    rows = listed(bundles)

    assert list(rows) == list(reversed(DAYS))
    assert rows[DAYS[0]] == {
        "version": DAYS[0],
        "built_at": "2026-01-01T00:00:00Z",
        "bytes": BUNDLE_BYTES,
        "gate": "off",
        "signed": True,
        "release": "",
        "frozen": "",
    }
    assert not rows[DAYS[1]]["signed"]


def test_a_list_says_what_the_release_makes_of_each_bundle(bundles: Path, release: tuple[str, ...]) -> None:
    marks = {version: row["release"] or row["frozen"] for version, row in listed(bundles, *release).items()}

    assert [marks[version] for version in DAYS] == ["previous", "live", "staged", "worse", "", ""]
    table = run("list", "--bundles", bundles, *release)
    assert "frozen: worse" in table.stdout
    assert table.stderr == ""


def test_a_list_warns_of_what_is_unfinished_and_of_what_the_release_names_in_vain(
    bundles: Path, release: tuple[str, ...]
) -> None:
    (bundles / DAYS[1] / "manifest.json").unlink()

    shown = run("list", "--bundles", bundles, *release)

    assert f"not finished or half removed: {DAYS[1]}" in shown.stderr
    assert f"the release names bundles that are not here: {DAYS[1]} (live)" in shown.stderr


def test_a_list_goes_on_past_a_bundle_that_cannot_be_read(bundles: Path) -> None:
    (bundles / DAYS[2] / "manifest.json").write_text("{")

    rows = listed(bundles)

    assert "not readable as JSON" in rows[DAYS[2]]["error"]
    assert "not readable as JSON" in run("list", "--bundles", bundles).stdout
    assert len(rows) == len(DAYS)


def test_a_list_can_do_without_the_release(bundles: Path, nobody: str) -> None:
    shown = run("list", "--bundles", bundles, "--store-url", nobody)

    assert shown.exit_code == 0
    assert DAYS[0] in shown.stdout
    assert "does not say what the release makes of the bundles" in shown.stderr


def test_nothing_that_the_release_names_is_pruned(bundles: Path, release: tuple[str, ...]) -> None:
    done = run("prune", "--bundles", bundles, "--keep", 1, *release)

    assert done.exit_code == 0
    assert folders(bundles) == [*DAYS[:3], DAYS[5]]
    assert [line for line in done.stdout.splitlines() if "removed" in line] == [
        f"removed {version}" for version in DAYS[3:5]
    ]
    assert f"keeps {DAYS[0]}: it is previous in namespace {release[-1]}" in done.stdout
    assert "nothing to remove" in run("prune", "--bundles", bundles, "--keep", 1, *release).stdout


def test_what_any_of_several_namespaces_names_stays(bundles: Path, release: tuple[str, ...]) -> None:
    other = uuid.uuid4().hex
    asyncio.run(store_release(release[1], other, Release.of(DAYS[4])))

    done = run("prune", "--bundles", bundles, "--keep", 1, *release, "--namespace", other)

    assert folders(bundles) == [*DAYS[:3], *DAYS[4:]]
    assert f"keeps {DAYS[4]}: it is live in namespace {other}" in done.stdout


def test_one_of_several_namespaces_without_a_release_is_enough_to_refuse(
    bundles: Path, release: tuple[str, ...]
) -> None:
    refused = run("prune", "--bundles", bundles, "--keep", 1, *release, "--namespace", "no-such")

    assert refused.exit_code == 2
    assert "namespace no-such has no release" in refused.stderr
    assert folders(bundles) == list(DAYS)


def test_a_dry_run_removes_nothing(bundles: Path, release: tuple[str, ...]) -> None:
    done = run("prune", "--bundles", bundles, "--keep", 2, "--dry-run", *release)

    assert f"would remove {DAYS[3]}" in done.stdout
    assert folders(bundles) == list(DAYS)


@pytest.mark.parametrize("given", [True, False])
def test_without_a_release_nothing_is_pruned_unless_that_is_confirmed(bundles: Path, valkey: str, given: bool) -> None:
    options = ("--store-url", valkey, "--namespace", uuid.uuid4().hex) if given else ()
    refused = run("prune", "--bundles", bundles, "--keep", 2, *options)

    assert refused.exit_code == 2
    assert ("has no release" if given else "no store of a release is given") in refused.stderr
    assert "--yes" in refused.stderr
    assert folders(bundles) == list(DAYS)

    confirmed = run("prune", "--bundles", bundles, "--keep", 2, "--yes", *options)

    assert "judged by age alone" in confirmed.stderr
    assert folders(bundles) == list(DAYS[4:])


def test_a_store_that_is_away_is_not_taken_for_one_without_a_release(bundles: Path, nobody: str) -> None:
    refused = run("prune", "--bundles", bundles, "--keep", 2, "--yes", "--store-url", nobody)

    assert refused.exit_code == 3
    assert folders(bundles) == list(DAYS)


def test_a_bundle_goes_to_object_storage_and_comes_back(bundles: Path, tmp_path: Path, s3: str) -> None:
    bucket = f"bucket-{uuid.uuid4().hex}"
    boto3.client("s3", endpoint_url=s3).create_bucket(Bucket=bucket)
    url = f"s3://{bucket}/terrace"

    assert f"pushed {DAYS[0]} to {url}" in run("push", bundles / DAYS[0], "--bundles", url).stdout
    assert DAYS[0] in run("list", "--bundles", url).stdout
    pulled = run("pull", DAYS[0], "--bundles", url, "--to", tmp_path / "here")

    assert f"pulled {tmp_path / 'here' / DAYS[0]}" in pulled.stdout
    assert is_whole(tmp_path / "here" / DAYS[0])


def test_a_store_that_cannot_be_used_and_a_version_that_is_not_there_have_exit_codes(bundles: Path) -> None:
    away = terrace("bundle", "list", "--bundles", str(bundles / "no such"), expect=3)
    unknown = terrace("bundle", "pull", "20300101T000000Z", "--bundles", str(bundles), "--to", str(bundles), expect=2)

    assert "no such: no such folder of bundles" in away.stderr
    assert "20300101T000000Z: no such bundle" in unknown.stderr


def test_a_build_looks_first_whether_it_can_push_then_publishes_and_pushes(
    shop: tuple[str, ...], tmp_path: Path
) -> None:
    options = ("--bundles", str(tmp_path / "built"), "--no-evaluate", "--no-deep", "--publish-to", str(tmp_path / "to"))
    refused = terrace("build", *shop, *options, expect=3)
    assert f"{tmp_path / 'to'}: no such folder" in refused.stderr
    assert not (tmp_path / "built").exists()

    (tmp_path / "to").mkdir()
    terrace("build", *shop, *options)

    assert folders(tmp_path / "to") == folders(tmp_path / "built")
    assert is_whole(open_store(str(tmp_path / "to")).fetch(folders(tmp_path / "built")[0]))


def test_a_push_after_a_build_that_fails_says_how_to_repeat_it(
    bundles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "to").mkdir()
    store = bundle_storage.reachable(str(tmp_path / "to"))
    (tmp_path / "to").rmdir()
    assert store is not None

    with pytest.raises(typer.Exit) as ended:
        bundle_storage.push_built(store, bundles / DAYS[0])

    assert ended.value.exit_code == 3
    assert f"terrace bundle push {bundles / DAYS[0]} --bundles {tmp_path / 'to'}" in capsys.readouterr().err
