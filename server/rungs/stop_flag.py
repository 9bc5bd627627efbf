"""How the event loop stops a run on another thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class StopFlag:
    """Stops a run from another thread (``core.types.StopSignal``).

    Without a lock: each side writes before it reads what the other one writes, so that at least one of them calls the
    act. Both may, and asking a run twice to end is asking it once.
    """

    __slots__ = ("_act", "stopped")

    def __init__(self) -> None:
        self._act: Callable[[], None] | None = None
        self.stopped = False

    def stop(self) -> None:
        """Ask the run to end."""
        self.stopped = True
        act = self._act
        if act is not None:
            act()

    def on_stop(self, act: Callable[[], None]) -> None:
        """What to call when asked to end; at once if that was already."""
        self._act = act
        if self.stopped:
            act()
