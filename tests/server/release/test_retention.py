"""What `terrace bundle prune` removes, and what it never does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.release import Release, Slot
from server.release.bundle_store import open_store
from server.release.retention import Surplus, release_marks, surplus
from tests.contracts.bundle_store_contract import write_bundle

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from server.release.bundle_store import BundleStore

DAYS = tuple(f"202601{day:02}T020000Z" for day in range(1, 9))


class Listed:
    """A store as ``surplus`` sees it."""

    def __init__(self, versions: Sequence[str], unfinished: Sequence[str]) -> None:
        self._versions, self._unfinished = sorted(versions, reverse=True), sorted(unfinished, reverse=True)

    def versions(self) -> list[str]:
        return self._versions

    def unfinished(self) -> list[str]:
        return self._unfinished


def listed(versions: Sequence[str], unfinished: Sequence[str] = ()) -> BundleStore:
    return Listed(versions, unfinished)  # type: ignore[return-value]


def prune(store: BundleStore, keep: int, protected: Collection[str]) -> Surplus:
    found = surplus(store, keep, protected)
    for version in found.to_remove:
        store.remove(version)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for version in DAYS[:4]:
        write_bundle(tmp_path / version, version)
    return tmp_path


def test_the_newest_stay_and_the_rest_goes(folder: Path) -> None:
    store = open_store(str(folder))

    assert prune(store, 2, ()) == Surplus(DAYS[:2], (), ())
    assert store.versions() == [DAYS[3], DAYS[2]]


def test_what_is_protected_stays_whatever_its_age(folder: Path) -> None:
    store = open_store(str(folder))

    assert prune(store, 1, {DAYS[0], "not there"}) == Surplus(DAYS[1:3], (), DAYS[:1])
    assert store.versions() == [DAYS[3], DAYS[0]]


def test_a_look_removes_nothing(folder: Path) -> None:
    store = open_store(str(folder))

    assert surplus(store, 1, ()).versions == DAYS[:3]
    assert store.versions() == list(reversed(DAYS[:4]))


def test_uploads_that_nobody_finishes_any_more_go_and_younger_ones_and_other_folders_stay(folder: Path) -> None:
    for name in (DAYS[0], DAYS[3]):
        (folder / name / "manifest.json").unlink()
    (folder / "0-notes").mkdir()
    store = open_store(str(folder))

    assert prune(store, 1, ()) == Surplus((DAYS[1],), (DAYS[0],), ())
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["0-notes", *DAYS[2:4]]


def test_at_least_one_bundle_stays(folder: Path) -> None:
    with pytest.raises(ValueError, match="keep is 0"):
        prune(open_store(str(folder)), 0, ())


def test_an_empty_store_has_nothing_to_remove(tmp_path: Path) -> None:
    assert surplus(open_store(str(tmp_path)), 1, ()) == Surplus((), (), ())


versions = st.lists(st.sampled_from(DAYS), unique=True)


@given(versions, versions, st.integers(1, 9), st.frozensets(st.sampled_from(DAYS)))
def test_whatever_there_is_the_newest_and_the_protected_are_never_surplus(
    finished: list[str], others: list[str], keep: int, protected: frozenset[str]
) -> None:
    unfinished = [version for version in others if version not in finished]
    found = surplus(listed(finished, unfinished), keep, protected)
    gone = {*found.versions, *found.unfinished}
    stays = [version for version in finished if version not in gone]

    assert not gone & protected
    assert sorted(finished, reverse=True)[:keep] == sorted(stays, reverse=True)[: min(keep, len(finished))]
    assert len(stays) <= keep + len(protected)
    assert not stays or all(version < max(stays) for version in gone)


def test_every_version_that_a_release_document_names_has_a_mark() -> None:
    release = Release.of("a").stage("b")
    assert release_marks(None) == {}
    assert release_marks(release) == {"a": "live", "b": "staged"}
    assert release_marks(release.with_share(0.1)) == {"a": "live", "b": "candidate"}
    assert release_marks(release.promote()) == {"b": "live", "a": "previous"}
    assert release_marks(release.promote().stage("c", 0.5)) == {"b": "live", "a": "previous", "c": "candidate"}


def test_the_shadow_of_the_live_version_is_a_candidate_too() -> None:
    release = replace(Release.of("a"), slots={Slot.BLUE: "a", Slot.GREEN: "b"}).with_shadow(0.1)

    assert release_marks(release) == {"a": "live", "b": "candidate"}
