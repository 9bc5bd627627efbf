"""What a recommender may know and what it is then asked for: a cut in time, or each user's last or drawn events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    import ibis
    from numpy.typing import NDArray

    from core.types import Rows
    from offline.log import EventLog

DAY_S = 86_400


@dataclass(frozen=True)
class Cases:
    """Questions with known answers, one per user.

    Attributes:
        users: [q] user numbers, increasing.

        ends: [q] index into the log after the last event the recommender may see.

        asked_at_s: [q] the moment of the question, seconds since the epoch.

        relevant: [q] rows the user turned to afterwards; unique, never empty.
    """

    users: NDArray[np.int64]
    ends: NDArray[np.int64]
    asked_at_s: NDArray[np.float64]
    relevant: tuple[Rows, ...]

    def __len__(self) -> int:
        """Number of questions."""
        return len(self.users)

    def sample(self, size: int, seed: int) -> Cases:
        """At most ``size`` of the questions, drawn without replacement."""
        if size >= len(self):
            return self
        pick = np.sort(np.random.default_rng(seed).choice(len(self), size, replace=False))
        return Cases(self.users[pick], self.ends[pick], self.asked_at_s[pick], tuple(self.relevant[i] for i in pick))


class Cut(Protocol):
    """A line between what is known and what is asked."""

    def known(self, events: ibis.Table) -> ibis.Table:
        """The part of ``BuildInputs.events`` before the line."""
        ...

    def ends(self, log: EventLog) -> NDArray[np.int64]:
        """[users] for each user the index into the log where the known events end."""
        ...

    def as_of_s(self, log: EventLog) -> float:
        """The moment known events reach up to."""
        ...


@dataclass(frozen=True)
class TimeCut:
    """Known is what happened before ``before_s`` (seconds since the epoch), for every user alike."""

    before_s: float

    def known(self, events: ibis.Table) -> ibis.Table:
        """See ``Cut.known``."""
        return events.filter(events.time < int(self.before_s))

    def ends(self, log: EventLog) -> NDArray[np.int64]:
        """See ``Cut.ends``."""
        return log.ends_before(self.before_s)

    def as_of_s(self, log: EventLog) -> float:
        """See ``Cut.as_of_s``."""
        del log
        return self.before_s


@dataclass(frozen=True)
class LastEventsCut:
    """Known is all but the last ``held_out`` events of every user (leave-one-out and its validation)."""

    held_out: int

    def known(self, events: ibis.Table) -> ibis.Table:
        """See ``Cut.known``."""
        counted = events.mutate(of_user=events.count().over(group_by="user"))
        return counted.filter(counted.seq < counted.of_user - self.held_out).drop("of_user")

    def ends(self, log: EventLog) -> NDArray[np.int64]:
        """See ``Cut.ends``."""
        return np.maximum(log.ptr[1:] - self.held_out, log.ptr[:-1])

    def as_of_s(self, log: EventLog) -> float:
        """See ``Cut.as_of_s``."""
        return float(log.times.max()) + 1


@dataclass(frozen=True)
class ShareCut:
    """Known is all but the last ``percent`` % of every user's events and nothing of the test's files.

    Where events have no times they come in the order of a hash, so that any share is a random one.
    """

    percent: int

    def known(self, events: ibis.Table) -> ibis.Table:
        """See ``Cut.known``."""
        own = events.filter(~events.test)
        counted = own.mutate(of_user=own.count().over(group_by="user"))
        return counted.filter(counted.seq < counted.of_user - self._held_out(counted.of_user)).drop("of_user")

    def ends(self, log: EventLog) -> NDArray[np.int64]:
        """See ``Cut.ends``."""
        ends: NDArray[np.int64] = log.ends_before_test - self._held_out(log.ends_before_test - log.ptr[:-1])
        return ends

    def as_of_s(self, log: EventLog) -> float:
        """See ``Cut.as_of_s``."""
        return float(log.times.max()) + 1

    def _held_out(self, count: Any) -> Any:
        return (count * self.percent + 49) // 100  # to the nearest, halves down: of a single event nothing is held out


def window_cases(log: EventLog, cut: Cut, until: Cut, *, targets: frozenset[int], new_only: bool) -> Cases:
    """Questions at ``cut``, answered by what came between it and a later cut.

    Args:
        log: every event, known or not.

        cut: where the known events end.

        until: where the answers end.

        targets: codes of the event types that count as an answer.

        new_only: leave out items that the user had an event of a target type with before.

    Users without any answer are no question.
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
    asked_at_s = np.full(len(index), cut.as_of_s(log)) if at_cut else log.times[ends[index]].astype(np.float64)
    return Cases(index, ends[index], asked_at_s, tuple(relevant))
