"""Evaluation cases: what a recommender may know of a user at a cut, and the items the user turned to afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from offline.split.cuts import TimeCut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from core.bundle import Bundle
    from core.types import Rows, UserState
    from offline.read.event_log import EventLog
    from offline.split.cuts import Cut


@dataclass(frozen=True)
class Cases:
    """Evaluation cases, one per user.

    Attributes:
        users: [q] user numbers, increasing.

        ends: [q] index into the log after the last event the recommender may see.

        request_time_s: [q] the moment of the request, seconds since the epoch.

        relevant: [q] rows the user turned to afterwards; unique, never empty.
    """

    users: NDArray[np.int64]
    ends: NDArray[np.int64]
    request_time_s: NDArray[np.float64]
    relevant: tuple[Rows, ...]

    def __len__(self) -> int:
        """Number of cases."""
        return len(self.users)

    def sample(self, size: int, seed: int) -> Cases:
        """At most ``size`` of the cases, drawn without replacement."""
        if size >= len(self):
            return self
        pick = np.sort(np.random.default_rng(seed).choice(len(self), size, replace=False))
        return Cases(
            self.users[pick], self.ends[pick], self.request_time_s[pick], tuple(self.relevant[i] for i in pick)
        )


def window_cases(log: EventLog, cut: Cut, until: Cut, *, targets: frozenset[int], new_only: bool) -> Cases:
    """The cases at ``cut``; relevant is what came between it and a later cut.

    Args:
        log: every event, known or not.

        cut: where the known events end.

        until: where the relevant items end.

        targets: codes of the event types that make an item relevant.

        new_only: leave out items that the user had an event of a target type with before.

    Users without any relevant item make no case.
    """
    ends, stops = cut.ends(log), until.ends(log)
    is_target = np.isin(log.types, list(targets))
    users, relevant = [], []
    for user in np.flatnonzero(stops > ends):
        after = slice(ends[user], stops[user])
        rows = np.unique(log.items[after][is_target[after]])
        if new_only:
            before = slice(log.ptr[user], ends[user])
            rows = np.setdiff1d(rows, log.items[before][is_target[before]])
        if len(rows):
            users.append(user)
            relevant.append(rows)
    index = np.array(users, np.int64)
    at_cut = isinstance(cut, TimeCut)
    request_time_s = np.full(len(index), cut.as_of_s(log)) if at_cut else log.times[ends[index]].astype(np.float64)
    return Cases(index, ends[index], request_time_s, tuple(relevant))


def user_states(log: EventLog, cases: Cases, bundle: Bundle, types: Sequence[str]) -> list[UserState]:
    """What the user store would know of each case's user at the moment of the request."""
    seen = frozenset(bundle.manifest.seen_types)
    ids = bundle.catalogue.ids
    return [
        log.user_state(int(user), int(end), ids, types, seen) for user, end in zip(cases.users, cases.ends, strict=True)
    ]
