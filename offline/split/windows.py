"""Where the windows are cut that a build learns from, chooses on and is evaluated on, and where it is released."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from offline.errors import InputError
from offline.split.cases import Cases, window_cases
from offline.split.cuts import DAY_S, Cut, LastEventsCut, ShareCut, TimeCut

if TYPE_CHECKING:
    from offline.read.event_log import EventLog

MIN_WINDOWS = 8
"""A window is at most this part of the time the data covers, so that something is left to learn from."""
TEST_PERCENT = 20
"""Of everyone's events that are the test with ``SplitKind.SHARE``."""
CHOICE_PERCENT = 15
"""Of the others that are the validation, and as many again that the ranker learns from."""


class SplitKind(StrEnum):
    """How events are divided into known and relevant ones."""

    TIME = "time"
    LAST_EVENT = "last-event"
    SHARE = "share"
    GIVEN = "given"


TIMED_SPLITS = frozenset({SplitKind.TIME, SplitKind.LAST_EVENT})
"""They mean nothing for events without times."""


@dataclass(frozen=True)
class Window:
    """A cut and a later one; what lies between them is relevant."""

    cut: Cut
    until: Cut

    def cases(self, log: EventLog, targets: frozenset[int], hidden: frozenset[int] = frozenset()) -> Cases:
        """The cases of this window."""
        return window_cases(log, self.cut, self.until, targets=targets, hidden=hidden)


@dataclass(frozen=True)
class Plan:
    """The windows of one build, oldest first.

    Attributes:
        train: the ranker learns from pools made at these cuts; they may overlap, but end where ``valid`` begins.

        valid: every choice is made here.

        test: nothing is chosen here.

        release: what the published bundle knows.

        horizon_days: length of a window; None where windows are no spans of time.
    """

    train: tuple[Window, ...]
    valid: Window
    test: Window
    release: Cut
    horizon_days: float | None


def plan_of(log: EventLog, split: SplitKind, horizon_days: float) -> Plan:
    """The windows for a kind of split.

    Raises:
        InputError: a given test without its files, or such files and another split.
    """
    if (log.test_starts is not None) is not (split is SplitKind.GIVEN):
        raise InputError(f"--split {split}: the split 'given', and no other, goes with a file of test events (--test)")
    match split:
        case SplitKind.TIME:
            return plan_by_time(log, horizon_days)
        case SplitKind.LAST_EVENT:
            return plan_by_last_event()
        case SplitKind.SHARE | SplitKind.GIVEN:
            return plan_by_share(0 if split is SplitKind.GIVEN else TEST_PERCENT)


def plan_by_time(log: EventLog, horizon_days: float) -> Plan:
    """Windows of ``horizon_days``, shorter where the data is short; the last one is the test."""
    end = float(log.times.max()) + 1
    covered_days = (end - float(log.times.min())) / DAY_S
    days = min(horizon_days, covered_days / MIN_WINDOWS)
    span = days * DAY_S

    def window(before_end: float) -> Window:
        cut = end - before_end * span
        return Window(TimeCut(cut), TimeCut(cut + span))

    return Plan((window(4), window(3.5), window(3)), window(2), window(1), TimeCut(end), days)


def plan_by_last_event() -> Plan:
    """Each user's last event is the test, the one before it the validation, and so on (leave-one-out)."""

    def window(held_out: int) -> Window:
        return Window(LastEventsCut(held_out), LastEventsCut(held_out - 1))

    return Plan((window(3),), window(2), window(1), LastEventsCut(0), None)


def plan_by_share(test_percent: int) -> Plan:
    """A share of everyone's events is the test, or what the test's files say; one of the others the validation.

    Args:
        test_percent: of the events that are not of the test's files; 0 = these files are the test.
    """
    everything = LastEventsCut(0)
    known, valid, train = (ShareCut(test_percent + n * CHOICE_PERCENT) for n in range(3))
    test = Window(known, ShareCut(0) if test_percent else everything)
    return Plan((Window(train, valid),), Window(valid, known), test, everything, None)
