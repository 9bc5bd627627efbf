"""What the gate does to a build, through the commands a user types."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from core.manifest import newest_bundle, read_manifest, verify
from offline.evaluate.per_user import PerUser
from tests.e2e.commands import terrace

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def files(shop: tuple[str, ...]) -> tuple[str, ...]:
    """Options that name a small generated shop and a ladder without a model."""
    return (*shop, "--no-deep")


@pytest.fixture(scope="module")
def first(files: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published bundle that passed."""
    bundles = tmp_path_factory.mktemp("bundles")
    done = terrace("build", *files, "--bundles", str(bundles))
    assert "passed: CF above POPULARITY" in done.stderr
    assert "not judged: DEEP above CF" in done.stderr
    return newest_bundle(bundles)


def renamed(bundle: Path, version: str, into: Path, **scaled: float) -> Path:
    """A bundle as it would be had its rungs been measured at a multiple, without figures per user."""
    raw: dict[str, Any] = json.loads((bundle / "manifest.json").read_text())
    raw["version"] = version
    del raw["files"]["per_user.npz"]
    for rung, factor in scaled.items():
        for name, value in raw["metrics"]["rungs"][rung].items():
            if isinstance(value, dict):
                raw["metrics"]["rungs"][rung][name] = {key: factor * entry for key, entry in value.items()}
    (into / version).mkdir(parents=True)
    (into / version / "manifest.json").write_text(json.dumps(raw))
    return into / version


def test_a_bundle_carries_its_report_and_its_figures_per_user_under_seal(first: Path) -> None:
    manifest = read_manifest(first)
    verify(first, manifest)
    assert {"report.html", "per_user.npz"} <= set(manifest.files)
    page = (first / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert first.name in page
    kept = PerUser.load(first / "per_user.npz")
    assert len(kept) == manifest.metrics["split"]["cases"]
    mean = manifest.metrics["rungs"]["CF"]["ndcg@20"]["mean"]
    assert kept.values["CF"]["ndcg@20"].mean() == pytest.approx(mean, rel=1e-5)
    assert manifest.gate["passed"]
    assert "passed" in terrace("bundle", "show", str(first)).stdout


def test_worse_than_the_previous_is_refused_and_leaves_nothing(
    first: Path, files: tuple[str, ...], tmp_path: Path
) -> None:
    """Exit code 1, both values and what to do, a report of what was refused, no bundle and no draft."""
    better = renamed(first, "20010101T000000Z", tmp_path / "elsewhere", CF=3.0)
    bundles, report = tmp_path / "bundles", tmp_path / "out" / "report.html"
    where = ("--bundles", str(bundles), "--previous", str(better), "--report", str(report))
    done = terrace("build", *files, *where, expect=1)
    assert "failed: as good as 20010101T000000Z" in done.stderr
    assert "--gate" in " ".join(done.stderr.split())
    assert "nothing was published" in done.stderr
    assert not bundles.exists() or not list(bundles.iterdir())
    assert "Refused: not as good as 20010101T000000Z" in report.read_text()


def test_a_marked_bundle_is_published_and_says_so(first: Path, files: tuple[str, ...], tmp_path: Path) -> None:
    """The newest bundle of the folder is the one it is held against."""
    bundles = tmp_path / "bundles"
    renamed(first, "20010101T000000Z", bundles, CF=3.0)
    done = terrace("build", *files, "--bundles", str(bundles), "--gate", "mark")
    assert "published" in done.stdout
    made = newest_bundle(bundles)
    assert read_manifest(made).gate["action"] == "mark"
    assert "published with a mark" in " ".join(terrace("bundle", "show", str(made)).stdout.split())
    assert "Published with a mark" in (made / "report.html").read_text()


def test_bundles_are_compared_by_folder_or_version(first: Path, tmp_path: Path) -> None:
    other = renamed(first, "20010101T000000Z", tmp_path, CF=0.5)
    report = tmp_path / "changes.html"
    where = ("--bundles", str(tmp_path), "--report", str(report))
    found = json.loads(terrace("compare", "20010101T000000Z", str(first), "--json", *where).stdout)
    assert found["rungs"]["CF"]["ndcg@20"]["new"] == pytest.approx(2 * found["rungs"]["CF"]["ndcg@20"]["old"])
    assert found["rungs"]["CF"]["ndcg@20"]["low"] > 0
    assert f"{first.name} against 20010101T000000Z" in report.read_text()
    same = terrace("compare", str(first), str(first)).stdout
    assert "Paired" in same
    assert "+0.0000" in same
    assert terrace("compare", str(other), "19990101T000000Z", expect=2).stderr.count("19990101T000000Z") == 1


def test_a_report_that_cannot_be_written_is_said_before_anything_is_built(
    files: tuple[str, ...], tmp_path: Path
) -> None:
    blocked = tmp_path / "a-file"
    blocked.write_text("")
    done = terrace("evaluate", *files, "--report", str(blocked / "report.html"), expect=2)
    assert "cannot be written" in done.stderr
    assert "read from" not in done.stderr
