"""The time one request has: a single end on a monotonic clock."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable


class Deadline:
    """One moment on a monotonic clock, handed down; a child can only be sooner."""

    __slots__ = ("end_s", "now_s")

    def __init__(self, end_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Fix the moment.

        Args:
            end_s: reading of ``clock`` at which the time is over, seconds.
            clock: monotonic, seconds; whoever works under this deadline reads no other.
        """
        self.end_s = end_s
        self.now_s = clock

    @classmethod
    def after(cls, seconds: float, clock: Callable[[], float] = time.monotonic) -> Self:
        """The moment ``seconds`` from now."""
        return cls(clock() + seconds, clock)

    @classmethod
    def never(cls) -> Self:
        """No hurry: for evaluation and warm-up."""
        return cls(math.inf)

    def left_s(self) -> float:
        """Seconds left; negative once it is over."""
        return self.end_s - self.now_s()

    def sooner(self, seconds: float) -> Deadline:
        """A child that ends ``seconds`` before this one; a negative number is no extension."""
        return Deadline(self.end_s - max(seconds, 0.0), self.now_s)

    def share(self, part: float) -> float:
        """Seconds that ``part`` (0 to 1) of the time left amounts to, never negative."""
        return max(self.left_s(), 0.0) * part
