"""A bundle that is not whole is refused with the name of the file and what to do."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from core.contents import Contents
from core.manifest import BundleError, Manifest, finished_bundles, newest_bundle, read_manifest, verify
from offline.bundle_folder import drafting, open_draft, publish, seal, version_at

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = Manifest(
    version="v1",
    built_at="2026-01-01T00:00:00+00:00",
    as_of_s=12.5,
    code_version="0.1.0",
    items=3,
    event_weights={"buy": 5.0},
    seen_types=("buy",),
    event_types=("buy", "view"),
    generators={"popularity": {"limit": 10}},
    cf={},
)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "v1"
    (folder / "part").mkdir(parents=True)
    (folder / "part" / "a.bin").write_bytes(b"12345")
    (folder / "b.json").write_text("{}")
    seal(folder, MANIFEST)
    return folder


def test_a_sealed_bundle_is_whole_and_says_what_it_is(bundle: Path) -> None:
    found = read_manifest(bundle)
    verify(bundle, found)
    assert set(found.files) == {"part/a.bin", "b.json"}
    assert replace(found, files={}, contents=Contents()) == MANIFEST
    assert found.type_code == {"buy": 1, "view": 2}


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"nowhere: no such bundle folder. Build one"):
        read_manifest(tmp_path / "nowhere")


def test_a_bundle_that_was_never_finished(bundle: Path) -> None:
    (bundle / "manifest.json").unlink()
    with pytest.raises(BundleError, match=r"manifest.json: missing, so this bundle was never finished"):
        read_manifest(bundle)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{not json", "not readable as JSON"),
        ("[]", "format_version is None"),
        ('{"format_version": 99}', "format_version is 99, this program reads 1"),
        ('{"format_version": 1}', "a field is missing"),
    ],
)
def test_a_manifest_that_cannot_be_used(bundle: Path, text: str, said: str) -> None:
    (bundle / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match=said):
        read_manifest(bundle)


def test_a_manifest_with_a_field_too_many(bundle: Path) -> None:
    raw = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps(raw | {"surprise": 1}))
    with pytest.raises(BundleError, match="surprise"):
        read_manifest(bundle)


def test_a_missing_file_is_named(bundle: Path) -> None:
    (bundle / "part" / "a.bin").unlink()
    with pytest.raises(BundleError, match=r"part/a.bin: missing"):
        verify(bundle, read_manifest(bundle))


def test_a_shorter_file_is_named(bundle: Path) -> None:
    (bundle / "part" / "a.bin").write_bytes(b"1234")
    with pytest.raises(BundleError, match=r"part/a.bin: 4 bytes, the manifest says 5"):
        verify(bundle, read_manifest(bundle))


def test_a_changed_file_is_named(bundle: Path) -> None:
    (bundle / "part" / "a.bin").write_bytes(b"12346")
    with pytest.raises(BundleError, match=r"part/a.bin: its SHA-256"):
        verify(bundle, read_manifest(bundle))


@pytest.mark.parametrize("name", ["stray.npy", "part/stray.npy", "part/.hidden", "other/manifest.json"])
def test_a_file_that_is_not_listed_is_named(bundle: Path, name: str) -> None:
    (bundle / name).parent.mkdir(exist_ok=True)
    (bundle / name).write_bytes(b"1")
    with pytest.raises(BundleError, match=rf"{name}: not in the manifest's list of files. Remove it"):
        verify(bundle, read_manifest(bundle))


def test_an_empty_list_of_files_is_no_bundle(bundle: Path) -> None:
    raw = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps(raw | {"files": {}}))
    with pytest.raises(BundleError, match=r"b.json: not in the manifest's list of files.*1 more .* wrong: part/a.bin"):
        verify(bundle, read_manifest(bundle))


@pytest.mark.parametrize("name", ["b.json", "part", "manifest.json"])
def test_a_symbolic_link_is_refused_whatever_it_leads_to(bundle: Path, name: str) -> None:
    (bundle / name).rename(bundle.parent / "elsewhere")
    (bundle / name).symlink_to(bundle.parent / "elsewhere")
    with pytest.raises(BundleError, match=rf"{name}: a symbolic link"):
        verify(bundle, read_manifest(bundle))


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "part/../../secret", "part//a.bin", "", "manifest.json"])
def test_a_listed_file_outside_the_bundle_is_refused_by_name(bundle: Path, name: str) -> None:
    raw = json.loads((bundle / "manifest.json").read_text())
    raw["files"][name] = raw["files"]["b.json"]
    (bundle / "manifest.json").write_text(json.dumps(raw))
    with pytest.raises(BundleError, match="is no file of this bundle") as refused:
        read_manifest(bundle)
    assert repr(name) in str(refused.value)


def test_the_newest_finished_bundle_is_found_and_drafts_are_not(tmp_path: Path) -> None:
    for version in ("20260101T000000Z", "20260301T000000Z"):
        draft = open_draft(tmp_path, version)
        seal(draft, MANIFEST)
        publish(draft, tmp_path, version)
    seal(open_draft(tmp_path, "20270101T000000Z"), MANIFEST)
    assert newest_bundle(tmp_path).name == "20260301T000000Z"
    assert [path.name for path in finished_bundles(tmp_path)] == ["20260301T000000Z", "20260101T000000Z"]


def test_no_bundle_at_all(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="holds no finished bundle"):
        newest_bundle(tmp_path)


def test_a_version_is_never_published_twice(tmp_path: Path) -> None:
    version = version_at(0.0)
    draft = open_draft(tmp_path, version)
    seal(draft, MANIFEST)
    publish(draft, tmp_path, version)
    with pytest.raises(BundleError, match="19700101T000000Z: this version exists already"):
        open_draft(tmp_path, version)


def test_what_an_interrupted_build_left_is_gone_from_the_next_draft(tmp_path: Path) -> None:
    (open_draft(tmp_path, "v2") / "half.npy").write_bytes(b"1")
    assert list(open_draft(tmp_path, "v2").iterdir()) == []


@pytest.mark.parametrize("stopped_by", [KeyboardInterrupt, OSError])
def test_a_build_that_fails_leaves_no_draft(tmp_path: Path, stopped_by: type[BaseException]) -> None:
    def fails() -> None:
        with drafting(tmp_path, "v1") as draft:
            (draft / "half.npy").write_bytes(b"1")
            raise stopped_by

    with pytest.raises(stopped_by):
        fails()
    assert list(tmp_path.iterdir()) == []


def test_a_draft_that_is_published_stays(tmp_path: Path) -> None:
    with drafting(tmp_path, "v1") as draft:
        seal(draft, MANIFEST)
        publish(draft, tmp_path, "v1")
    assert [path.name for path in tmp_path.iterdir()] == ["v1"]


@pytest.mark.parametrize("name", ["gate", "search"])
def test_a_bundle_from_before_there_was_such_a_field_is_read(bundle: Path, name: str) -> None:
    raw = json.loads((bundle / "manifest.json").read_text())
    del raw[name]
    (bundle / "manifest.json").write_text(json.dumps(raw))
    assert not getattr(read_manifest(bundle), name)
