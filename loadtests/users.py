"""The users that a synthetic bundle is asked about: what they did, as the store and the pipeline want it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from core.events import item_hashes
from core.query import Request, build_query
from core.types import UserEvent, UserState
from server.loader import load_bundle
from server.store.user_store import RedisUserStore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from core.bundle import Bundle
    from core.types import Query, Rows

NAMESPACE = "bench"
SEEN_TYPES = ("purchase",)
_FILE = "users.npz"


@dataclass(frozen=True)
class Users:
    """Histories of equal length.

    Attributes:
        items: [users, h] rows, oldest first.

        types: [users, h] index into ``event_types`` + 1.

        times: [users, h] seconds since the epoch, rising.
    """

    items: Rows
    types: NDArray[np.int8]
    times: NDArray[np.int64]
    event_types: tuple[str, ...]

    @property
    def ids(self) -> list[str]:
        """Ids of the users."""
        return [f"user-{user:07}" for user in range(len(self.items))]

    def events(self, ids: Sequence[str]) -> dict[str, tuple[UserEvent, ...]]:
        """User id -> events, newest first; ``ids`` are those of the catalogue."""
        return {
            user_id: tuple(
                UserEvent(ids[row], self.event_types[code - 1], float(at))
                for row, code, at in zip(*(column[::-1].tolist() for column in columns), strict=True)
            )
            for user_id, *columns in zip(self.ids, self.items, self.types, self.times, strict=True)
        }

    def queries(self, bundle: Bundle, limit: int = 20) -> list[Query]:
        """What the pipeline would ask the bundle for each user, now."""
        now_s = time.time()
        return [
            build_query(bundle, Request(user_id, limit), state_of(events), now_s)
            for user_id, events in self.events(bundle.catalogue.ids).items()
        ]

    async def fill(self, store_url: str, ids: Sequence[str]) -> None:
        """Make them known to a user store."""
        store = RedisUserStore(store_url, NAMESPACE, SEEN_TYPES)
        try:
            await store.load(self.events(ids))
        finally:
            await store.close()

    def save(self, folder: Path) -> None:
        """Write ``users.npz``."""
        np.savez(folder / _FILE, items=self.items, types=self.types, times=self.times, names=self.event_types)

    @classmethod
    def load(cls, folder: Path) -> Users:
        """Read what ``save`` wrote."""
        with np.load(folder / _FILE, allow_pickle=False) as arrays:
            return cls(arrays["items"], arrays["types"], arrays["times"], tuple(arrays["names"].tolist()))


def state_of(events: Sequence[UserEvent]) -> UserState:
    """What the user store would answer for a user with these events."""
    seen = item_hashes(event.item_id for event in events if event.event_type in SEEN_TYPES)
    return UserState(tuple(events), seen)


def limit_for_pool(folder: Path, users: Users, rows: int) -> int:
    """What popularity must be asked for, so that every user's pool has ``rows`` rows or a few more.

    Raises:
        ValueError: a pool stays smaller, whatever popularity is asked for.
    """
    bundle = load_bundle(folder)
    wanted = 1
    for query in users.queries(bundle):
        others = [g.generate(query, bundle.limits[g.name]).rows for g in bundle.generators if g.name != "popularity"]
        proposed = np.unique(np.concatenate(others))
        popular = bundle.popularity.generate(query, rows).rows
        missing = rows - int(query.allows(proposed).sum())
        new = np.cumsum(~np.isin(popular, proposed))
        if missing > (new[-1] if len(new) else 0):
            raise ValueError(f"user {query.user_id}: no pool of {rows} rows in a catalogue of {len(bundle.catalogue)}")
        wanted = max(wanted, int(np.searchsorted(new, missing)) + 1)
    return wanted
