"""What is stored of a user comes back as it went in, to that user alone."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from core.events import (
    VERSION,
    decode_events,
    decode_seen,
    encode_event,
    encode_seen,
    item_hash,
    item_hashes,
    user_hash,
)
from core.strings import load_strings, save_strings
from core.types import UserEvent

if TYPE_CHECKING:
    from pathlib import Path

ADA, BOB = user_hash("ada"), user_hash("bob")
EVENT = UserEvent("item-7", "view", 1_700_000_000.0, 2.5)
hashes = st.integers(0, 2**32 - 1)
seen_items = st.lists(hashes, max_size=20).map(lambda items: np.array(items, np.uint32))
events = st.builds(
    UserEvent,
    item_id=st.text(min_size=1, max_size=40),
    event_type=st.text(max_size=20),
    timestamp_s=st.integers(0, 4_000_000_000_000).map(lambda ms: ms / 1000),
    value=st.floats(-1e6, 1e6, width=32),
)


def flaw_of(stored: bytes, user: int = ADA) -> str:
    """Of a value between two readable ones, which are read all the same."""
    whole = encode_event(EVENT, user)
    read, flaws = decode_events([whole, stored, whole], user)
    assert read == (EVENT, EVENT)
    (flaw,) = flaws
    return flaw


def flipped(stored: bytes, bit: int) -> bytes:
    return (int.from_bytes(stored, "little") ^ 1 << bit % (8 * len(stored))).to_bytes(len(stored), "little")


@given(st.lists(events, max_size=5), hashes)
def test_decoding_undoes_encoding(some: list[UserEvent], user: int) -> None:
    assert decode_events([encode_event(event, user) for event in some], user) == (tuple(some), ())


@given(events, st.integers(0, 10_000))
def test_no_flipped_bit_of_an_event_goes_unnoticed(event: UserEvent, bit: int) -> None:
    assert decode_events([flipped(encode_event(event, ADA), bit)], ADA)[0] == ()


@given(events, st.integers(0, 100))
def test_no_cut_event_goes_unnoticed(event: UserEvent, length: int) -> None:
    stored = encode_event(event, ADA)
    assume(length < len(stored))

    assert flaw_of(stored[:length]) in {"corrupt", "version", "foreign"}


def test_an_event_of_another_user_is_foreign() -> None:
    assert flaw_of(encode_event(EVENT, BOB)) == "foreign"


def test_an_event_of_another_format_is_known_as_such() -> None:
    assert flaw_of(bytes([VERSION + 1]) + encode_event(EVENT, ADA)[1:]) == "version"


@pytest.mark.parametrize("stored", [b"", b"short", encode_event(EVENT, ADA)[:-1], encode_event(EVENT, ADA) + b"x"])
def test_what_is_no_event_is_corrupt(stored: bytes) -> None:
    assert flaw_of(stored) == "corrupt"


def test_text_that_is_not_utf_8_is_corrupt_though_its_checksum_is_right() -> None:
    body = encode_event(EVENT, ADA)[:-4].replace(b"item-7", b"item-\xff")

    assert flaw_of(body + zlib.crc32(body, zlib.crc32(bytes([VERSION]), ADA)).to_bytes(4, "little")) == "corrupt"


def test_a_type_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="event_type: 300 bytes, at most 255"):
        encode_event(UserEvent("i", "x" * 300, 0.0), ADA)


@given(seen_items, seen_items, hashes)
def test_seen_items_that_were_appended_one_after_the_other_come_back_in_order(
    first: np.ndarray, then: np.ndarray, user: int
) -> None:
    stored = encode_seen(first, user) + encode_seen(then, user)

    read, flaws = decode_seen(stored, user)

    assert read.tolist() == [*first.tolist(), *then.tolist()]
    assert not flaws


@given(seen_items, st.integers(0, 10_000))
def test_a_flipped_bit_costs_that_seen_item_alone(items: np.ndarray, bit: int) -> None:
    assume(len(items))
    damaged = bit % (64 * len(items)) // 64

    read, flaws = decode_seen(flipped(encode_seen(items, ADA), bit), ADA)

    assert read.tolist() == np.delete(items, damaged).tolist()
    assert flaws in (["corrupt"], ["foreign"])


def test_flaws_of_seen_items_are_told_apart_and_the_others_are_read() -> None:
    ada, bob = (encode_seen(item_hashes(["a", "b"]), user) for user in (ADA, BOB))
    stored = {"bob's": bob, "mixed": ada + bob, "cut": ada[:-1], "old": b"\1\2\3\4" * 5}

    read = {name: decode_seen(value, ADA) for name, value in stored.items()}

    assert {name: flaws for name, (_, flaws) in read.items()} == {
        "bob's": ["foreign"],
        "mixed": ["corrupt"],
        "cut": ["corrupt"],
        "old": ["foreign", "corrupt"],
    }
    assert {name: len(items) for name, (items, _) in read.items()} == {"bob's": 0, "mixed": 2, "cut": 1, "old": 0}


def test_hashes_of_many_are_the_hashes_of_each() -> None:
    ids = ["a", "ß", "21232"]
    assert [item_hash(i) for i in ids] == item_hashes(ids).tolist()


def test_strings_come_back_with_their_accents_and_empty_ones(tmp_path: Path) -> None:
    values = ["", "naïve", "漢字", "plain", ""]
    save_strings(tmp_path / "titles", values)
    assert load_strings(tmp_path / "titles") == values
    save_strings(tmp_path / "none", [])
    assert load_strings(tmp_path / "none") == []
