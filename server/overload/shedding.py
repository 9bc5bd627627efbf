"""Who is shed first, and when: batch before prefetch, users never, and nobody before an overload has lasted for a while."""

from __future__ import annotations

import math
from enum import StrEnum


class Criticality(StrEnum):
    """Who waits for an answer."""

    USER = "user"
    """A person, now."""
    PREFETCH = "prefetch"
    """Perhaps a person, soon."""
    BATCH = "batch"
    """Nobody."""


SHED_ABOVE = {Criticality.USER: math.inf, Criticality.PREFETCH: 0.15, Criticality.BATCH: 0.1}
"""Pressure above which all calls of a kind are refused.

Shedding batch lowers the pressure, and where it falls below the bound they are let in again: between the two, as many are
shed as there is no room for. The bounds are low since a lowered user's answer is worth more than a batch call's.
"""
MEMORY_S = 0.5
"""How far back pressure looks (the time constant of its average). From none it takes 0.05 s without room until batch is shed
and 0.08 s until prefetch is, so that a burst sheds nobody; after the longest overload it takes 0.9 s until prefetch is let in
again and 1.2 s until batch is."""
LONGEST_GAP_S = 0.02
"""A call speaks for the time since the call before it, but for no more than this: one call without room after a quiet
night is no overload. Costs are counted up to 20 ms, so fewer calls than one in that time are none either."""


class Pressure:
    """Share of the last half second or so in which there was no room on the deep rung.

    An average over time, not over calls: an average over calls would be ruled by those of an overload, which are many,
    for seconds after it has ended. Time in which nobody asks counts as time with room.
    """

    def __init__(self, now_s: float) -> None:
        """None.

        Args:
            now_s: reading of the clock that the methods are given: monotonic, seconds.
        """
        self._value = 0.0
        self._as_of_s = now_s

    def at(self, now_s: float) -> float:
        """The share, 0 to 1."""
        return self._value * math.exp((self._as_of_s - now_s) / MEMORY_S)

    def observe(self, now_s: float, *, has_room: bool) -> None:
        """Take in whether somebody found room; speaks for the time since the last observation."""
        gap_s = now_s - self._as_of_s
        self._value = self.at(now_s)
        self._as_of_s = now_s
        if not has_room:
            self._value += 1 - math.exp(-min(gap_s, LONGEST_GAP_S) / MEMORY_S)
