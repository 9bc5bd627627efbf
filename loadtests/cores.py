"""Which cores the server has and which are for its callers: a caller must not take from the server what it measures."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet

ALL = frozenset(os.sched_getaffinity(0))
"""What this process was started with."""


def halves(cores: AbstractSet[int]) -> tuple[AbstractSet[int], AbstractSet[int]]:
    """The server's half, the larger one, and the callers' half; both have all where there is only one core."""
    ordered = sorted(cores)
    middle = (len(ordered) + 1) // 2
    return (set(ordered[:middle]), set(ordered[middle:])) if len(ordered) > 1 else (cores, cores)


SERVER, CALLERS = halves(ALL)


@contextmanager
def on(cores: AbstractSet[int]) -> Iterator[None]:
    """Run this thread, and every thread and process that it starts meanwhile, on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
