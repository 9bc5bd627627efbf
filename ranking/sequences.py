"""What every user did, oldest first, as flat arrays: the input of trends, features and the user tower."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from core.types import Mask, Rows, Scores

SECONDS_PER_DAY = 86_400.0
TREND_FLOOR = 0.05
"""Added to an item's share of an average item before the logarithm."""


@dataclass(frozen=True)
class Sequences:
    """Positive events of all users: events of one user adjacent, in the order of time.

    Attributes:
        ptr: [u + 1] int64; the events of user i are ``ptr[i]:ptr[i + 1]``.

        items: [n] int32 catalogue rows.

        types: [n] int8 codes of the event types, 0 = unknown.

        weights: [n] float32 weight of each event's type, > 0.

        times: [n] int64 seconds since the epoch, not falling within a user.
    """

    ptr: NDArray[np.int64]
    items: Rows
    types: NDArray[np.int8]
    weights: Scores
    times: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        ptr: NDArray[np.int64],
        items: Rows,
        *,
        types: NDArray[np.int8],
        weights: Scores,
        times: NDArray[np.int64],
        ends: NDArray[np.int64] | None = None,
    ) -> Sequences:
        """The positive events of a log in this very order.

        Args:
            ptr: see ``Sequences``, like the arrays that follow; weights may be <= 0 here.
            items: catalogue rows.
            types: codes of the event types.
            weights: weight of each event's type; events of weight <= 0 are left out.
            times: seconds since the epoch.
            ends: [u] for each user the index after the last event to keep; None = all.
        """
        users = np.repeat(np.arange(len(ptr) - 1), np.diff(ptr))
        keep = weights > 0
        if ends is not None:
            keep &= np.arange(len(items)) < ends[users]
        count = np.bincount(users[keep], minlength=len(ptr) - 1)
        kept = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
        return cls(kept, items[keep], types[keep], weights[keep], times[keep])

    @property
    def n_users(self) -> int:
        """Number of users, those without events included."""
        return len(self.ptr) - 1

    def __len__(self) -> int:
        """Number of events."""
        return len(self.items)

    @cached_property
    def users(self) -> NDArray[np.int64]:
        """[n] user of each event."""
        return np.repeat(np.arange(self.n_users), np.diff(self.ptr))

    @cached_property
    def active_users(self) -> NDArray[np.int64]:
        """[n] user of each event, counting only users who have events.

        For matrices with a row per user: how many users without events there are, of whom some only appear after the
        cut, must not change their shapes.
        """
        return np.unique(self.users, return_inverse=True)[1]

    @cached_property
    def first(self) -> Mask:
        """[n] whether the user never had the item before this event."""
        span = int(self.items.max(initial=0)) + 1
        _, index = np.unique(self.users * span + self.items, return_index=True)
        first = np.zeros(len(self), np.bool_)
        first[index] = True
        return first

    def trend(
        self, n_items: int, as_of_s: float, half_life_days: float | None, *, first_only: bool = False
    ) -> NDArray[np.float64]:
        """[items] sum of event weights, each halved every ``half_life_days`` of its age; None = no decay.

        Args:
            n_items: length of the result.
            as_of_s: the moment from which ages count, seconds since the epoch.
            half_life_days: days in which an event loses half of its weight.
            first_only: count only the first event of each user with each item: what wins *new* users
                for an item, without those who buy it again and again.
        """
        weight = self.weights.astype(np.float64)
        if half_life_days is not None:
            age_days = np.maximum(as_of_s - self.times, 0) / SECONDS_PER_DAY
            weight = weight * np.exp2(-age_days / half_life_days)
        if first_only:
            weight = weight * self.first
        total: NDArray[np.float64] = np.bincount(self.items, weight, minlength=n_items).astype(np.float64)
        return total

    def first_seen(self, n_items: int) -> NDArray[np.int64]:
        """[items] time of each item's first event, seconds since the epoch; 0 = it has none."""
        never = np.iinfo(np.int64).max
        found = np.full(n_items, never, np.int64)
        np.minimum.at(found, self.items, self.times)
        found[found == never] = 0
        return found
