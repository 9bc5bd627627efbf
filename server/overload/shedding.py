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
"""How far back pressure looks (the time constant of its average). It takes 0.05 s without room until batch is shed, 0.08 s
until prefetch is, so that a burst sheds nobody; and after the longest overload 0.9 s and 1.2 s until they are let in again."""
LONGEST_GAP_S = 0.02
"""A call speaks for the time since the call before it, but for no more than this: one call without room after a quiet
night is no overload. Costs are counted up to 20 ms, so fewer calls than one in that time are none either."""


class Pressure:
    """Share of the time, of late, in which there was no room on the deep rung.

    An average over time, not over calls: an average over calls would be ruled by those of an overload, which are many,
    for seconds after it has ended.
    """

    def __init__(self, now_s: float) -> None:
        """None.

        Args:
            now_s: reading of the clock that ``observe`` is given.
        """
        self.value = 0.0
        self._as_of_s = now_s

    def observe(self, now_s: float, *, has_room: bool) -> None:
        """Take in whether a call found room.

        Args:
            now_s: monotonic, seconds.
            has_room: whether it could climb to the deep rung.
        """
        gap_s, self._as_of_s = now_s - self._as_of_s, now_s
        self.value *= math.exp(-gap_s / MEMORY_S)
        if not has_room:
            self.value += 1 - math.exp(-min(gap_s, LONGEST_GAP_S) / MEMORY_S)
