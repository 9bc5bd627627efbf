"""``python -m loadtests.load``: runs load scenarios against servers that it starts, and says which targets they miss.

Exit code 0: every target met; 1: some target missed; 2: the caller could not keep up, so the run says nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from loadtests import load_report
from loadtests.broken import BreakableStore, broken
from loadtests.figures import conditions
from loadtests.history import COLUMNS, History, Run
from loadtests.plan import DEADLINE_MS, PATIENCE, timeline, to_json
from loadtests.processes import Child, FaultyServer, Server
from loadtests.scenarios import SCENARIOS
from loadtests.targets import is_valid, judge, sent_as_planned
from loadtests.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from loadtests.plan import Span
    from loadtests.workspace import SyntheticData
from loadtests.scenarios import Scenario

MISSED, INVALID = 1, 2
CALLERS = (2, 4, 8)
"""How many callers at once the capacity is looked for with."""
_READY_S = 1.5


def play(scenario: Scenario, made: SyntheticData, folder: Path, *, short: bool) -> Run:
    """Start server, store and callers, find the capacity, run the phases, break what is to be broken.

    Args:
        scenario: what to run.
        made: the bundle to serve, and its users.
        folder: for what the processes leave, ``<scenario>.server.log`` among it.
        short: the short form of every phase.
    """
    log = folder / f"{scenario.name}.server.log"
    with (
        _rig(scenario, made, log) as (store, server),
        Child("loadtests.load_generator", server.address, str(made.folder)) as crowd,
    ):
        seconds = 1.2 if short else 5.0
        _closed(crowd, max(CALLERS), seconds, 1000.0)  # the first seconds of a process are its slowest
        alone_ms = _closed(crowd, 1, seconds, 1000.0)["deep_p50_ms"]
        deadline_ms = max(DEADLINE_MS, PATIENCE * alone_ms) if short else DEADLINE_MS
        found = {callers: _closed(crowd, callers, seconds, deadline_ms) for callers in CALLERS}
        best = max(CALLERS, key=lambda callers: found[callers]["deep_per_s"])
        capacity = found[best]["deep_per_s"]
        if not capacity:
            raise RuntimeError(
                f"{scenario.name}: no DEEP answer came in time, so there is no capacity to take shares of"
            )
        spans, out = timeline(scenario.phases, capacity, short=short), folder / f"{scenario.name}.calls.npz"
        start_s = time.monotonic() + _READY_S
        asked = {"kind": "open", "spans": to_json(spans), "traffic": dict(scenario.traffic), "start_s": start_s}
        crowd.send(json.dumps({**asked, "deadline_ms": deadline_ms, "out": str(out)}))
        used = [_through(span, start_s, store, server) for span in spans]
        crowd.line()
        after = _closed(crowd, best, seconds, deadline_ms)["deep_per_s"]
    with np.load(out) as arrays:
        history = History(**{name: arrays[name] for name in COLUMNS})
        busy = arrays["caller_busy"]
    out.unlink()
    about = {
        **conditions(),
        "short": short,
        "items": len(made.ids),
        "capacity_after": after,
        "alone_ms": alone_ms,
        "server_errors": len(re.findall(r"^.* (?:ERROR|CRITICAL) ", log.read_text(encoding="utf-8"), re.MULTILINE)),
        "caller_ms_per_call": found[best]["caller_ms_per_call"],
        "server_cores": dict(zip((span.name for span in spans), used, strict=True)),
    }
    return Run(scenario.name, deadline_ms, capacity, tuple(spans), history, busy, about)


@contextmanager
def _rig(scenario: Scenario, made: SyntheticData, log: Path) -> Iterator[tuple[BreakableStore, Server | FaultyServer]]:
    """A store that knows the users, and a server."""
    with BreakableStore(made.folder / "store") as store:
        asyncio.run(made.users.fill(store.url, made.ids))
        store.keep()
        kind = FaultyServer if scenario.breaks_the_model else Server
        with kind(made.bundle, store.url, log=log) as server:
            yield store, server


def _closed(crowd: Child, callers: int, seconds: float, deadline_ms: float) -> dict[str, float]:
    asked = {"kind": "closed", "callers": callers, "seconds": seconds, "deadline_ms": deadline_ms}
    found: dict[str, float] = json.loads(crowd.ask(json.dumps(asked)))
    return found


def _through(span: Span, start_s: float, store: BreakableStore, server: Child) -> float:
    """Wait for a phase to pass, with its fault; the cores that the server used meanwhile."""
    time.sleep(max(start_s + span.start_s - time.monotonic(), 0))
    cpu_s = server.cpu_s()
    with broken(span.fault, store, server):
        time.sleep(max(start_s + span.end_s - time.monotonic(), 0))
        return (server.cpu_s() - cpu_s) / span.seconds


def report(run: Run, scenario: Scenario) -> int:
    """Print what a run made of its targets; the exit code that it deserves."""
    verdicts = judge(run, scenario.targets)
    shown = [f"{run.scenario}: {len(run.history)} calls, capacity {run.capacity:.0f}/s"]
    shown += [f"  {'met   ' if verdict.met else 'MISSED'} {load_report.summary(verdict)}" for verdict in verdicts]
    if not is_valid(run):
        shares = ", ".join(f"{name} {share:.1%}" for name, share in sent_as_planned(run).items())
        shown.append(f"  INVALID: the caller could not send as planned ({shares}), so this says nothing of the server")
    sys.stdout.write("\n".join([*shown, ""]))
    sys.stdout.flush()
    if not is_valid(run):
        return INVALID
    return 0 if all(verdict.met for verdict in verdicts) else MISSED


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the scenarios that are asked for, or read their histories again; write reports."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.load", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(SCENARIOS)}; all by default")
    parser.add_argument("--short", action="store_true", help="seconds instead of a minute, and a small catalogue")
    parser.add_argument("--out", type=Path, default=Path("build/load"), help="folder for histories and reports")
    parser.add_argument("--folder", type=Path, default=Path("build/bench"), help="bundles and data, used again")
    parser.add_argument("--again", action="store_true", help="judge and report the histories that are there")
    parser.add_argument("--picture", type=Path, help="also draw the last scenario as one SVG file")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.scenarios) - set(SCENARIOS):
        parser.error(f"no scenario is called {', '.join(sorted(unknown))}")
    asked.out.mkdir(parents=True, exist_ok=True)
    codes: list[int] = []
    for name in asked.scenarios or SCENARIOS:
        run = _run(name, asked)
        code = report(run, SCENARIOS[name])
        if code == INVALID and not asked.again:
            sys.stdout.write(f"{name}: once more, since this said nothing\n")
            run = _run(name, asked)
            code = report(run, SCENARIOS[name])
        codes.append(code)
        load_report.write(asked.out, run, SCENARIOS[name])
        if asked.picture:
            asked.picture.write_text(load_report.picture(run), encoding="utf-8")
    load_report.write_index(asked.out, SCENARIOS)
    sys.stdout.write(f"reports: {asked.out / 'index.html'}\n")
    return max(codes)


def _run(name: str, asked: Any) -> Run:
    path = asked.out / f"{name}.npz"
    if asked.again:
        return Run.load(path)
    workspace = Workspace(asked.folder)
    made = workspace.synthetic(5_000, 2_000) if asked.short else workspace.benchmark_data()
    run = play(SCENARIOS[name], made, asked.out, short=asked.short)
    run.save(path)
    return run


if __name__ == "__main__":
    sys.exit(main())
