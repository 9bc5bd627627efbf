"""A generated shop: events and items for the demo, and the truth behind them for measurements that need it.

Not tuned to any model. ``offline.shop.truth`` says how visitors behave.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from offline.shop.truth import Truth
from offline.shop.visits import EVENT_TYPES, EVENTS_PER_LOOK, Looks, Visitors
from offline.shop.world import KINDS, draw_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Shop", "Truth", "generate_shop"]

START_S = 1_735_689_600
"""2025-01-01 00:00 UTC."""
_USERS_AT_A_TIME = 10_000


@dataclass(frozen=True)
class Shop:
    """A world that events can be drawn from; the same every time.

    Attributes:
        truth: who likes what, and how likely a purchase is; its rows are those of ``items``.

        items: as in ``items.parquet``.

        seed: of the events.

        looks_per_user: mean.
    """

    truth: Truth
    items: pa.Table
    seed: int
    looks_per_user: float

    def user_id(self, user: int) -> str:
        """The id of a user of the truth."""
        return f"u{user:07}"

    def looks(self) -> Iterator[Looks]:
        """What users did, some users at a time."""
        visitors = Visitors(self.truth)
        users = np.arange(len(self.truth.taste))
        for chunk, start in enumerate(range(0, len(users), _USERS_AT_A_TIME)):
            rng = np.random.default_rng([self.seed, 1, chunk])
            yield visitors.looks(users[start : start + _USERS_AT_A_TIME], self.looks_per_user, rng)

    def events(self) -> Iterator[pa.Table]:
        """The events' file in parts: some users at a time, each part in the order of time."""
        for looks in self.looks():
            yield self._events_of(looks)

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write ``events.parquet`` and ``items.parquet`` into ``folder``, which is made; returns their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        events, items = folder / "events.parquet", folder / "items.parquet"
        pq.write_table(self.items, items)
        writer = None
        for part in self.events():
            writer = writer or pq.ParquetWriter(events, part.schema)
            writer.write_table(part)
        if writer:
            writer.close()
        return events, items

    def _events_of(self, looks: Looks) -> pa.Table:
        masks = (np.ones(len(looks.item), np.bool_), looks.carted, looks.bought, looks.dismissed)
        where = [np.flatnonzero(mask) for mask in masks]
        at = np.concatenate(where)
        code = np.repeat(np.arange(len(where)), [len(part) for part in where])
        delay = np.array([0, 20, 45, 10])[code]
        time_s = looks.time_s[at] + delay
        order = np.lexsort((code, at, time_s))
        at, code, time_s = at[order], code[order], time_s[order]
        price = self.items["price"].to_numpy()[looks.item[at]]
        users = np.unique(looks.user)
        user_ids = pa.array([self.user_id(user) for user in users])
        ids = pc.take(user_ids, pa.array(np.searchsorted(users, looks.user[at])))
        return pa.table(
            {
                "user_id": ids,
                "item_id": pc.take(self.items["item_id"].combine_chunks(), pa.array(looks.item[at])),
                "event_type": pc.take(pa.array(EVENT_TYPES), pa.array(code)),
                "timestamp": pa.array(time_s, pa.timestamp("s", "UTC")),
                "value": pa.array(price, mask=code != EVENT_TYPES.index("purchase")),
                "session_id": pc.binary_join_element_wise(ids, _text(looks.visit[at]), "-"),
            }
        )


def generate_shop(
    users: int = 3000,
    items: int = 2000,
    events: int = 150_000,
    days: int = 180,
    seed: int = 0,
    *,
    start_s: int = START_S,
) -> Shop:
    """A shop in which ``users`` leave about ``events`` events in ``days`` days.

    Args:
        users: who have at least one event each.

        items: at least one of each kind of goods; those that end or are not yet launched are among them.

        events: views, carts, purchases and dismissals; met within about a tenth from ten a user, as every user has a visit.

        days: from ``start_s``.

        seed: another seed is another shop.

        start_s: seconds since the epoch.

    Raises:
        ValueError: there are fewer items than kinds of goods, or a number is not positive.
    """
    if items < len(KINDS):
        raise ValueError(f"items={items}: at least {len(KINDS)}, one of each kind of goods")
    if min(users, events, days) < 1:
        raise ValueError(f"users={users}, events={events}, days={days}: each must be at least 1")
    truth, table = draw_world(users, items, days, start_s, seed)
    return Shop(truth, table, seed, events / users / EVENTS_PER_LOOK)


def _text(numbers: NDArray[np.int64]) -> pa.Array:
    return pa.array(numbers).cast(pa.string())
