"""How the event loop stops a run on another thread."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class StopFlag:
    """Stops a run from another thread (``core.types.StopSignal``)."""

    __slots__ = ("_act", "_lock", "stopped")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._act: Callable[[], None] | None = None
        self.stopped = False

    def stop(self) -> None:
        """Ask the run to end."""
        with self._lock:
            self.stopped = True
            act = self._act
        if act is not None:
            act()

    def on_stop(self, act: Callable[[], None]) -> None:
        """What to call when asked to end; at once if that was already."""
        with self._lock:
            self._act = act
            stopped = self.stopped
        if stopped:
            act()
