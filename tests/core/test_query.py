"""How events and requests become a query of one bundle."""

from __future__ import annotations

import sys
import unicodedata
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from core.catalogue import Catalogue
from core.events import item_hash, item_hashes
from core.manifest import Manifest
from core.query import MAX_HISTORY, LazyVector, Request, build_query, is_user_id
from core.types import UserEvent, UserState

N = 300
CATALOGUE = Catalogue(
    ids=[f"i{n}" for n in range(N)],
    available=np.ones(N, np.bool_),
    price=np.ones(N, np.float32),
    created_at=np.zeros(N, np.int64),
    category_ptr=np.zeros(N + 1, np.int32),
    category_idx=np.empty(0, np.int32),
    category_names=(),
    attributes={},
)
MANIFEST = Manifest(
    "v", "", 0.0, "", N, {"buy": 5.0, "look": 1.0, "hate": -1.0, "pass": 0.0}, ("buy",), ("buy", "look"), {}, {}
)
BUNDLE: Any = SimpleNamespace(catalogue=CATALOGUE, manifest=MANIFEST, encoder=None)


def event(item: int | str, kind: str, at_s: float) -> UserEvent:
    return UserEvent(item if isinstance(item, str) else f"i{item}", kind, at_s)


def ask(state: UserState | None = None, **wishes: Any) -> Any:
    return build_query(BUNDLE, Request(user_id="u", limit=5, **wishes), state or UserState(), 100.0)


def test_known_events_become_history_newest_first() -> None:
    """Unknown items, events of no weight and types that the tower has not met are handled, each in its way."""
    query = ask(
        UserState((event(7, "buy", 90), event("gone", "buy", 80), event(2, "new-kind", 70), event(3, "pass", 60)))
    )
    assert query.history.tolist() == [7, 2]
    assert query.history_age_s.tolist() == [10, 30]
    assert query.history_weight.tolist() == [5, 1]
    assert query.history_type.tolist() == [1, 0]


def test_what_the_caller_saw_joins_what_is_stored_and_counts_once() -> None:
    shared = event(4, "look", 95)
    query = ask(UserState((shared, event(5, "look", 50))), recent_events=(event(6, "buy", 97), shared))
    assert query.history.tolist() == [6, 4, 5]


def test_a_time_in_the_future_is_now() -> None:
    assert ask(UserState((event(1, "buy", 500),))).history_age_s.tolist() == [0]


@pytest.mark.parametrize(
    ("events", "history", "excluded"),
    [
        ([event(1, "hate", 90), event(1, "buy", 80)], [], [1]),
        ([event(1, "buy", 90), event(1, "hate", 80)], [1], []),
    ],
    ids=["changed their mind", "came back"],
)
def test_the_newest_word_on_an_item_counts(events: list[UserEvent], history: list[int], excluded: list[int]) -> None:
    query = ask(UserState(tuple(events)))
    assert query.history.tolist() == history
    assert query.exclude.tolist() == excluded


def test_excluding_an_item_does_not_make_the_user_forget_it() -> None:
    """What lies in the basket must not be offered, but says what goes with it."""
    query = ask(UserState((event(1, "buy", 90),)), exclude=("i1", "i2", "gone"))
    assert query.history.tolist() == [1]
    assert query.exclude.tolist() == [1, 2]


def test_a_long_history_is_cut_at_its_newest() -> None:
    events = tuple(event(n % N, "look", 90 - n / 100) for n in range(MAX_HISTORY + 30))
    query = ask(UserState(events))
    assert len(query.history) == MAX_HISTORY
    assert query.history[0] == 0


def test_seen_items_are_not_allowed_unless_repeats_are() -> None:
    """Also those that were consumed a moment ago, as the caller knows."""
    state = UserState((), item_hashes(["i3"]))
    recent = (event(4, "buy", 99), event(5, "look", 98))
    rows = np.arange(6, dtype=np.int32)
    assert ask(state, recent_events=recent).allows(rows).tolist() == [True, True, True, False, False, True]
    assert ask(state, recent_events=recent, allow_repeats=True).allows(rows).all()
    assert item_hash("i3") == CATALOGUE.hashes[3]


def test_once_calls_once() -> None:
    calls = []

    def vector(_: object) -> np.ndarray[Any, np.dtype[np.float32]]:
        calls.append(1)
        return np.ones(2, np.float32)

    once = LazyVector(vector)
    assert once() is once()
    assert calls == [1]


def test_a_user_id_is_any_text_but_control_characters() -> None:
    refused = {char for char in map(chr, range(sys.maxunicode + 1)) if not is_surrogate(char) and not is_user_id(char)}
    assert refused == {char for char in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(char) == "Cc"}
    assert not any(is_user_id(f"a{char}") or is_user_id(f"{char}a") for char in refused)


def is_surrogate(char: str) -> bool:
    return unicodedata.category(char) == "Cs"


@pytest.mark.parametrize(("char", "most"), [("a", 256), ("é", 128), ("岡", 85), ("\U0001f600", 64)])
def test_a_user_id_has_1_to_256_bytes(char: str, most: int) -> None:
    assert is_user_id(char * most)
    assert not is_user_id(char * (most + 1))
    assert not is_user_id("")
