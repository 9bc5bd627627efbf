"""Every file of a bundle, damaged in every way: never fit to be served, or of no consequence, and nobody crashes."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from core.manifest import read_manifest, write_manifest
from server.release.checks import check_bundle
from server.release.verify import verify_bundle
from tests.server.release.whole_bundle import copy, fit_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

RANDOM = random.Random(8)


def flipped(raw: bytes) -> bytes:
    """One bit of it is another, anywhere."""
    changed = bytearray(raw)
    changed[RANDOM.randrange(len(raw))] ^= 1 << RANDOM.randrange(8)
    return bytes(changed)


DAMAGE: Mapping[str, Callable[[bytes], bytes]] = {
    "truncated": lambda raw: raw[: len(raw) // 2],
    "empty": lambda _: b"",
    "random": lambda raw: RANDOM.randbytes(len(raw)),
    "one flipped bit": flipped,
}
WAYS = (*DAMAGE, "missing", "wrong sha")
NOT_NEEDED = frozenset({"model/features/content.npy"})
"""Files without which a bundle is another one, and whole."""
FLIPS = 2
"""How many bits of each file are flipped, one at a time, where the manifest fits the damage."""


def damage(folder: Path, name: str, way: str) -> None:
    """Damage one file, or what the manifest says of it."""
    path = folder / name
    if way == "wrong sha":
        manifest = read_manifest(folder)
        other = replace(manifest.files[name], sha256=manifest.files[name].sha256[::-1])
        write_manifest(folder, replace(manifest, files={**manifest.files, name: other}))
    elif way == "missing":
        path.unlink()
    else:
        path.write_bytes(DAMAGE[way](path.read_bytes()))


@pytest.mark.parametrize("way", WAYS)
def test_a_file_that_is_not_as_listed_is_named_before_anything_is_opened(sound: Path, tmp_path: Path, way: str) -> None:
    for name in read_manifest(sound).files:
        folder = copy(sound, tmp_path / "damaged")
        damage(folder, name, way)
        reports: list[Mapping[str, Any]] = []

        assert not check_bundle(folder, None, reports.append)
        assert reports[-1]["check"] == "files"
        assert str(folder / name) in reports[-1]["text"]
        shutil.rmtree(folder)


@pytest.mark.parametrize("way", WAYS)
def test_a_process_that_asks_for_the_checks_lives_on_and_has_the_name_of_the_file(bundle: Path, way: str) -> None:
    damage(bundle, "generators/ann/index.hnsw", way)

    *before, files = verify_bundle(bundle)
    assert [(check.name, check.passed) for check in before] == [("signature", True)]
    assert (files.name, files.passed) == ("files", False)
    assert str(bundle / "generators/ann/index.hnsw") in files.text


class Forked:
    """Verifies bundles, each in a process that may die; see ``forked_checks.py``."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.server.release.forked_checks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __call__(self, folder: Path) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{folder}\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def forked() -> Iterator[Forked]:
    made = Forked()
    yield made
    made.close()


def test_a_sound_bundle_passes_in_a_fork_too(sound: Path, forked: Forked) -> None:
    found = forked(sound)
    assert (found["check"], found["passed"], found["died_of"]) == ("golden", True, None)


@pytest.mark.parametrize("way", ["truncated", "empty", "random", "missing"])
def test_damage_that_the_manifest_was_made_to_fit_is_refused_by_a_later_check(
    sound: Path, tmp_path: Path, forked: Forked, way: str
) -> None:
    for name in read_manifest(sound).files:
        folder = copy(sound, tmp_path / "damaged")
        damage(folder, name, way)
        fit_manifest(folder)
        found = forked(folder)

        assert found["died_of"] is None, (name, found)
        if way == "missing" and name in NOT_NEEDED:
            assert (found["check"], found["passed"]) == ("golden", True)
        else:
            assert (found["passed"], found["check"] == "files") == (False, False), (name, found)
            assert str(folder) in found["text"]
        shutil.rmtree(folder)


def test_a_flipped_bit_that_the_manifest_was_made_to_fit_is_refused_or_changes_no_golden_answer(
    sound: Path, tmp_path: Path, forked: Forked
) -> None:
    """Low bits of a float change nothing that anybody could see; whatever the bit, no process dies of it."""
    refused_by = set()
    for name in [name for name in read_manifest(sound).files for _ in range(FLIPS)]:
        folder = copy(sound, tmp_path / "damaged")
        damage(folder, name, "one flipped bit")
        fit_manifest(folder)
        found = forked(folder)

        assert found["died_of"] is None, (name, found)
        assert found["check"] != "files"
        assert found["check"] == "golden" or not found["passed"], (name, found)
        refused_by |= set() if found["passed"] else {found["check"]}
        shutil.rmtree(folder)
    assert {"arrays", "loads"} <= refused_by
