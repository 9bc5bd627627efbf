"""Where known events end: a moment in time, each user's last events, or a share of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    import ibis
    from numpy.typing import NDArray

    from offline.read.event_log import EventLog

DAY_S = 86_400


class Cut(Protocol):
    """A line between events that are known and later ones."""

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
        return events.filter(events.time < math.ceil(self.before_s))

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
        return _after_last_known(log, self.ends(log))


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
        return _after_last_known(log, self.ends(log))

    def _held_out(self, count: Any) -> Any:
        return (count * self.percent + 49) // 100  # to the nearest, halves down: of a single event nothing is held out


def _after_last_known(log: EventLog, ends: NDArray[np.int64]) -> float:
    """A second after the last known event, seconds since the epoch; nothing later may show in it."""
    users = np.repeat(np.arange(log.n_users), np.diff(log.ptr))
    known = log.times[np.arange(len(users)) < ends[users]]
    return float(known.max(initial=log.times.min())) + 1
