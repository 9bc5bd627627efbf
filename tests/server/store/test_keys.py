"""Keys of any user: all in one slot of a Cluster, as servers and redis-py compute it, and nobody else's."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from redis.crc import key_slot

from server.store.user_keys import UserKeys

# many braces and endings of our own, since that is where keys could meet
ids = st.lists(st.sampled_from(["{", "}", ":", " ", "é", "hex", "events", "seen", "7d", "a"]), min_size=1).map("".join)
ids |= st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1)
KEYS = UserKeys("ns", "2026-01-01")


def all_of(user_id: str) -> tuple[str, ...]:
    return (*KEYS.events_and_seen(user_id), KEYS.precomputed(user_id))


@given(ids)
@example("}")
@example("{}")
def test_all_keys_of_a_user_have_one_slot_which_is_not_that_of_all(user_id: str) -> None:
    keys = [key.encode() for key in all_of(user_id)]

    assert len({key_slot(key) for key in keys}) == 1
    assert all(key[key.index(b"{") + 1] != ord("}") for key in keys)  # a tag, and no empty one


@given(ids, ids)
@example("}", "7d")
@example("}", "7d}:hex")
def test_no_two_users_share_a_key(one: str, other: str) -> None:
    assert one == other or not set(all_of(one)) & set(all_of(other))


@pytest.mark.parametrize("user_id", ["ada", "user-17", "a:b", "a b", "ü", "a}b", "{a"])
def test_keys_of_ordinary_ids_are_what_they_always_were(user_id: str) -> None:
    key = f"terrace:ns:user:{{{user_id}}}"

    assert KEYS.events_and_seen(user_id) == (f"{key}:events", f"{key}:seen")
    assert KEYS.precomputed(user_id) == f"terrace:ns:pre:2026-01-01:{{{user_id}}}"


@pytest.mark.parametrize(("namespace", "version"), [("a{b", "v"), ("ns", "v}")])
def test_names_with_braces_are_refused(namespace: str, version: str) -> None:
    with pytest.raises(ValueError, match="braces"):
        UserKeys(namespace, version)
