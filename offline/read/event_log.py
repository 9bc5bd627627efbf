"""The events as flat arrays, one user after the other, oldest first: what splits and training read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from core.events import item_hashes
from core.types import NO_HASHES, UserEvent, UserState

if TYPE_CHECKING:
    from collections.abc import Sequence

    import ibis
    from numpy.typing import NDArray

    from core.types import Rows, Scores

KEPT_EVENTS = 200
"""Events of a user that the store keeps, and so all that a split may show to the serving code."""


@dataclass(frozen=True)
class EventLog:
    """Events in the order (user, time, position).

    Attributes:
        ptr: [users + 1] int64; events of user u are ``ptr[u]:ptr[u + 1]``.

        items: [events] catalogue rows.

        types: [events] int8, index into the data set's event types + 1.

        weights: [events] weight of the type.

        times: [events] int64 seconds since the epoch.

        test_starts: [users] index of each user's first event that comes from the test's files; None = there are no such files.
    """

    ptr: NDArray[np.int64]
    items: Rows
    types: NDArray[np.int8]
    weights: Scores
    times: NDArray[np.int64]
    test_starts: NDArray[np.int64] | None = None

    @classmethod
    def read(cls, events: ibis.Table, n_users: int) -> EventLog:
        """Fetch the columns of ``BuildInputs.events`` from the engine."""
        columns = ("user", "seq", "item", "type", "weight", "time", "test")
        table = events.select(*columns).to_pyarrow()
        arrays = {name: table[name].to_numpy() for name in columns}
        order = np.lexsort((arrays["seq"], arrays["user"]))
        user = arrays["user"][order]
        ptr = np.searchsorted(user, np.arange(n_users + 1)).astype(np.int64)
        of_test = np.bincount(user[arrays["test"][order]], minlength=n_users)
        return cls(
            ptr=ptr,
            items=arrays["item"][order].astype(np.int32),
            types=arrays["type"][order].astype(np.int8),
            weights=arrays["weight"][order].astype(np.float32),
            times=arrays["time"][order].astype(np.int64),
            test_starts=ptr[1:] - of_test if of_test.any() else None,
        )

    @property
    def n_users(self) -> int:
        """Number of users, with or without events."""
        return len(self.ptr) - 1

    @property
    def ordered(self) -> bool:
        """Whether any user has events at two different times; if not, a user's events are a set."""
        later = self.times[1:] != self.times[:-1]
        later[self.ptr[(self.ptr > 0) & (self.ptr < len(self.times))] - 1] = False
        return bool(later.any())

    @property
    def ends_before_test(self) -> NDArray[np.int64]:
        """[users] index after each user's last event that does not come from the test's files."""
        return self.ptr[1:] if self.test_starts is None else self.test_starts

    def ends_before(self, time_s: float) -> NDArray[np.int64]:
        """[users] for each user the index after the last event before ``time_s``."""
        before = np.concatenate([[0], np.cumsum(self.times < time_s)])
        ends: NDArray[np.int64] = self.ptr[:-1] + before[self.ptr[1:]] - before[self.ptr[:-1]]
        return ends

    def events_of(
        self, user: int, ids: Sequence[str], types: Sequence[str], end: int | None = None, newest: int | None = None
    ) -> tuple[UserEvent, ...]:
        """The events of ``user`` before index ``end``, newest first; only the ``newest`` if given."""
        start = int(self.ptr[user])
        end = int(self.ptr[user + 1]) if end is None else end
        start = start if newest is None else max(start, end - newest)
        return tuple(
            UserEvent(ids[self.items[i]], types[self.types[i] - 1], float(self.times[i]))
            for i in range(end - 1, start - 1, -1)
        )

    def user_state(
        self, user: int, end: int, ids: Sequence[str], types: Sequence[str], hidden: frozenset[int]
    ) -> UserState:
        """What the user store would know of ``user`` after the events before index ``end``; seen is what had a ``hidden`` type."""
        past = slice(int(self.ptr[user]), end)
        consumed = np.unique(self.items[past][np.isin(self.types[past], list(hidden))])
        seen = item_hashes([ids[row] for row in consumed]) if len(consumed) else NO_HASHES
        return UserState(self.events_of(user, ids, types, end, KEPT_EVENTS), seen)
