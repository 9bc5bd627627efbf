"""What every bundle store promises; a test class inherits it and says where the store is."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import pytest

from core.manifest import BundleError, DamagedBundleError, digest, find_damage, read_manifest, write_manifest
from tests.server import toy

if TYPE_CHECKING:
    from pathlib import Path

    from server.release.bundle_copy import Progress
    from server.release.bundle_store import BundleStore

OLD, NEW = "20260101T020000Z", "20260102T020000Z"
CONTENT = {"catalogue/ids.bin": b"ids" * 1000, "empty.json": b"", "model/part/weights.bin": bytes(range(256)) * 100}
BUNDLE_BYTES = sum(map(len, CONTENT.values()))
SIGNATURE = b"signed"
DAMAGES = ("shorter", "longer", "changed", "missing", "foreign", "no JSON", "format")


class Place(Protocol):
    """Where a store keeps its files, beside the store."""

    def open(self) -> BundleStore:
        """A new store on it, as another process has one."""
        ...

    def write(self, name: str, content: bytes) -> None: ...

    def read(self, name: str) -> bytes: ...

    def delete(self, name: str) -> None: ...


def write_bundle(folder: Path, version: str = OLD, *, signed: bool = False) -> Path:
    """A bundle of three files, one of them empty; returns its folder."""
    for name, content in CONTENT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    files = {name: digest(folder / name) for name in CONTENT}
    write_manifest(folder, replace(toy.bundle().manifest, version=version, files=files))
    if signed:
        (folder / "manifest.sig").write_bytes(SIGNATURE)
    return folder


def is_whole(folder: Path) -> bool:
    return not find_damage(folder, read_manifest(folder))


class Interrupted(BaseException):
    """As Ctrl-C is."""


class BundleStoreContract:
    steps_of_a_push = len(CONTENT) + 2  # with signature and manifest

    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        raise NotImplementedError

    @pytest.fixture
    def store(self, place: Place) -> BundleStore:
        return place.open()

    @pytest.fixture
    def bundle(self, tmp_path: Path) -> Path:
        return write_bundle(tmp_path / "built" / OLD, signed=True)

    def test_a_new_store_is_empty(self, store: BundleStore) -> None:
        assert store.versions() == []
        assert store.unfinished() == []

    def test_a_bundle_comes_back_as_it_was_pushed(self, store: BundleStore, place: Place, bundle: Path) -> None:
        assert store.push(bundle) == OLD

        for reader in (store, place.open()):
            folder = reader.fetch(OLD)

            assert folder.name == OLD
            assert is_whole(folder)
            assert (folder / "manifest.json").read_bytes() == (bundle / "manifest.json").read_bytes()
            assert (folder / "manifest.sig").read_bytes() == SIGNATURE

    def test_what_a_bundle_is_can_be_read_without_fetching_it(self, store: BundleStore, tmp_path: Path) -> None:
        store.push(write_bundle(tmp_path / "a", OLD, signed=True))
        store.push(write_bundle(tmp_path / "b", NEW))

        assert [store.signed(version) for version in (OLD, NEW)] == [True, False]
        assert store.manifest(NEW) == read_manifest(tmp_path / "b")

    def test_the_newest_version_comes_first_whatever_was_pushed_last(self, store: BundleStore, tmp_path: Path) -> None:
        store.push(write_bundle(tmp_path / "b", NEW))
        store.push(write_bundle(tmp_path / "a", OLD))

        assert store.versions() == [NEW, OLD]

    def test_the_version_is_the_manifests_whatever_the_folder_is_called(
        self, store: BundleStore, tmp_path: Path
    ) -> None:
        assert store.push(write_bundle(tmp_path / "copied here")) == OLD
        assert store.versions() == [OLD]

    def test_a_version_is_never_pushed_twice(self, store: BundleStore, place: Place, bundle: Path) -> None:
        store.push(bundle)
        (bundle / "manifest.sig").write_bytes(b"another")

        with pytest.raises(BundleError, match=f"{OLD}: this version is there already and bundles never change"):
            place.open().push(bundle)

        assert (store.fetch(OLD) / "manifest.sig").read_bytes() == SIGNATURE

    def test_a_damaged_bundle_is_not_pushed(self, store: BundleStore, bundle: Path) -> None:
        (bundle / "model/part/weights.bin").write_bytes(b"other")

        with pytest.raises(DamagedBundleError, match=r"weights\.bin"):
            store.push(bundle)

        assert store.versions() == store.unfinished() == []

    def test_a_bundle_that_was_never_finished_is_not_pushed(self, store: BundleStore, bundle: Path) -> None:
        (bundle / "manifest.json").unlink()

        with pytest.raises(BundleError, match="was never finished"):
            store.push(bundle)

    def test_a_push_that_is_interrupted_anywhere_before_its_end_is_invisible(
        self, store: BundleStore, place: Place, bundle: Path
    ) -> None:
        for steps in range(1, self.steps_of_a_push):
            with pytest.raises(Interrupted):
                store.push(bundle, progress=_interrupt_after(steps))

            for reader in (store, place.open()):
                assert reader.versions() == [], steps
                with pytest.raises(BundleError, match=OLD):
                    reader.fetch(OLD)
        assert store.push(bundle) == OLD
        assert is_whole(store.fetch(OLD))

    def test_what_has_no_manifest_is_named_as_unfinished(self, store: BundleStore, place: Place, bundle: Path) -> None:
        store.push(bundle)
        place.delete(f"{OLD}/manifest.json")
        place.write(f"{NEW}/catalogue/ids.bin", b"1")

        assert place.open().versions() == []
        assert place.open().unfinished() == [NEW, OLD]

    def test_a_removed_bundle_is_gone_and_may_be_pushed_again(
        self, store: BundleStore, place: Place, bundle: Path
    ) -> None:
        store.push(bundle)
        store.remove(OLD)

        assert place.open().versions() == place.open().unfinished() == []
        with pytest.raises(BundleError, match=f"{OLD}.* bundle list"):
            place.open().download(OLD, bundle.parent / "elsewhere")
        assert store.push(bundle) == OLD

    def test_the_removal_of_one_bundle_leaves_the_others(self, store: BundleStore, tmp_path: Path) -> None:
        for version in (OLD, NEW):
            store.push(write_bundle(tmp_path / version, version))
        store.remove(NEW)

        assert store.versions() == [OLD]
        assert is_whole(store.fetch(OLD))

    def test_a_removal_that_was_interrupted_is_finished_by_the_next(
        self, store: BundleStore, place: Place, bundle: Path
    ) -> None:
        store.push(bundle)
        place.delete(f"{OLD}/manifest.json")
        place.open().remove(OLD)

        assert place.open().unfinished() == []

    def test_a_version_that_is_not_there_is_named(self, store: BundleStore, tmp_path: Path) -> None:
        for ask in (store.fetch, store.manifest, store.remove, lambda version: store.download(version, tmp_path / "x")):
            with pytest.raises(BundleError, match=NEW):
                ask(NEW)

    @pytest.mark.parametrize("version", ["", ".", "..", "../x", "/etc", "a/b", ".hidden", "x" * 200, "a\n", "ü"])
    def test_a_version_that_could_lead_elsewhere_is_refused(
        self, store: BundleStore, tmp_path: Path, version: str
    ) -> None:
        for ask in (store.fetch, store.manifest, store.signed, store.remove):
            with pytest.raises(BundleError, match="cannot be a version"):
                ask(version)
        with pytest.raises(BundleError, match="cannot be a version"):
            store.download(version, tmp_path / "x")
        with pytest.raises(BundleError, match="cannot be a version"):
            store.push(write_bundle(tmp_path / "y", version))

    def test_a_download_is_a_whole_copy_and_is_made_once(
        self, store: BundleStore, tmp_path: Path, bundle: Path
    ) -> None:
        store.push(bundle)
        done: list[tuple[int, int]] = []
        copy = store.download(OLD, tmp_path / "to", progress=lambda _, *step: done.append(step))

        assert copy == tmp_path / "to" / OLD
        assert is_whole(copy)
        assert done == [(1, 3), (2, 3), (3, 3)]
        with pytest.raises(BundleError, match="there already"):
            store.download(OLD, tmp_path / "to")

    def test_a_download_that_is_interrupted_leaves_nothing(
        self, store: BundleStore, tmp_path: Path, bundle: Path
    ) -> None:
        store.push(bundle)
        with pytest.raises(Interrupted):
            store.download(OLD, tmp_path / "to", progress=_interrupt_after(2))

        assert [path.name for path in (tmp_path / "to").iterdir()] == [".lock"]

    def test_a_download_finishes_what_a_killed_one_began(
        self, store: BundleStore, tmp_path: Path, bundle: Path
    ) -> None:
        store.push(bundle)
        (tmp_path / "to" / f".partial-{OLD}" / "catalogue").mkdir(parents=True)
        (tmp_path / "to" / f".partial-{OLD}" / "catalogue" / "ids.bin").write_bytes(b"half")

        assert is_whole(store.download(OLD, tmp_path / "to"))
        assert sorted(path.name for path in (tmp_path / "to").iterdir()) == [".lock", OLD]

    @pytest.mark.parametrize("how", DAMAGES)
    def test_a_bundle_that_was_damaged_in_the_store_is_not_copied(
        self, store: BundleStore, place: Place, tmp_path: Path, bundle: Path, how: str
    ) -> None:
        store.push(bundle)
        said = damage(place, how)

        with pytest.raises(BundleError, match=said) as refused:
            store.download(OLD, tmp_path / "to")

        assert f"{store.url}/{OLD}" in str(refused.value)
        assert [path.name for path in (tmp_path / "to").iterdir()] == [".lock"]


def _interrupt_after(steps: int) -> Progress:
    def progress(_what: str, done: int, _total: int) -> None:
        if done == steps:
            raise Interrupted

    return progress


def damage(place: Place, how: str) -> str:
    """Damage the stored bundle; what is said of it."""
    weights, manifest = f"{OLD}/model/part/weights.bin", f"{OLD}/manifest.json"
    content, raw = place.read(weights), json.loads(place.read(manifest))
    if how == "missing":
        place.delete(weights)
        return "weights.bin: missing, the manifest lists it"
    name, changed, said = {
        "shorter": (weights, content[:-1], "weights.bin: 25599 bytes instead"),
        "longer": (weights, content + b"1", "weights.bin: more than the 25600"),
        "changed": (weights, b"\xff" + content[1:], "weights.bin: its SHA-256"),
        "foreign": (manifest, json.dumps(raw | {"version": NEW}).encode(), f"is that of {NEW}"),
        "no JSON": (manifest, b"{", "manifest.json: not readable as JSON"),
        "format": (manifest, json.dumps(raw | {"format_version": 99}).encode(), "format_version is 99"),
    }[how]
    place.write(name, changed)
    return said
