"""Evaluation cases: what a recommender may know of a user at a cut, and the items the user turned to afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from offline.split.cuts import TimeCut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

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


def window_cases(
    log: EventLog, cut: Cut, until: Cut, *, targets: frozenset[int], hidden: frozenset[int] = frozenset()
) -> Cases:
    """The cases at ``cut``; relevant is what came between it and a later cut.

    Args:
        log: every event, known or not.

        cut: where the known events end.

        until: where the relevant items end.

        targets: codes of the event types that make an item relevant.

        hidden: codes of the event types after which an item is neither relevant nor recommended, see ``user_states``;
            none = repeats count.

    Users without any relevant item make no case.
    """
    ends, stops = cut.ends(log), until.ends(log)
    is_target, hides = np.isin(log.types, list(targets)), np.isin(log.types, list(hidden))
    users, relevant = [], []
    for user in np.flatnonzero(stops > ends):
        after = slice(ends[user], stops[user])
        before = slice(log.ptr[user], ends[user])
        rows = np.unique(log.items[after][is_target[after]])
        rows = np.setdiff1d(rows, log.items[before][hides[before]])
        if len(rows):
            users.append(user)
            relevant.append(rows)
    index = np.array(users, np.int64)
    at_cut = isinstance(cut, TimeCut)
    request_time_s = np.full(len(index), cut.as_of_s(log)) if at_cut else log.times[ends[index]].astype(np.float64)
    return Cases(index, ends[index], request_time_s, tuple(relevant))


def moments_of_activity(
    log: EventLog,
    cut: Cut,
    until: Cut,
    *,
    targets: frozenset[int],
    hidden: frozenset[int] = frozenset(),
    seed: int = 0,
) -> Cases:
    """The cases of ``window_cases``, each asked at a moment of the window when its user did something.

    A cut in time asks everybody at once, and most users did their last thing long before. People ask for
    recommendations while they are active: of each user one moment is drawn among those after which something relevant
    came. Known is what the user did strictly before it.

    Args:
        log: every event, known or not.
        cut: where the window begins.
        until: where it ends, and the relevant items with it.
        targets: codes of the event types that make an item relevant.
        hidden: see ``window_cases``.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    starts, stops = cut.ends(log), until.ends(log)
    is_target, hides = np.isin(log.types, list(targets)), np.isin(log.types, list(hidden))
    users, ends, relevant = [], [], []
    for user in np.flatnonzero(stops > starts):
        start, stop = int(starts[user]), int(stops[user])
        _, firsts = np.unique(log.times[start:stop], return_index=True)
        for end in rng.permutation(firsts + start).tolist():
            before = slice(int(log.ptr[user]), end)
            rows = np.setdiff1d(log.items[end:stop][is_target[end:stop]], log.items[before][hides[before]])
            if len(rows):
                users.append(user)
                ends.append(end)
                relevant.append(rows)
                break
    index = np.array(ends, np.int64)
    return Cases(np.array(users, np.int64), index, log.times[index].astype(np.float64), tuple(relevant))


def user_states(
    log: EventLog, cases: Cases, ids: Sequence[str], types: Sequence[str], hidden: frozenset[int]
) -> list[UserState]:
    """What the user store would know of each case's user at the moment of the request.

    Args:
        log: every event.

        cases: whose users.

        ids: item ids by row.

        types: event types by code - 1.

        hidden: codes of the event types after which an item counts as seen, so that a list without repeats leaves it
            out. The same as in ``window_cases``: else lists would spend places on items that cannot be relevant, or
            items would be relevant that no list may hold.
    """
    return [
        log.user_state(int(user), int(end), ids, types, hidden)
        for user, end in zip(cases.users, cases.ends, strict=True)
    ]
