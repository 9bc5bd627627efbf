"""``python -m loadtests.swap``: replaces bundles under load, ends a worker, and says whether anybody who called noticed.

Exit code 0: every target met; 1: some target missed; 2: others used the machine, so the times say nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadtests import machine
from loadtests.figures import conditions, lines
from loadtests.processes import Child, Server, descriptors_and_threads
from loadtests.swap_bundles import copy_as
from loadtests.swap_figures import Calls, Change, Moments, figures, missed, slope
from loadtests.users import NAMESPACE
from loadtests.workspace import Workspace
from server.release.operations import Operations
from server.release.release_store import ReleaseStore
from server.store.embedded import EmbeddedStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from core.release import Release
    from loadtests.workspace import SyntheticData
    from server.release.replica_report import ReplicaReport

MISSED, INVALID = 1, 2
WORKERS = 2
LOAD = 0.7
BUDGET_MS = 100
"""Of the server for a call; callers wait far longer."""
PATIENCE_S = 120.0
CALLERS = (2, 4, 8)
"""How many callers at once the capacity is looked for with."""
_LOOK_S = 0.05
_STORE_S = 10.0
"""For the operator: what a busy machine does to it is not what is measured."""


@dataclass(frozen=True)
class Form:
    """How much is done.

    Attributes:
        swaps: bundles that are staged and promoted one after the other.

        search_s: of looking for the capacity with so many callers, seconds.

        steady_s: time without anything before each of them, seconds.

        age_s: of connections; workers leave within about that time.

        flips: rollbacks and promotions after the swaps, of each.

        rate: calls a second; None for ``LOAD`` of the capacity.
    """

    swaps: int
    search_s: float
    steady_s: float
    age_s: float
    flips: int
    rate: float | None = None


SHORT = Form(swaps=3, search_s=3.0, steady_s=5.0, age_s=3.0, flips=2)
LONG = Form(swaps=20, search_s=5.0, steady_s=5.0, age_s=5.0, flips=5)


class Operator:
    """Releases versions while callers call, and notes what was done when; belongs to one event loop."""

    def __init__(self, server: Server, store_url: str) -> None:
        self.moments = Moments()
        self.soak: dict[str, list[float]] = {"pss_mb": [], "descriptors": [], "threads": []}
        self._server = server
        self._store = ReleaseStore(store_url, NAMESPACE, timeout_s=_STORE_S)
        self._operations = Operations(self._store, "loadtests.swap")

    async def close(self) -> None:
        """Let go of the store."""
        await self._store.close()

    async def begin(self, version: str) -> None:
        """Make the first document."""
        await self._until(lambda replica: replica.answers_from == version, f"the server answers from {version}")
        await self._change("first", lambda: self._operations.stage(version))
        self._look()

    async def swap(self, version: str, steady_s: float) -> None:
        """Some time without anything, then stage a version, promote it when it is ready, and look at the processes."""
        begun_s = time.monotonic()
        await asyncio.sleep(steady_s)
        self.moments.steady.append((begun_s, time.monotonic()))
        await self._operations.stage(version)
        await self._until(lambda replica: version in replica.loaded, f"{version} is loaded")
        await self._until(lambda _: len(self._server.loaders) == 1, "the old workers have left")
        self.moments.replacing.append((self.moments.steady[-1][1], time.monotonic()))
        await self.flip("promote")
        self._look()

    async def flip(self, kind: str) -> None:
        """Promote or roll back, and wait until that must have come to everybody."""
        change = self._operations.promote if kind == "promote" else self._operations.rollback
        await self._change(kind, change)
        await asyncio.sleep(2.0)

    async def end_a_worker(self) -> None:
        """SIGTERM to one worker; another takes its place."""
        ended = self._server.workers[0]
        begun_s = time.monotonic()
        os.kill(ended, signal.SIGTERM)
        await self._until(
            lambda replica: ended not in self._server.workers and replica.workers_ready == WORKERS, "it is replaced"
        )
        self.moments.sigterm.append((begun_s, time.monotonic()))

    async def _change(self, kind: str, change: Callable[[], Awaitable[Release]]) -> None:
        begun_s = time.monotonic()
        release = await change()
        self.moments.changes.append(Change(kind, begun_s, time.monotonic(), release.live_version))

    async def _until(self, holds: Callable[[ReplicaReport], bool], what: str) -> None:
        """Wait for what the one replica says of itself.

        Raises:
            RuntimeError: it refuses a version, or does not come to it.
        """
        end_s = time.monotonic() + PATIENCE_S
        while True:
            replicas = (await self._operations.status()).replicas
            if replicas and holds(replicas[0]):
                return
            if replicas and replicas[0].rejected:
                raise RuntimeError(f"refused: {dict(replicas[0].rejected)}")
            if time.monotonic() > end_s:
                raise RuntimeError(f"not within {PATIENCE_S:g} s: {what}")
            await asyncio.sleep(_LOOK_S)

    def _look(self) -> None:
        """Note what the server's processes hold."""
        held = [descriptors_and_threads(pid) for pid in self._server.pids]
        self.soak["pss_mb"].append(self._server.memory_mb()["Pss"])
        self.soak["descriptors"].append(sum(descriptors for descriptors, _ in held))
        self.soak["threads"].append(sum(threads for _, threads in held))


