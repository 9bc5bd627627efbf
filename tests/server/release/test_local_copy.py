from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from core.release import Release
from server.release.local_copy import LocalCopy

if TYPE_CHECKING:
    from pathlib import Path

RELEASE = Release.of("v1").stage("v2", 0.1)


@pytest.fixture
def copy(tmp_path: Path) -> LocalCopy:
    return LocalCopy(tmp_path / "made" / "when" / "missing" / "release.json")


def test_what_was_written_last_is_read(copy: LocalCopy) -> None:
    copy.write(RELEASE)
    copy.write(RELEASE.promote())

    assert copy.read() == RELEASE.promote()
    assert [path.name for path in copy.path.parent.iterdir()] == ["release.json"]


def test_there_is_none_at_first_and_nobody_is_warned(copy: LocalCopy, caplog: pytest.LogCaptureFixture) -> None:
    assert copy.read() is None
    assert caplog.records == []


@pytest.mark.parametrize("damage", [b"", b"{", RELEASE.to_json().encode()[:-20], b"\xff", b'{"format_version": 2}'])
def test_a_damaged_copy_is_named_and_ignored(copy: LocalCopy, caplog: pytest.LogCaptureFixture, damage: bytes) -> None:
    copy.write(RELEASE)
    copy.path.write_bytes(damage)

    assert copy.read() is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert str(copy.path) in caplog.text


def test_a_folder_in_its_place_is_named_and_ignored(copy: LocalCopy, caplog: pytest.LogCaptureFixture) -> None:
    copy.path.mkdir(parents=True)

    assert copy.read() is None
    assert str(copy.path) in caplog.text


def test_a_write_that_fails_half_way_leaves_the_old_copy_and_no_draft(
    copy: LocalCopy, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy.write(RELEASE)

    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("server.release.local_copy.os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        copy.write(RELEASE.promote())

    assert copy.read() == RELEASE
    assert [path.name for path in copy.path.parent.iterdir()] == ["release.json"]
