"""`terrace bundle verify`, `sign` and `keygen`, and what takes signed bundles only, as a user types them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.e2e.commands import terrace
from tests.e2e.served import serving
from tests.server.bundle_folder import flip, write_bundle
from tests.server.release.whole_bundle import write_whole_bundle

if TYPE_CHECKING:
    from pathlib import Path

INDEX = "generators/ann/index.hnsw"


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    write_whole_bundle(tmp_path / "bundles" / "v1")
    return tmp_path / "bundles"


def test_the_newest_bundle_of_a_folder_is_verified_and_each_check_shown(bundles: Path) -> None:
    done = terrace("bundle", "verify", str(bundles))
    assert all(check in done.stdout for check in ("signature", "files", "arrays", "index", "models", "loads", "golden"))
    assert "failed" not in done.stdout
    assert "7 golden requests answered as before" in done.stdout


def test_a_damaged_bundle_is_refused_with_the_file_and_the_check(bundles: Path) -> None:
    flip(bundles / "v1" / INDEX)
    done = terrace("bundle", "verify", str(bundles / "v1"), expect=1)
    assert "failed" in done.stdout
    assert f"check 'files': {bundles / 'v1' / INDEX}: its SHA-256" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_program_reads_the_checks_as_json(bundles: Path) -> None:
    sound = json.loads(terrace("bundle", "verify", str(bundles), "--json").stdout)
    assert (sound["bundle"], sound["passed"]) == (str(bundles / "v1"), True)
    assert sound["checks"][0] == {"name": "signature", "passed": True, "text": "not asked for"}
    (bundles / "v1" / INDEX).unlink()
    found = json.loads(terrace("bundle", "verify", str(bundles), "--json", expect=1).stdout)
    assert not found["passed"]
    assert [check["passed"] for check in found["checks"]] == [True, False]


def test_a_bundle_is_signed_and_then_taken_where_keys_are_asked_for(bundles: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    made = terrace("bundle", "keygen", str(key)).stdout
    assert str(key) in made
    asked = ("--public-key", f"{key}.pub")
    unsigned = terrace("bundle", "verify", str(bundles), *asked, expect=1)
    assert "check 'signature': " in unsigned.stderr
    assert "only signed bundles are taken here" in unsigned.stderr
    assert str(bundles / "v1" / "manifest.sig") in terrace("bundle", "sign", str(bundles), "--key", str(key)).stdout
    assert "by a key that is trusted" in terrace("bundle", "verify", str(bundles), *asked).stdout
    assert "all match their checksums" in terrace("bundle", "show", str(bundles)).stdout


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A private key; the public one lies beside it."""
    terrace("bundle", "keygen", str(tmp_path / "key"))
    return tmp_path / "key"


@pytest.mark.parametrize("named", ["--bundles", "--bundle"])
def test_an_unsigned_bundle_is_not_served_where_there_is_a_key(tmp_path: Path, key: Path, named: str) -> None:
    folder = write_bundle(tmp_path / "bundles" / "v1", version="v1")
    path = folder.parent if named == "--bundles" else folder
    asked = (named, str(path), "--store-url", "unix:///nowhere", "--port", "0")
    done = terrace("serve", *asked, "--public-key", f"{key}.pub", expect=2)
    assert f"{folder / 'manifest.sig'}: missing" in done.stderr


def test_an_older_bundle_that_is_signed_is_served_before_a_newer_one_that_is_not(tmp_path: Path, key: Path) -> None:
    bundles = tmp_path / "bundles"
    for version in ("v1", "v2"):
        write_bundle(bundles / version, version=version)
    terrace("bundle", "sign", str(bundles / "v1"), "--key", str(key))
    with serving("--bundles", str(bundles), "--public-key", f"{key}.pub", log=tmp_path / "log") as served:
        rejected = served.values("terrace_bundle_rejected")

    assert served.line.startswith("serving v1 on ")
    assert rejected == {'{cause="signature",version="v2"}': 1.0}
    assert f"bundle v2 is rejected (signature): {bundles / 'v2' / 'manifest.sig'}: missing" in served.log


@pytest.mark.parametrize(
    "arguments",
    [
        ("bundle", "verify", "{bundles}", "--public-key", "{missing}"),
        ("bundle", "sign", "{bundles}", "--key", "{missing}"),
        ("bundle", "keygen", "{missing}/key"),
        ("serve", "--bundles", "{bundles}", "--public-key", "{missing}"),
        ("build", "--events", "e.csv", "--sign-key", "{missing}"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_a_key_that_is_not_there_is_one_message(bundles: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    missing = str(tmp_path / "missing")
    done = terrace(*(each.format(bundles=bundles, missing=missing) for each in arguments), expect=2)
    assert missing in done.stderr.replace("\n", "")
    assert "Traceback" not in done.stderr