def play(made: SyntheticData, folder: Path, form: Form) -> dict[str, Any]:
    """Start store, server and callers, do all that a form says; the figures.

    Args:
        made: a bundle and its users.
        folder: emptied, for what the run leaves: ``server.log``, ``calls.npz`` and the bundles.
        form: how much is done.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    bundles, log, out = folder / "bundles", folder / "server.log", folder / "calls.npz"
    versions = [f"v{number:02}" for number in range(form.swaps + 1)]
    copy_as(versions[0], made.bundle, bundles)
    options: tuple[str, ...] = (
        "--workers",
        f"{WORKERS}",
        "--max-request-ms",
        f"{BUDGET_MS}",
        "--default-deadline-ms",
        f"{BUDGET_MS}",
    )
    options += ("--max-connection-age-s", f"{form.age_s}", "--exercise-share", "0", "--data", str(folder / "data"))
    before = machine.measure()
    with ExitStack() as stack:
        store = stack.enter_context(EmbeddedStore(folder / "store"))
        asyncio.run(made.users.fill(store.url, made.ids))
        server = stack.enter_context(Server(bundles, store.url, *options, log=log))
        for version in versions[1:]:
            copy_as(version, made.bundle, bundles)
        callers = stack.enter_context(Child("loadtests.swap_callers", server.address, str(made.folder)))
        closed = {n: float(callers.ask(json.dumps({"callers": n, "seconds": form.search_s}))) for n in CALLERS}
        rate = form.rate or LOAD * max(closed.values())
        if not rate:
            raise RuntimeError("no DEEP answer came in time, so there is no capacity to take a share of")
        operator = Operator(server, store.url)
        asyncio.run(_operate(operator, lambda: callers.ask(json.dumps({"rate": rate})), versions, form))
        callers.ask(json.dumps({"out": str(out)}))
    trouble = machine.trouble(before, machine.measure())
    ended = re.findall(r"worker \d+ ended with status (-?\d+)", log.read_text(encoding="utf-8"))
    return {
        **figures(Calls.load(out), operator.moments),
        "sigterm_exit_code": next((int(status) for status in ended), server.process.returncode),
        "capacity_per_s": max(closed.values()),
        "offered_per_s": rate,
        "soak": operator.soak,
        # Without the first, when workers held one bundle only.
        "soak_slopes": {name: slope(values[1:]) for name, values in operator.soak.items()},
        "machine_trouble": trouble,
        "connection_age_s": form.age_s,
        "items": len(made.ids),
        "conditions": conditions(),
    }


async def _operate(
    operator: Operator, begin_calling: Callable[[], object], versions: Sequence[str], form: Form
) -> None:
    try:
        await operator.begin(versions[0])
        begin_calling()
        for version in versions[1:]:
            await operator.swap(version, form.steady_s)
        for _ in range(form.flips):
            await operator.flip("rollback")
            await operator.flip("promote")
        await operator.end_a_worker()
    finally:
        await operator.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print the figures, write them as JSON."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.swap", description=__doc__)
    parser.add_argument("--long", action="store_true", help=f"{LONG.swaps} swaps instead of {SHORT.swaps}")
    parser.add_argument("--out", type=Path, default=Path("build/swap.json"), help="file for the figures")
    parser.add_argument("--folder", type=Path, default=Path("build/bench"), help="bundles and data, used again")
    asked = parser.parse_args(arguments)
    made = Workspace(asked.folder).synthetic(5_000, 2_000)
    found = play(made, asked.folder / "swap", LONG if asked.long else SHORT)
    found["missed"] = missed(found, found["machine_trouble"])
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    sys.stdout.write("\n".join(["swap", *lines(found), ""]))
    for line in found["missed"]:
        sys.stdout.write(f"MISSED {line}\n")
    if found["missed"]:
        return MISSED
    if found["machine_trouble"]:
        sys.stdout.write(f"INVALID, the times say nothing: {found['machine_trouble']}\n")
        return INVALID
    return 0


if __name__ == "__main__":
    sys.exit(main())
