"""A server whose model breaks on command: ``python -m loadtests.faulty_server BUNDLE STORE_URL``.

Prints where it listens, then answers each line on standard input (``slow``, ``hang``, ``heavy`` or ``well``) once it is so.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from core.types import Stopped
from loadtests.users import NAMESPACE
from server.app import leave, run
from server.loader import load_bundle
from server.settings import Settings

if TYPE_CHECKING:
    from core.bundle import Bundle
    from core.types import InterruptibleScorer, Pool, Query, Scores, StopSignal

SLOW_S = 0.2
"""What ``slow`` adds to each run: four deadlines."""
HEAVY = 12
"""How many times the CPU of a run ``heavy`` takes: a new model that nobody measured."""
_LONGEST_S = 60.0


@dataclass
class Breakable:
    """A scorer that is ``well``, ``slow``, ``heavy`` or ``hang``s; can be stopped at any time, as ONNX Runtime can."""

    behind: InterruptibleScorer
    mode: str = "well"

    def score(self, query: Query, pool: Pool, stop: StopSignal | None = None) -> Scores:
        """As the scorer behind, when it is well.

        Raises:
            Stopped: ``stop`` was set before the run ended.
        """
        if self.mode == "heavy":
            for _ in range(HEAVY - 1):
                self.behind.score(query, pool, stop)
        elif self.mode != "well":
            stopped = threading.Event()
            if stop is not None:
                stop.on_stop(stopped.set)
            if stopped.wait(SLOW_S if self.mode == "slow" else _LONGEST_S) or self.mode == "hang":
                raise Stopped
        return self.behind.score(query, pool, stop)


def _print_line(line: object) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _read_commands(scorer: Breakable) -> None:
    # Not sys.stdin: a thread that waits in it with the interpreter's lock on the buffer breaks the exit of the process.
    while data := os.read(0, 64):
        scorer.mode = data.decode("ascii").strip()
        _print_line(scorer.mode)


def main(bundle_folder: str, store_url: str) -> int:
    """Serve until asked to stop."""

    def load(folder: Path) -> Bundle:
        bundle = load_bundle(folder)
        if bundle.scorer is None:
            raise ValueError(f"{folder} has no model to break")
        scorer = Breakable(bundle.scorer)
        threading.Thread(target=_read_commands, args=(scorer,), daemon=True).start()
        return replace(bundle, scorer=scorer)

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    settings = Settings(port=0, store_url=store_url, namespace=NAMESPACE, lame_duck_s=0.0)
    return run(
        settings,
        Path(bundle_folder),
        on_ready=lambda _, port: _print_line(f"serving on {settings.host}:{port}"),
        load=load,
    )


if __name__ == "__main__":
    leave(main(*sys.argv[1:]))
