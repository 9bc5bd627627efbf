"""An index file is read and checked without hnswlib; what passes cannot crash a search."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import hnswlib
import numpy as np
import pytest

from candidate_gen.hnsw_file import Head, check_graph
from core.manifest import BundleError

if TYPE_CHECKING:
    from pathlib import Path

COUNT, WIDTH, LINKS = 500, 8, 4
HEAD = struct.Struct("=6QiI3QdQ")
STRIDE = 4 + 8 * LINKS + 4 * WIDTH + 8


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    index = hnswlib.Index("ip", WIDTH)
    index.init_index(COUNT, M=LINKS, random_seed=1)
    index.add_items(np.random.default_rng(0).normal(size=(COUNT, WIDTH)), num_threads=1)
    path = tmp_path_factory.mktemp("index") / "index.hnsw"
    index.save_index(str(path))
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path, saved: bytes) -> Path:
    (tmp_path / "index.hnsw").write_bytes(saved)
    return tmp_path / "index.hnsw"


def test_the_head_is_that_of_the_index_that_was_saved(path: Path) -> None:
    head = Head.read(path)
    assert (head.count, head.dimension, head.links, head.links_below) == (COUNT, WIDTH, LINKS, 2 * LINKS)
    assert head.top_level > 1, "the test needs levels"
    check_graph(path)


@pytest.mark.parametrize("kept", [0, 10, HEAD.size - 1, HEAD.size, HEAD.size + STRIDE, -1])
def test_a_file_that_was_cut_is_refused(path: Path, saved: bytes, kept: int) -> None:
    path.write_bytes(saved[:kept])
    with pytest.raises(BundleError, match=r"index\.hnsw"):
        check_graph(path)


def test_a_file_that_goes_on_is_refused(path: Path, saved: bytes) -> None:
    path.write_bytes(saved + b"\0\0\0\0")
    with pytest.raises(BundleError, match="it goes on behind"):
        check_graph(path)


@pytest.mark.parametrize("field", range(6))
@pytest.mark.parametrize("value", [0, 1, 1 << 20, 1 << 62])
def test_a_head_whose_parts_do_not_fit_each_other_is_refused(path: Path, saved: bytes, field: int, value: int) -> None:
    """But for the number of items that it had room for, which says nothing of those it has, and its first offset, 0."""
    parts = list(HEAD.unpack_from(saved))
    same = parts[field] == value
    parts[field] = value
    path.write_bytes(HEAD.pack(*parts) + saved[HEAD.size :])
    if field == 1 or same:
        check_graph(path)
        return
    with pytest.raises(BundleError, match=r"index\.hnsw"):
        check_graph(path)


ITEM = HEAD.size + 7 * STRIDE
UPPER = HEAD.size + COUNT * STRIDE


def upper_links(saved: bytes) -> int:
    """Where the links of the first item that is above level 0 begin."""
    at = UPPER
    while not struct.unpack_from("=I", saved, at)[0]:
        at += 4
    return at + 4


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (52, COUNT, "entry point"),
        (52, 0, "entry point"),
        (48, 9, "entry point"),
        (48, 0, "entry point"),
        (ITEM, 2 * LINKS + 1, "a link leads to an item that it does not have"),
        (ITEM, 1 << 16 | 1, "a link leads to an item that it does not have"),
        (ITEM + 4, COUNT, "a link leads to an item that it does not have"),
        (ITEM + 4 + 8 * LINKS, 0x7FC00000, "a vector is not finite"),
        (ITEM + STRIDE - 8, COUNT, "a label is none of those"),
        (ITEM + STRIDE - 8, 8, "two items have the same label"),
        (UPPER, 4, "the links of item 0 have no usable length"),
        ("above", COUNT, "a link leads to an item that it does not have"),
        ("above", "below", "a link of level 1 leads to an item that is not on it"),
    ],
)
def test_what_a_search_would_follow_into_nowhere_is_refused(
    path: Path, saved: bytes, at: int | str, value: int | str, said: str
) -> None:
    raw = bytearray(saved)
    if at == "above":
        start = upper_links(saved)
        struct.pack_into("=I", raw, start, 1)
        start += 4
    else:
        assert isinstance(at, int)
        start = at
    if value == "below":
        sizes, place = [], UPPER
        for _ in range(COUNT):
            (size,) = struct.unpack_from("=I", saved, place)
            sizes.append(size)
            place += 4 + size
        value = sizes.index(0)
    struct.pack_into("=I", raw, start, int(value))
    path.write_bytes(raw)
    with pytest.raises(BundleError, match=said):
        check_graph(path)
