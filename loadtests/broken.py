"""Things that break on command: the user store and the model of a running server."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import redis

from server.store.embedded import EmbeddedStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loadtests.processes import Child
    from loadtests.slow_link import SlowLink

FAULTS = ("store_hangs", "store_gone", "store_slow", "model_slow", "model_hangs", "model_heavy")
MODEL_MODES = {"model_slow": "slow", "model_hangs": "hang", "model_heavy": "heavy"}
STORE_DELAY_S = 0.01
"""What ``store_slow`` adds to every reply: a store in another zone, or one that is busy."""


class BreakableStore(EmbeddedStore):
    """A real Valkey that can be stopped dead, killed, and brought back on the same socket with the same data."""

    def keep(self) -> None:
        """Write the data to disk now, so that a kill loses nothing."""
        with redis.Redis.from_url(self.url) as client:
            client.save()

    def hang(self) -> None:
        """Connections are accepted and bytes are taken, and no answer comes (a black hole)."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End of ``hang``."""
        self._process.send_signal(signal.SIGCONT)

    def die(self) -> None:
        """Connections break, new ones are refused."""
        self._process.kill()
        self._process.wait()

    def come_back(self) -> None:
        """Start again after ``die`` and wait until it answers."""
        self._let_go()
        self._process = self._started()
        self._wait()


@contextmanager
def broken(fault: str, store: BreakableStore, link: SlowLink, server: Child) -> Iterator[None]:
    """One of ``FAULTS`` until the context ends; none where the name is empty."""
    if fault == "store_hangs":
        store.hang()
    elif fault == "store_slow":
        link.delay_s = STORE_DELAY_S
    elif fault == "store_gone":
        store.die()
    elif fault:
        server.ask(MODEL_MODES[fault])
    try:
        yield
    finally:
        if fault == "store_hangs":
            store.go_on()
        elif fault == "store_slow":
            link.delay_s = 0.0
        elif fault == "store_gone":
            store.come_back()
        elif fault:
            server.ask("well")
