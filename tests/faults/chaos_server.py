"""A serving process whose parts break on command: ``python -m tests.faults.chaos_server FOLDER SETTINGS``.

``FOLDER`` has the models of ``chaos_model``, ``SETTINGS`` is JSON. Prints one JSON object once it answers calls, and one for
every line of standard input:

    scorer hang | slow MS | raise | nan | inf | shape | heal      generator NAME raise | slow MS | hang | empty | heal
    tower hang | deaf | slow MS | raise | nan | shape | heal      loop stall MS
    load VERSION        exchange               reset                stats

``exchange`` answers from the bundle that was loaded from then on.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.types import Candidates, Stopped
from ranking.onnx_scorer import OnnxScorer, OnnxUserEncoder
from server import app
from server.overload.breaker import State
from server.rungs.pipeline import Pipeline
from server.rungs.versions import Versions
from server.settings import Settings
from tests.faults import chaos_world
from tests.faults.chaos_world import VERSIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.bundle import Bundle
    from core.types import Pool, Query, Rows, Scores, StopSignal, UserState, Vector
    from server.overload.breaker import Breaker

_ENDLESS = 1e12
_LONGEST_S = 30.0
_FACTORS = {"nan": float("nan"), "inf": float("inf")}


@dataclass
class Fault:
    """How one part misbehaves now, and how many calls of it there are."""

    name: str
    mode: str = "heal"
    slow_s: float = 0.0
    running: int = 0
    calls: int = 0
    probing: int = 0
    most_probing: int = 0
    breaker: Breaker | None = None
    healed: threading.Event = field(default_factory=threading.Event)

    def become(self, mode: str, ms: str = "0") -> None:
        """Take on a mode; a call that hangs goes on when it is ``heal``."""
        self.slow_s, self.mode = float(ms) / 1000, mode
        if mode == "heal":
            self.healed.set()
        else:
            self.healed.clear()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """One call: how many run at a time, and how many of those that began as probes of a half-open breaker."""
        probe = self.breaker is not None and self.breaker.state is State.HALF_OPEN
        self.calls += 1
        self.running += 1
        self.probing += probe
        self.most_probing = max(self.most_probing, self.probing)
        try:
            yield
        finally:
            self.running -= 1
            self.probing -= probe

    def misbehave(self) -> None:
        """Raise, or come back late; as a part that cannot be stopped."""
        if self.mode == "raise":
            raise RuntimeError("secret: hunter2")
        if self.mode == "slow":
            time.sleep(self.slow_s)
        elif self.mode in {"hang", "deaf"}:
            self.healed.wait(_LONGEST_S)


class Source:
    """A generator behind a fault."""

    def __init__(self, behind: Any, fault: Fault) -> None:
        self._behind, self._fault = behind, fault
        self.name, self.inline = behind.name, behind.inline

    def generate(self, query: Query, limit: int) -> Candidates:
        with self._fault.counted():
            self._fault.misbehave()
            return Candidates.none(self.name) if self._fault.mode == "empty" else self._behind.generate(query, limit)

    def score_rows(self, rows: Rows) -> Scores:
        return self._behind.score_rows(rows)


class ModelInputs:
    """Tells the model how to behave, in the place of ``ranking.features.Features``."""

    names = ("spins", "factor")

    def __init__(self, fault: Fault) -> None:
        self._fault = fault

    def compute(self, query: Query, pool: Pool) -> Scores:  # noqa: ARG002
        fault, features = self._fault, np.zeros((len(pool), 2), np.float32)
        if fault.mode == "raise":
            fault.misbehave()
        features[:, 0] = _ENDLESS if fault.mode == "hang" else 0.0
        features[:, 1] = _FACTORS.get(fault.mode, 1.0)
        return features


class Model:
    """The real scorer over a model that misbehaves on command."""

    def __init__(self, path: Path, vectors: Any, fault: Fault) -> None:
        self._fault = fault
        self._behind = OnnxScorer(path, vectors, ModelInputs(fault))  # type: ignore[arg-type]

    def score(self, query: Query, pool: Pool, stop: StopSignal | None = None) -> Scores:
        with self._fault.counted():
            if self._fault.mode == "slow":
                self._dawdle(stop)
            scores = self._behind.score(query, pool, stop)
        return scores[:-1] if self._fault.mode == "shape" else scores

    def _dawdle(self, stop: StopSignal | None) -> None:
        """Take longer, without a core of its own, and come back when stopped."""
        stopped = threading.Event()
        if stop is not None:
            stop.on_stop(stopped.set)
        if stopped.wait(self._fault.slow_s):
            raise Stopped


class Tower:
    """The real user tower over one model that is well and one that never ends."""

    def __init__(self, folder: Path, vectors: Any, fault: Fault) -> None:
        self._fault = fault
        self._well = OnnxUserEncoder(folder / "user_tower.onnx", vectors)
        self._endless = OnnxUserEncoder(folder / "endless_tower.onnx", vectors)

    def encode(self, query: Query, stop: StopSignal | None = None) -> Vector:
        fault = self._fault
        with fault.counted():
            if fault.mode == "hang":
                return self._endless.encode(query, stop)
            fault.misbehave()
            vector = self._well.encode(query, stop)
        return vector[:-1] if fault.mode == "shape" else vector * np.float32(_FACTORS.get(fault.mode, 1.0))


class Counted:
    """A user store that counts its reads."""

    def __init__(self, behind: Any, fault: Fault) -> None:
        self._behind, self._fault, self.lists = behind, fault, behind.lists

    async def read(self, user_id: str, timeout_s: float, report: Any) -> UserState:
        with self._fault.counted():
            return await self._behind.read(user_id, timeout_s, report)


class Chaos:
    """What the lines of standard input act upon."""

    def __init__(self, folder: Path) -> None:
        names = ("scorer", "user_tower", "user_store", "neighbours", "far", "popularity")
        self.faults = {name: Fault(name) for name in names}
        self.served: Counter[str] = Counter()
        self.metrics_port: int | None = None
        self._folder = folder
        self._parts: dict[str, Any] = {}
        self._guard: Any = None
        self._loaded: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def load(self, _: Path) -> Bundle:
        return self._bundle(VERSIONS[0])

    def _bundle(self, version: str) -> Bundle:
        whole = chaos_world.bundle(version)
        sources = tuple(Source(g, self.faults[g.name]) for g in whole.generators)
        popularity = next(source for source in sources if source.name == whole.popularity.name)
        model = Model(self._folder / "ranker.onnx", whole.item_vectors, self.faults["scorer"])
        tower = Tower(self._folder, whole.item_vectors, self.faults["user_tower"])
        return replace(whole, generators=sources, popularity=popularity, scorer=model, encoder=tower)

    def hook(self) -> None:
        """Get hold of the parts that ``server.app`` makes."""
        add_gauges, edge, exporters = app.add_gauges, app.CallGuard, app.exporters

        def adding(telemetry: Any, **parts: Any) -> None:
            pipeline = parts["versions"].live
            self._parts, self._loop = {**parts, "store": pipeline._store}, asyncio.get_running_loop()
            pipeline._store = Counted(pipeline._store, self.faults["user_store"])
            self._watch_breakers(pipeline)
            add_gauges(telemetry, **parts)

        def counting(settings: Any, admission: Any, record: Any) -> Any:
            def count(call: Any) -> None:
                self.served[call.status] += 1
                record(call)

            self._guard = edge(settings, admission, count)
            return self._guard

        def exporting(*args: Any, **named: Any) -> Any:
            exported = exporters(*args, **named)
            self.metrics_port = exported.metrics_port
            return exported

        app.add_gauges, app.CallGuard, app.exporters = adding, counting, exporting

    def run_command(self, line: str) -> dict[str, Any]:
        match line.split():
            case ["scorer", *mode]:
                self.faults["scorer"].become(*mode)
            case ["tower", *mode]:
                self.faults["user_tower"].become(*mode)
            case ["generator", name, *mode]:
                self.faults[name].become(*mode)
            case ["loop", "stall", ms]:
                self._on_loop(lambda: time.sleep(float(ms) / 1000), wait=False)
            case ["load", version]:
                self._loaded = self._pipeline(version)
            case ["exchange"]:
                self._on_loop(lambda: self._serve(self._loaded))
            case ["reset"]:
                self._on_loop(self._reset)
            case ["stats"]:
                return self._stats()
            case _:
                return {"error": f"no such command: {line}"}
        return {}

    def _on_loop(self, act: Any, *, wait: bool = True) -> None:
        done = threading.Event()
        assert self._loop is not None
        self._loop.call_soon_threadsafe(lambda: (act(), done.set()))
        if wait:
            done.wait(_LONGEST_S)

    def _pipeline(self, version: str) -> Pipeline:
        """Over the bundle of a version, with the store and the threads of the one that serves."""
        serving = self._parts["versions"].live
        loaded = Pipeline(self._bundle(version), serving._store, self._parts["work"], serving._settings)
        loaded.deep.cost = serving.deep.cost
        return loaded

    def _serve(self, pipeline: Pipeline) -> None:
        """Answer from this one from now on; calls under way keep the one that they began with."""
        self._watch_breakers(pipeline)
        self._guard.versions = self._parts["versions"] = Versions.of(pipeline)

    def _watch_breakers(self, pipeline: Pipeline) -> None:
        for name, fault in self.faults.items():
            fault.breaker = pipeline.breakers[name]

    def _reset(self) -> None:
        """As good as new: nothing broken, breakers and estimates as at the start."""
        if self._parts["versions"].live.bundle.version != VERSIONS[0]:
            self._serve(self._pipeline(VERSIONS[0]))
        for fault in self.faults.values():
            fault.become("heal")
            fault.calls = fault.most_probing = 0
        pipeline = self._parts["versions"].live
        for breaker in pipeline.breakers.values():
            breaker.__init__(breaker.name, breaker._rule)
        pipeline.deep.cost.slowdown = 1.0
        self._parts["lag"].worst_s = 0.0
        self.served.clear()

    def _stats(self) -> dict[str, Any]:
        parts = self._parts
        admission, work, pipeline = parts["admission"], parts["work"], parts["versions"].live
        return {
            "breakers": {
                b.name: {"state": b.state, "opened": b.opened, "transitions": sum(b.transitions.values())}
                for b in pipeline.breakers.values()
            },
            "parts": {
                f.name: {"running": f.running, "calls": f.calls, "most_probing": f.most_probing}
                for f in self.faults.values()
            },
            "in_flight": admission.in_flight,
            "pressure": admission.pressure,
            "delay_ms": admission.delay_s * 1000,
            "cost_ms": {tier.name: cost_s * 1000 for tier, cost_s in admission.cost_s.items()},
            "slowdown": pipeline.deep.cost.slowdown,
            "threads": sum(t.name.startswith("work-") for t in threading.enumerate()),
            "stuck": work.stuck,
            "free_jobs": work.free_jobs,
            "lag_worst_ms": parts["lag"].worst_s * 1000,
            "store_in_use": parts["store"].in_use,
            "store_misses": dict(parts["store"].misses),
            "floor_failures": pipeline.floor.failures,
            "served": dict(self.served),
            "objects": len(gc.get_objects()),
        }


def print_json(found: dict[str, Any]) -> None:
    os.write(1, f"{json.dumps(found)}\n".encode())


def answer_commands(chaos: Chaos) -> None:
    # Not sys.stdin: a thread that waits in it breaks the exit of the process.
    rest = b""
    while data := os.read(0, 4096):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            print_json(chaos.run_command(line.decode("ascii")))


def main(folder: str, settings: str) -> int:
    """Serve until asked to stop."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    chaos = Chaos(Path(folder))
    chaos.hook()

    def ready(_version: str, port: int) -> None:
        threading.Thread(target=answer_commands, args=(chaos,), daemon=True).start()
        print_json({"port": port, "metrics_port": chaos.metrics_port})

    return app.run(Settings(**json.loads(settings)), Path(folder), on_ready=ready, load=chaos.load)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
