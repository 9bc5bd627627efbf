"""Events come back from the store as they went in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.events import decode_events, encode_event, item_hash, item_hashes
from core.strings import load_strings, save_strings
from core.types import UserEvent

if TYPE_CHECKING:
    from pathlib import Path

events = st.builds(
    UserEvent,
    item_id=st.text(min_size=1, max_size=40),
    event_type=st.text(max_size=20),
    timestamp_s=st.integers(0, 4_000_000_000_000).map(lambda ms: ms / 1000),
    value=st.floats(-1e6, 1e6, width=32),
)


@given(st.lists(events, max_size=5))
def test_decoding_undoes_encoding(some: list[UserEvent]) -> None:
    assert tuple(some) == decode_events([encode_event(event) for event in some])


@pytest.mark.parametrize("value", [b"", b"short", b"\xff" * 30])
def test_what_is_no_event_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode_events([value])


def test_a_type_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="event_type: 300 bytes, at most 255"):
        encode_event(UserEvent("i", "x" * 300, 0.0))


def test_hashes_of_many_are_the_hashes_of_each() -> None:
    ids = ["a", "ß", "21232"]
    assert [item_hash(i) for i in ids] == item_hashes(ids).tolist()


def test_strings_come_back_with_their_accents_and_empty_ones(tmp_path: Path) -> None:
    values = ["", "naïve", "漢字", "plain", ""]
    save_strings(tmp_path / "titles", values)
    assert load_strings(tmp_path / "titles") == values
    save_strings(tmp_path / "none", [])
    assert load_strings(tmp_path / "none") == []
