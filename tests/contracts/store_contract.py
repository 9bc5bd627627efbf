"""What every user store promises; a test class inherits it and says how to make a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from core.events import item_hash, item_hashes
from core.types import UserEvent, UserState
from server.store.user_store import MAX_SEEN, MAX_STORED_EVENTS

if TYPE_CHECKING:
    from server.store.user_store import UserStore

SEEN_TYPES = ("purchase",)


def event(number: int, kind: str = "view") -> UserEvent:
    return UserEvent(f"item-{number}", kind, 1_700_000_000.0 + number, 0.5 * number)


class UserStoreContract:
    @pytest.fixture
    def store(self) -> UserStore:
        raise NotImplementedError

    async def test_an_unknown_user_is_an_empty_state_and_no_failure(self, store: UserStore) -> None:
        state = await store.read("nobody")

        assert state == UserState((), state.seen, None)
        assert len(state.seen) == 0

    async def test_events_come_back_whole_and_newest_first(self, store: UserStore) -> None:
        await store.append("ada", [event(3), event(1, "purchase"), event(2)])
        await store.append("ada", [event(4)])

        assert (await store.read("ada")).events == (event(4), event(3), event(2), event(1, "purchase"))

    async def test_users_do_not_share_anything(self, store: UserStore) -> None:
        await store.append("ada", [event(1, "purchase")])
        await store.append("ada:events", [event(2)])

        assert (await store.read("ada:events")).events == (event(2),)
        assert (await store.read("ad")).events == ()

    @pytest.mark.parametrize(
        "user_id", ["}", "{", "{}", "}x}", "a}b", "{a}b", "a b", "::", "ü漢", "a{", ":}x", "a" * 256]
    )
    async def test_any_text_may_be_the_id_of_a_user(self, store: UserStore, user_id: str) -> None:
        await store.append(user_id, [event(1, "purchase")])

        state = await store.read(user_id)

        assert state.events == (event(1, "purchase"),)
        assert len(state.seen) == 1

    async def test_only_types_that_count_as_seen_are_remembered_as_seen(self, store: UserStore) -> None:
        await store.append("ada", [event(1, "purchase"), event(2), event(3, "purchase")])

        seen = (await store.read("ada")).seen

        assert set(seen.tolist()) == {item_hash("item-1"), item_hash("item-3")}
        assert seen.dtype == np.uint32

    async def test_a_read_has_the_newest_events_only(self, store: UserStore) -> None:
        await store.append("ada", [event(i) for i in range(MAX_STORED_EVENTS + 7)])

        events = (await store.read("ada")).events

        assert events == tuple(event(i) for i in range(MAX_STORED_EVENTS + 6, 6, -1))

    async def test_seen_items_are_capped_and_the_oldest_are_forgotten(self, store: UserStore) -> None:
        await store.append("ada", [event(i, "purchase") for i in range(MAX_SEEN - 1)])
        await store.append("ada", [event(i, "purchase") for i in range(MAX_SEEN - 1, MAX_SEEN + 3)])

        seen = (await store.read("ada")).seen

        assert seen.tolist() == item_hashes(f"item-{i}" for i in range(3, MAX_SEEN + 3)).tolist()

    async def test_nothing_to_append_is_nothing_done(self, store: UserStore) -> None:
        await store.append("ada", [])

        assert (await store.read("ada")).events == ()
