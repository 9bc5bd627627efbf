"""What every user store promises; a test class inherits it and says how to make a store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest

from core.events import item_hash, item_hashes
from core.precomputed import PrecomputedList, RowSpace
from core.types import Reason, UserEvent, UserState
from server.store.user_store import MAX_SEEN, MAX_STORED_EVENTS

if TYPE_CHECKING:
    from server.store.user_store import UserStore

SEEN_TYPES = ("purchase",)
LISTS = RowSpace("2026-01-01", 1_000)


def event(number: int, kind: str = "view") -> UserEvent:
    return UserEvent(f"item-{number}", kind, 1_700_000_000.0 + number, 0.5 * number)


def listed(*rows: int) -> PrecomputedList:
    """A list whose scores lose nothing when they are stored."""
    return PrecomputedList(
        np.array(rows, np.int32), np.arange(len(rows), 0, -1).astype(np.float32), 1_700_000_000.0 + len(rows)
    )


def rows_of(state: UserState) -> list[int]:
    assert state.precomputed is not None, state.no_list
    return state.precomputed.rows.tolist()


class UserStoreContract:
    @pytest.fixture
    def store(self) -> UserStore:
        """Without lists."""
        raise NotImplementedError

    @pytest.fixture
    def list_store(self) -> UserStore:
        """With the lists of ``LISTS``."""
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
    async def test_any_text_may_be_the_id_of_a_user(self, list_store: UserStore, user_id: str) -> None:
        await list_store.append(user_id, [event(1, "purchase")])
        await list_store.write_lists({user_id: listed(5)})

        state = await list_store.read(user_id)

        assert state.events == (event(1, "purchase"),)
        assert len(state.seen) == 1
        assert rows_of(state) == [5]

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

    async def test_a_store_that_keeps_no_lists_says_so(self, store: UserStore) -> None:
        with pytest.raises(ValueError, match="no precomputed lists"):
            await store.write_lists({"ada": listed(1)})

        state = await store.read("ada")
        assert (store.lists, state.precomputed, state.no_list) == (None, None, Reason.NOT_CONFIGURED)

    async def test_a_user_without_a_list_is_no_failure(self, list_store: UserStore) -> None:
        await list_store.append("ada", [event(1)])

        state = await list_store.read("ada")

        assert (state.precomputed, state.no_list, state.missing) == (None, Reason.NO_LIST, None)
        assert state.events == (event(1),)

    async def test_a_list_comes_with_the_events_and_in_its_order(self, list_store: UserStore) -> None:
        await list_store.append("ada", [event(1, "purchase")])
        await list_store.write_lists({"ada": listed(7, 999, 0), "bob": listed(3)})

        ada, bob = await list_store.read("ada"), await list_store.read("bob")

        assert ada.precomputed is not None
        assert ada.precomputed.rows.tolist() == [7, 999, 0]
        assert ada.precomputed.scores.tolist() == [3.0, 2.0, 1.0]
        assert ada.precomputed.created_s == 1_700_000_003.0
        assert (ada.events, len(ada.seen)) == ((event(1, "purchase"),), 1)
        assert (rows_of(bob), bob.events) == ([3], ())

    async def test_a_later_list_stands_in_place_of_the_first(self, list_store: UserStore) -> None:
        await list_store.write_lists({"ada": listed(1, 2)})
        await list_store.write_lists({"ada": listed(3)})

        assert rows_of(await list_store.read("ada")) == [3]

    async def test_a_list_expires(self, list_store: UserStore) -> None:
        await list_store.write_lists({"ada": listed(1), "bob": listed(2)}, ttl_s=0.001)
        await list_store.write_lists({"bob": listed(3)})

        async with asyncio.timeout(30):
            while (await list_store.read("ada")).precomputed is not None:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.001)
        assert (await list_store.read("ada")).no_list is Reason.NO_LIST
        assert rows_of(await list_store.read("bob")) == [3]

    async def test_lists_of_more_users_than_one_round_trip_takes_are_all_kept(self, list_store: UserStore) -> None:
        await list_store.write_lists({f"user-{i}": listed(i) for i in range(450)})

        found = [rows_of(await list_store.read(f"user-{i}")) for i in range(450)]

        assert found == [[i] for i in range(450)]

    async def test_what_is_no_list_is_refused(self, list_store: UserStore) -> None:
        with pytest.raises(ValueError, match="twice"):
            await list_store.write_lists({"ada": listed(1, 1)})

        assert (await list_store.read("ada")).no_list is Reason.NO_LIST

    async def test_no_lists_to_write_is_nothing_done(self, list_store: UserStore) -> None:
        await list_store.write_lists({})
