"""Keys of any user: both in one slot of a Cluster, as servers and redis-py compute it, and nobody else's."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from redis.crc import key_slot

from server.store.user_store import RedisUserStore

# many braces and endings of our own, since that is where keys could meet
ids = st.lists(st.sampled_from(["{", "}", ":", " ", "é", "hex", "events", "seen", "7d", "a"]), min_size=1).map("".join)
ids |= st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1)
STORE = RedisUserStore("redis://localhost", "ns", ())


@given(ids)
@example("}")
@example("{}")
def test_both_keys_of_a_user_have_one_slot_which_is_not_that_of_all(user_id: str) -> None:
    events, seen = (key.encode() for key in STORE._keys(user_id))

    assert key_slot(events) == key_slot(seen)
    assert events[events.index(b"{") + 1] != ord("}")  # a tag, and no empty one


@given(ids, ids)
@example("}", "7d")
@example("}", "7d}:hex")
def test_no_two_users_share_a_key(one: str, other: str) -> None:
    assert one == other or not set(STORE._keys(one)) & set(STORE._keys(other))


@pytest.mark.parametrize("user_id", ["ada", "user-17", "a:b", "a b", "ü", "a}b", "{a"])
def test_keys_of_ordinary_ids_are_what_they_always_were(user_id: str) -> None:
    key = f"terrace:ns:user:{{{user_id}}}"

    assert STORE._keys(user_id) == (f"{key}:events", f"{key}:seen")
