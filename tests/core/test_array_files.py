"""Types and shapes of arrays are read from their heads, and hold for the whole file."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.array_files import describe_arrays
from core.contents import ArrayEntry, Contents, IndexEntry, ModelEntry
from core.manifest import BundleError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "array",
    [np.zeros((3, 0), np.float32), np.array(5), np.asfortranarray(np.ones((2, 3), ">i8")), np.array(["ab", "c"])],
    ids=["empty", "a number", "by columns, big-endian", "text"],
)
def test_an_array_has_the_type_and_shape_that_it_was_saved_with(tmp_path: Path, array: Any) -> None:
    np.save(tmp_path / "a.npy", array)
    assert describe_arrays(tmp_path / "a.npy") == {"": ArrayEntry(array.dtype.str, array.shape)}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_every_array_of_an_archive_is_described(tmp_path: Path, save: Any) -> None:
    save(tmp_path / "a.npz", x=np.zeros((2, 3), np.float32), y=np.ones(4, np.bool_))
    assert describe_arrays(tmp_path / "a.npz") == {"x": ArrayEntry("<f4", (2, 3)), "y": ArrayEntry("|b1", (4,))}


def saved(path: Path) -> bytes:
    np.save(path, np.arange(50, dtype=np.int32))
    return path.read_bytes()


@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_that_is_not_as_long_as_its_head_says_is_refused(tmp_path: Path, change: int) -> None:
    raw = saved(tmp_path / "a.npy")
    (tmp_path / "a.npy").write_bytes(raw[:change] if change < 0 else raw + b"\0")
    with pytest.raises(BundleError, match=rf"a\.npy: .*{200 + change} bytes of data, <i4 \[50\] has 200"):
        describe_arrays(tmp_path / "a.npy")


def test_objects_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(BundleError, match="needs pickle"):
        describe_arrays(tmp_path / "a.npy")


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_a_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match=name):
        describe_arrays(tmp_path / name)


def test_an_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", b"text")
    with pytest.raises(BundleError, match=r"a\.npz"):
        describe_arrays(tmp_path / "a.npz")


@given(at=st.integers(0, 127), byte=st.integers(0, 255))
def test_a_head_with_any_byte_changed_is_read_or_refused(
    at: int, byte: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.npy"
    raw = bytearray(saved(path))
    raw[at] = byte
    path.write_bytes(raw)
    try:
        (entry,) = describe_arrays(path).values()
    except BundleError:
        return
    assert np.load(path, allow_pickle=False).shape == entry.shape


def test_contents_are_the_same_after_json() -> None:
    value = ArrayEntry("FLOAT", (None, 3))
    contents = Contents(
        {"a.npz": {"x": ArrayEntry("<f4", (2, 3))}},
        {"i.hnsw": IndexEntry("ip", 3, 9)},
        {"m.onnx": ModelEntry(18, {"x": value}, {"y": value})},
    )
    assert Contents.read(**json.loads(json.dumps(asdict(contents)))) == contents
