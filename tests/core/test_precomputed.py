from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.events import UnreadableError, user_hash
from core.precomputed import LIST_FORMAT, decode_list, encode_list

ADA, BOB = user_hash("ada"), user_hash("bob")
ITEMS = 1_000
NOW_S = 1_700_000_000.0
WHOLE = encode_list("v1", ADA, np.arange(50, 0, -1, dtype=np.int32), np.linspace(3, -2, 50, dtype=np.float32), NOW_S)
lists = st.lists(st.integers(0, ITEMS - 1), unique=True, max_size=100)
finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


def flaw_of(stored: bytes, version: str = "v1", user: int = ADA, items: int = ITEMS) -> str:
    with pytest.raises(UnreadableError) as caught:
        decode_list(stored, version, user, items)
    return caught.value.flaw


@given(rows=lists, data=st.data(), created_ms=st.integers(0, 2**42), user=st.text(), version=st.text())
def test_a_list_comes_back_in_its_order_with_its_time(
    rows: list[int], data: st.DataObject, created_ms: int, user: str, version: str
) -> None:
    scores = sorted(data.draw(st.lists(finite, min_size=len(rows), max_size=len(rows))), reverse=True)
    stored = encode_list(
        version, user_hash(user), np.array(rows, np.int32), np.array(scores, np.float32), created_ms / 1000
    )

    found = decode_list(stored, version, user_hash(user), ITEMS)

    assert found.rows.tolist() == rows
    assert found.rows.dtype == np.int32
    assert found.scores.dtype == np.float32
    assert found.created_s == created_ms / 1000
    assert np.isfinite(found.scores).all()
    assert (np.diff(found.scores) <= 0).all()


@given(st.lists(finite, min_size=1, max_size=100))
@example([3.4028234663852886e38, 1.0])
@example([1e-45])
@example([0.0, -0.0])
@example([0.3, 1e-7])
def test_a_score_is_off_by_a_two_thousandth_at_most_unless_it_is_nothing_beside_the_largest(
    values: list[float],
) -> None:
    scores = np.sort(np.array(values, np.float32))[::-1]
    stored = encode_list("v1", ADA, np.arange(len(scores), dtype=np.int32), scores, NOW_S)

    found = decode_list(stored, "v1", ADA, ITEMS).scores.astype(np.float64)

    smallest = np.abs(scores).max() * 2.0**-38 + 2.0**-149
    assert (np.abs(found - scores) <= np.maximum(np.abs(scores) * 2.0**-11, smallest)).all()


def test_a_list_with_any_flipped_bit_is_refused() -> None:
    for bit in range(8 * len(WHOLE)):
        damaged = bytearray(WHOLE)
        damaged[bit // 8] ^= 1 << bit % 8
        assert flaw_of(bytes(damaged)) in {"corrupt", "version"}


@given(st.integers(0, len(WHOLE) - 1))
def test_a_cut_list_is_refused(length: int) -> None:
    assert flaw_of(WHOLE[:length]) == "corrupt"


@given(st.binary(min_size=1, max_size=700))
def test_what_stands_behind_a_list_is_damage(more: bytes) -> None:
    assert flaw_of(WHOLE + more) == "corrupt"


@given(st.binary(max_size=700))
def test_anything_else_is_refused(stored: bytes) -> None:
    assert flaw_of(stored) in {"corrupt", "version"}


def test_the_list_of_another_user_or_bundle_is_refused() -> None:
    assert flaw_of(WHOLE, user=BOB) == "foreign"
    assert flaw_of(WHOLE, version="v2") == "version"


def test_a_list_of_another_format_is_refused_as_such() -> None:
    other = WHOLE[:2] + bytes([LIST_FORMAT + 1]) + WHOLE[3:-4]

    assert flaw_of(other + struct.pack("<I", zlib.crc32(other))) == "version"


def test_a_list_with_a_row_that_the_catalogue_does_not_have_is_damaged() -> None:
    assert len(decode_list(WHOLE, "v1", ADA, 51).rows) == 50
    assert flaw_of(WHOLE, items=50) == "corrupt"
    assert flaw_of(WHOLE, items=0) == "corrupt"


def test_a_count_that_does_not_fit_the_length_is_damage_though_the_checksum_is_right() -> None:
    other = WHOLE[:12] + struct.pack("<I", 49) + WHOLE[16:-4]

    assert flaw_of(other + struct.pack("<I", zlib.crc32(other))) == "corrupt"


def test_an_empty_list_is_a_list() -> None:
    stored = encode_list("v1", ADA, np.empty(0, np.int32), np.empty(0, np.float32), NOW_S)

    assert len(decode_list(stored, "v1", ADA, 0).rows) == 0


@pytest.mark.parametrize(
    ("rows", "scores", "named"),
    [
        ([1, 2], [1.0], "2,"),
        ([1, 1], [1.0, 0.5], "twice"),
        ([-1], [1.0], "negative"),
        ([1], [np.nan], "finite"),
        ([1], [np.inf], "finite"),
        ([1, 2], [0.5, 1.0], "higher"),
    ],
)
def test_what_is_no_list_cannot_be_stored(rows: list[int], scores: list[float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        encode_list("v1", ADA, np.array(rows, np.int32), np.array(scores, np.float32), NOW_S)


def test_a_hundred_rows_take_628_bytes() -> None:
    assert len(encode_list("v1", ADA, np.arange(100, dtype=np.int32), np.zeros(100, np.float32), NOW_S)) == 628
