"""Which windows of time a build learns from, chooses on, is judged on, and is released at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from offline.split import DAY_S, Cases, Cut, LastEventsCut, TimeCut, window_cases

if TYPE_CHECKING:
    from offline.log import EventLog

MIN_WINDOWS = 8
"""A window is at most this part of the time the data covers, so that something is left to learn from."""


class SplitKind(StrEnum):
    """How questions are made from events."""

    TIME = "time"
    LAST_EVENT = "last-event"


@dataclass(frozen=True)
class Window:
    """A cut and how far after it an event still counts as an answer."""

    cut: Cut
    span_s: float | None
    span_events: int | None

    def cases(self, log: EventLog, targets: frozenset[int], *, new_only: bool) -> Cases:
        """The questions of this window."""
        return window_cases(
            log, self.cut, span_s=self.span_s, span_events=self.span_events, targets=targets, new_only=new_only
        )


@dataclass(frozen=True)
class Plan:
    """The windows of one build, oldest first.

    Attributes:
        train: the ranker learns from pools made at these cuts; they may overlap, but end where ``valid`` begins.

        valid: every choice is made here.

        test: nothing is chosen here.

        release: what the published bundle knows.

        horizon_days: length of a window; None where windows are single events.
    """

    train: tuple[Window, ...]
    valid: Window
    test: Window
    release: Cut
    horizon_days: float | None


def plan_by_time(log: EventLog, horizon_days: float) -> Plan:
    """Windows of ``horizon_days``, shorter where the data is short; the last one is the test."""
    end = float(log.times.max()) + 1
    covered_days = (end - float(log.times.min())) / DAY_S
    days = min(horizon_days, covered_days / MIN_WINDOWS)
    span = days * DAY_S

    def window(before_end: float) -> Window:
        return Window(TimeCut(end - before_end * span), span, None)

    return Plan((window(4), window(3.5), window(3)), window(2), window(1), TimeCut(end), days)


def plan_by_last_event() -> Plan:
    """Each user's last event is the test, the one before it the validation, and so on (leave-one-out)."""

    def window(held_out: int) -> Window:
        return Window(LastEventsCut(held_out), None, 1)

    return Plan((window(3),), window(2), window(1), LastEventsCut(0), None)
