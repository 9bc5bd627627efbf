"""A serving process whose model costs real time of the processor: ``python -m tests.faults.busy_server SETTINGS COST_MS``.

As ``tests.faults.chaos_server``, with a catalogue that is large enough for fifty users of whom no two share an item.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from core.catalogue import Catalogue
from core.types import Stopped, UserEvent
from server import app
from server.settings import Settings
from server.store.user_store import RedisUserStore
from tests.faults.chaos_server import Chaos, answer_commands, print_json
from tests.server import toy

if TYPE_CHECKING:
    from core.bundle import Bundle
    from core.types import Pool, Query, Scores, StopSignal

USERS = 50
EACH = 8
ITEMS = USERS * EACH
HELD = 0.3
"""Share of the model's time in which it holds the interpreter, as computing features does."""
_TYPICAL = 54  # rows of a pool
_SMALL, _LARGE = np.ones(64, np.float32), np.ones(256 * 1024, np.float32)
"""numpy lets go of the interpreter while it works on the second: some twenty times in a run, as a real model does. Where
a thread does so at every turn, each costs it the wait for a busy event loop."""


def item(row: int) -> str:
    return f"item-{row:03}"


def owned(user: int) -> tuple[str, ...]:
    """The items of a user's history."""
    return tuple(item(row) for row in range(user * EACH, (user + 1) * EACH))


def events(user: int, now_s: float) -> list[UserEvent]:
    """The history of a user, as a store gets it."""
    return [UserEvent(item_id, "view", now_s - 3600.0 * (i + 1)) for i, item_id in enumerate(owned(user))]


@dataclass
class BusyScorer:
    """Scores at random, after computing for ``cost_s`` when nobody disturbs it (half of it for one row, all of it for
    ``_TYPICAL``); notices a stop four times on its way."""

    cost_s: float
    running: int = 0
    stopped: int = 0

    def __post_init__(self) -> None:
        self._held_s, self._free_s = _cost_s(_SMALL, 5_000), _cost_s(_LARGE, 20)

    def score(self, query: Query, pool: Pool, stop: StopSignal | None = None) -> Scores:  # noqa: ARG002
        ended = threading.Event()
        if stop is not None:
            stop.on_stop(ended.set)
        self.running += 1
        step_s = self.cost_s * (1 + len(pool) / _TYPICAL) / 2 / 4
        try:
            for _ in range(4):
                _spin(_SMALL, HELD * step_s / self._held_s)
                _spin(_LARGE, (1 - HELD) * step_s / self._free_s)
                if ended.is_set():
                    self.stopped += 1
                    raise Stopped
        finally:
            self.running -= 1
        return (pool.rows * 37 % 101).astype(np.float32)


def _spin(array: Any, times: float) -> None:
    for _ in range(max(int(times), 1)):
        np.sqrt(array, out=array)


def _cost_s(array: Any, times: int) -> float:
    """Of one turn, when nobody disturbs it: the best of several."""
    took_s = []
    for _ in range(9):
        begun_s = time.perf_counter()
        _spin(array, times)
        took_s.append(time.perf_counter() - begun_s)
    return min(took_s) / times


class Busy(Chaos):
    """See ``Chaos``, with counts of tasks, model runs and shed calls."""

    def __init__(self, cost_s: float) -> None:
        super().__init__(Path())
        self._scorer = BusyScorer(cost_s)

    def load(self, _: Path) -> Bundle:
        rows = np.arange(ITEMS)
        catalogue = Catalogue(
            ids=[item(row) for row in range(ITEMS)],
            available=np.ones(ITEMS, np.bool_),
            price=np.ones(ITEMS, np.float32),
            created_at=np.zeros(ITEMS, np.int64),
            category_ptr=np.arange(ITEMS + 1, dtype=np.int32),
            category_idx=(rows % 2).astype(np.int32),
            category_names=("book", "toy"),
            attributes={},
        )
        vectors = np.random.default_rng(3).normal(size=(ITEMS, toy.WIDTH)).astype(np.float32)
        return replace(
            toy.bundle(items=catalogue), encoder=toy.ToyEncoder(vectors), scorer=self._scorer, item_vectors=vectors
        )

    def _stats(self) -> dict[str, Any]:
        gc.collect()
        assert self._loop is not None
        if not isinstance(self._parts["store"], RedisUserStore):
            self._parts["store"] = SimpleNamespace(in_use=0, misses={})
        more = {
            "tasks": len(asyncio.all_tasks(self._loop)),
            "model_running": self._scorer.running,
            "model_stopped": self._scorer.stopped,
            "shed": {str(who): count for who, count in self._parts["admission"].shed.items()},
        }
        return {**super()._stats(), **more}


def main(settings: str, cost_ms: str) -> int:
    """Serve until asked to stop."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    busy = Busy(float(cost_ms) / 1000)
    busy.hook()

    def ready(_version: str, port: int) -> None:
        threading.Thread(target=answer_commands, args=(busy,), daemon=True).start()
        print_json({"port": port})

    return app.run(Settings(**json.loads(settings)), Path(), on_ready=ready, load=busy.load)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
