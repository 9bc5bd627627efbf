"""Training examples of the user tower, cut out of sequences: places where it predicts, and the items that came next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ranking.sequences import SECONDS_PER_DAY, TREND_FLOOR

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ranking.sequences import Sequences


_BATCHES_PER_PAGE = 16
"""Windows are sorted by length within so many batches: less filling up, and still a random order."""


@dataclass(frozen=True)
class Windows:
    """Overlapping windows over sequences, and the places in them where the tower predicts.

    The tower predicts after the last event of a *step*: events of a user at one time, such as the
    lines of an invoice, are one step, since their order means nothing. A target is an item
    among ``pool[target_start:target_stop]``.

    Attributes:
        start: [w] index of each window's oldest event.

        stop: [w] index after its newest event.

        ptr: [w + 1] the places of window i are ``ptr[i]:ptr[i + 1]``.

        place: [p] event index of each place.

        target_start: [p] first target, index into ``pool``.

        target_stop: [p] after the last target, > ``target_start``.

        pool: [t] event indices that can be targets, increasing.
    """

    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    ptr: NDArray[np.int64]
    place: NDArray[np.int64]
    target_start: NDArray[np.int64]
    target_stop: NDArray[np.int64]
    pool: NDArray[np.int64]

    @classmethod
    def cut(
        cls,
        sequences: Sequences,
        *,
        length: int,
        stride: int,
        horizon_days: float | None,
        new_only: bool,
        shift: NDArray[np.int64] | None = None,
    ) -> Windows:
        """Cut windows so that every event lies in the newest ``stride`` places of exactly one.

        Args:
            sequences: the events.
            length: most events of a window.
            stride: events between the ends of neighbouring windows, <= ``length``.
            horizon_days: how far ahead targets may lie; None = in the very next step.
            new_only: only items that the user never had before are targets.
            shift: [users] events by which each user's first window is shorter, 0 to ``stride`` - 1.
        """
        ptr, users, times = sequences.ptr, sequences.users, sequences.times
        n = len(sequences)
        ends = ptr[1:][users]
        step = np.ones(n, np.bool_)
        step[:-1] = (times[1:] != times[:-1]) | (users[1:] != users[:-1])
        last = np.flatnonzero(step)
        after = last + 1
        if horizon_days is None:
            until = np.append(after[1:], n)
        else:
            span = int(times.max(initial=0) - times.min(initial=0)) + int(horizon_days * SECONDS_PER_DAY) + 2
            key = users * span + times - times.min(initial=0)
            until = np.searchsorted(key, key[last] + int(horizon_days * SECONDS_PER_DAY), side="right")
        until = np.minimum(until, ends[last])
        pool = np.flatnonzero(sequences.first) if new_only else np.arange(n)
        target_start = np.searchsorted(pool, np.minimum(after, until))
        target_stop = np.searchsorted(pool, until)
        chosen_places = target_stop > target_start
        place = last[chosen_places]
        shorter = np.zeros(len(ptr) - 1, np.int64) if shift is None else shift
        chunk = (place - ptr[users[place]] + shorter[users[place]]) // stride
        new = np.ones(len(place), np.bool_)
        new[1:] = (chunk[1:] != chunk[:-1]) | (users[place][1:] != users[place][:-1])
        head = np.flatnonzero(new)
        first_event = ptr[users[place[head]]]
        stop = first_event + (chunk[head] + 1) * stride - shorter[users[place[head]]]
        stop = np.minimum(stop, ends[place[head]])
        return cls(
            start=np.maximum(first_event, stop - length),
            stop=stop,
            ptr=np.append(head, len(place)).astype(np.int64),
            place=place,
            target_start=target_start[chosen_places],
            target_stop=target_stop[chosen_places],
            pool=pool,
        )

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.start)

    def batches(self, size: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """All windows in random order in batches of ``size``, windows of about one length together."""
        order = rng.permutation(len(self))
        length = (self.stop - self.start)[order]
        pages = np.arange(len(order)) // (size * _BATCHES_PER_PAGE)
        order = order[np.lexsort((length, pages))]
        cut = [order[i : i + size] for i in range(0, len(order), size)]
        return [cut[i] for i in rng.permutation(len(cut))]

    def batch(
        self, chosen: NDArray[np.int64], length: int
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The chosen windows [b] as arrays.

        Returns:
            [b, length] event indices, newest first; [b, length] where they are real; for every place
            of these windows, its window in 0..b, its position in the window and its index in ``place``.
        """
        event, known = newest_first(self.start[chosen], self.stop[chosen], length)
        count = self.ptr[chosen + 1] - self.ptr[chosen]
        window = np.repeat(np.arange(len(chosen)), count)
        chosen_places = (
            np.arange(len(window)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(self.ptr[chosen], count)
        )
        position = self.stop[chosen][window] - 1 - self.place[chosen_places]
        return event, known, window, position, chosen_places

    def draw(self, chosen_places: NDArray[np.int64], k: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """[p, k] event indices of targets of the places ``chosen_places`` [p], drawn with replacement."""
        start, stop = self.target_start[chosen_places], self.target_stop[chosen_places]
        offset = (rng.random((len(chosen_places), k)) * (stop - start)[:, None]).astype(np.int64)
        drawn: NDArray[np.int64] = self.pool[start[:, None] + offset]
        return drawn


class TrendGrid:
    """Logarithm of every item's decayed popularity relative to the mean, as of the start of every day.

    Attributes:
        grid: [days, items] float32.
    """

    def __init__(self, sequences: Sequences, n_items: int, half_life_days: float, *, first_only: bool) -> None:
        """Count all events, or only the first of each user with each item."""
        self._start = int(sequences.times.min())
        day = (sequences.times - self._start) // int(SECONDS_PER_DAY)
        counted = sequences.first if first_only else np.ones(len(sequences), np.bool_)
        order = np.flatnonzero(counted)[np.argsort(day[counted], kind="stable")]
        days = int(day.max()) + 2
        bounds = np.searchsorted(day[order], np.arange(days + 1))
        self.grid = np.zeros((days, n_items), np.float32)
        total, decay = np.zeros(n_items), 0.5 ** (1 / half_life_days)
        for i in range(days):
            if total.any():
                self.grid[i] = np.log(total / total.mean() + TREND_FLOOR)
            items = sequences.items[order[bounds[i] : bounds[i + 1]]]
            total = total * decay + np.bincount(items, minlength=n_items)

    @property
    def newest(self) -> NDArray[np.float32]:
        """[items] as of the day after the last event."""
        last: NDArray[np.float32] = self.grid[-1]
        return last

    def day(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """[p] row of ``grid`` for ``times`` [p]: what was known at the start of their days."""
        found: NDArray[np.int64] = np.clip((times - self._start) // int(SECONDS_PER_DAY), 0, len(self.grid) - 1)
        return found


def newest_first(
    start: NDArray[np.int64], stop: NDArray[np.int64], length: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """[b, length] indices from ``stop - 1`` down to ``start``, filled up with ``start``; and which are real."""
    event = stop[:, None] - 1 - np.arange(length)
    known = event >= start[:, None]
    return np.where(known, event, start[:, None]), known
