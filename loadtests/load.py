"""``python -m loadtests.load``: runs load scenarios against servers that it starts, and says which targets they miss.

Exit code 0: every target met; 1: some target missed; 2: the caller could not keep up, or others used the machine, so the
run says nothing.
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

from loadtests import cores, load_report, machine
from loadtests.broken import BreakableStore, broken
from loadtests.figures import conditions
from loadtests.history import COLUMNS, History, Run
from loadtests.plan import DEADLINE_MS, timeline, to_json
from loadtests.processes import Child, FaultyServer, Server
from loadtests.scenarios import SCENARIOS
from loadtests.slow_link import SlowLink
from loadtests.targets import invalid, judge
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
    before = machine.measure()
    with (
        cores.on(cores.CALLERS),
        _rig(scenario, made, log) as (store, link, server),
        Child("loadtests.load_generator", server.address, str(made.folder), on=cores.CALLERS) as crowd,
    ):
        seconds = 1.2 if short else 5.0
        _closed(crowd, max(CALLERS), seconds)  # the first seconds of a process are its slowest
        found = {callers: _closed(crowd, callers, seconds) for callers in CALLERS}
        best = max(CALLERS, key=lambda callers: found[callers]["deep_per_s"])
        capacity = found[best]["deep_per_s"]
        if not capacity:
            raise RuntimeError(
                f"{scenario.name}: no DEEP answer came in time, so there is no capacity to take shares of"
            )
        spans, out = timeline(scenario.phases, capacity, short=short), folder / f"{scenario.name}.calls.npz"
        start_s = time.monotonic() + _READY_S
        asked = {"kind": "open", "spans": to_json(spans), "traffic": dict(scenario.traffic), "start_s": start_s}
        crowd.send(json.dumps({**asked, "deadline_ms": DEADLINE_MS, "out": str(out)}))
        used = [_through(span, start_s, store, link, server) for span in spans]
        crowd.line()
        after = _closed(crowd, best, seconds)["deep_per_s"]
    trouble = machine.trouble(before, machine.measure())
    with np.load(out) as arrays:
        history = History(**{name: arrays[name] for name in COLUMNS})
        busy = arrays["caller_busy"]
    out.unlink()
    about = {
        **conditions(),
        "short": short,
        "items": len(made.ids),
        "capacity_after": after,
        "machine_trouble": trouble,
        "cores_of_server": len(cores.SERVER),
        "server_errors": len(re.findall(r"^.* (?:ERROR|CRITICAL) ", log.read_text(encoding="utf-8"), re.MULTILINE)),
        "caller_ms_per_call": found[best]["caller_ms_per_call"],
        "server_cores": dict(zip((span.name for span in spans), used, strict=True)),
    }
    return Run(scenario.name, DEADLINE_MS, capacity, tuple(spans), history, busy, about)


@contextmanager
def _rig(
    scenario: Scenario, made: SyntheticData, log: Path
) -> Iterator[tuple[BreakableStore, SlowLink, Server | FaultyServer]]:
    """A store that knows the users, a link to it that can be slow, and a server, which uses it where it must."""
    with BreakableStore(made.folder / "store") as store, SlowLink(store.url) as link:
        asyncio.run(made.users.fill(store.url, made.ids))
        store.keep()
        kind = FaultyServer if scenario.breaks_the_model else Server
        with kind(made.bundle, link.url if scenario.slows_the_store else store.url, log=log, on=cores.SERVER) as server:
            yield store, link, server


def _closed(crowd: Child, callers: int, seconds: float) -> dict[str, float]:
    asked = {"kind": "closed", "callers": callers, "seconds": seconds, "deadline_ms": DEADLINE_MS}
    found: dict[str, float] = json.loads(crowd.ask(json.dumps(asked)))
    return found


def _through(span: Span, start_s: float, store: BreakableStore, link: SlowLink, server: Child) -> float:
    """Wait for a phase to pass, with its fault; the cores that the server used meanwhile."""
    time.sleep(max(start_s + span.start_s - time.monotonic(), 0))
    cpu_s = server.cpu_s()
    with broken(span.fault, store, link, server):
        time.sleep(max(start_s + span.end_s - time.monotonic(), 0))
        return (server.cpu_s() - cpu_s) / span.seconds


def report(run: Run, scenario: Scenario) -> int:
    """Print what a run made of its targets; the exit code that it deserves."""
    verdicts = judge(run, scenario.targets)
    shown = [f"{run.scenario}: {len(run.history)} calls, capacity {run.capacity:.0f}/s"]
    shown += [f"  {'met   ' if verdict.met else 'MISSED'} {load_report.summary(verdict)}" for verdict in verdicts]
    if why := invalid(run):
        shown.append(f"  INVALID, this says nothing of the server: {why}")
    sys.stdout.write("\n".join([*shown, ""]))
    sys.stdout.flush()
    if why:
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
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="run each scenario N times, a line a run")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.scenarios) - set(SCENARIOS):
        parser.error(f"no scenario is called {', '.join(sorted(unknown))}")
    asked.out.mkdir(parents=True, exist_ok=True)
    codes: list[int] = []
    for name in asked.scenarios or SCENARIOS:
        if asked.repeat > 1:
            codes.append(_repeat(SCENARIOS[name], asked))
            continue
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


def _repeat(scenario: Scenario, asked: Any) -> int:
    """Run a scenario several times; a line for each run, and how many of the valid ones met each target."""
    says = [target.measure.says for target in scenario.targets]
    numbered = "\n".join(f"  [{number}] {each}" for number, each in enumerate(says, 1))
    sys.stdout.write(f"{scenario.name}, {asked.repeat} runs:\n{numbered}\n")
    found = []
    for number in range(1, asked.repeat + 1):
        run = _run(scenario.name, asked)
        run.save(asked.out / f"{scenario.name}.{number}.npz")
        verdicts = judge(run, scenario.targets)
        why = invalid(run)
        if not why:
            found.append([verdict.met for verdict in verdicts])
        figures = "  ".join(
            f"{load_report.figure(each.value, each.target.measure.unit)}{' ' if each.met else '!'}" for each in verdicts
        )
        sys.stdout.write(f"{number:3}  {run.capacity:4.0f}/s  {figures}{f'  INVALID: {why}' if why else ''}\n")
        sys.stdout.flush()
    met = [sum(column) for column in zip(*found, strict=True)]
    sys.stdout.write(f"met in {len(found)} valid runs: " + ", ".join(f"[{n}] {m}" for n, m in enumerate(met, 1)) + "\n")
    if len(found) < asked.repeat:
        return INVALID
    return 0 if all(count == len(found) for count in met) else MISSED


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
