"""How a server did in one round trip: judged by when its replies came, not by how long the caller waited for them.

A caller with 3 ms left gives up on a store that always answers in 5 ms, and on one that never answers at all. Only the
second is broken. So the round trip goes on in the background when the caller has gone, and its outcome is reported when
the replies are there, or once they are later than a healthy server's ever are.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

from server.overload.breaker import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_TICK_S = 0.002
"""An event loop that is no later than this is on time: timers are good to a millisecond."""
_LOOP_PASSES = 3
"""Iterations of the event loop until a reply that waits in a socket's buffer is read, parsed and handed on."""


class FairTimer:
    """Calls a function after a delay, but grants the event loop's own delay: it looks at its sockets once more before.

    When the loop stood still for longer than the delay, the timer is due and a reply that came in time waits in the
    socket's buffer, and loops run timers first. Without the grace a busy process would blame its servers.
    """

    __slots__ = ("_act", "_handle", "_loop")

    def __init__(self, delay_s: float, act: Callable[[], object]) -> None:
        """Start it.

        Args:
            delay_s: seconds from now.
            act: what to call, once.
        """
        self._act = act
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.Handle = self._loop.call_later(delay_s, self._pass, _LOOP_PASSES)

    def cancel(self) -> None:
        """Do not call it any more."""
        self._handle.cancel()

    def _pass(self, passes: int) -> None:
        if passes:
            self._handle = self._loop.call_soon(self._pass, passes - 1)
        else:
            self._act()


class FairTimeout:
    """``asyncio.timeout`` with a ``FairTimer``."""

    __slots__ = ("_limit", "_seconds", "_timer")

    def __init__(self, seconds: float) -> None:
        """Ends its block with ``TimeoutError`` after so many seconds."""
        self._seconds = seconds
        self._limit = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        """Start it."""
        await self._limit.__aenter__()
        self._timer = FairTimer(self._seconds, partial(self._limit.reschedule, 0.0))  # long ago: at once

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self._timer.cancel()
        await self._limit.__aexit__(kind, error, trace)


class ReplyMonitor:
    """Reports the outcome of one round trip, exactly once."""

    __slots__ = ("_due_s", "_on_failure", "_report", "_slow_s", "_timer")

    def __init__(self, report: Callable[[Outcome], object], slow_s: float, on_failure: Callable[[], None]) -> None:
        """Nothing is sent yet.

        Args:
            report: takes the outcome.
            slow_s: replies that take longer, from ``sent`` on, are a failure; it is reported then, not later.
            on_failure: called with each failure.
        """
        self._report: Callable[[Outcome], object] | None = report
        self._slow_s = slow_s
        self._on_failure = on_failure
        self._due_s = 0.0
        self._timer: FairTimer | None = None

    def sent(self) -> None:
        """From now on the server's time counts."""
        self._wait(self._slow_s)

    def end(self, outcome: Outcome) -> None:
        """The round trip ended so; only the first end counts."""
        report, self._report = self._report, None
        if report is None:
            return
        timer, self._timer = self._timer, None  # it holds this monitor: no cycle is left for the garbage collector
        if timer is not None:
            timer.cancel()
        if outcome is Outcome.FAILURE:
            self._on_failure()
        report(outcome)

    def _wait(self, seconds: float) -> None:
        self._due_s = time.monotonic() + seconds
        self._timer = FairTimer(seconds, self._overdue)

    def _overdue(self) -> None:
        loop_delay_s = time.monotonic() - self._due_s
        if loop_delay_s > _TICK_S:  # for so long it may not even have sent what it was given: the server gets it back
            self._wait(loop_delay_s)
        else:
            self.end(Outcome.FAILURE)
