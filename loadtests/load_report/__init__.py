"""Reports of load runs: one HTML page and one Markdown file a scenario, an index, and a picture; nothing is fetched."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from loadtests.history import Run
from loadtests.load_report import charts
from loadtests.load_report.series import of_run
from loadtests.targets import invalid, judge, sent_as_planned

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from loadtests.scenarios import Scenario
    from loadtests.targets import Verdict

_UNITS = {"share": "{:.2%}", "times": "{:.2f}", "s": "{:.1f} s"}
_BROKEN = {
    "store_hangs": "the user store hangs",
    "store_gone": "the user store is gone",
    "store_slow": "every reply of the user store is 10 ms late",
    "model_slow": "every model run takes 200 ms more",
    "model_hangs": "every model run hangs",
    "model_heavy": "every model run takes twelve times the CPU",
}


def figure(value: float, unit: str) -> str:
    """A measure's value as it is written."""
    if not np.isfinite(value):
        return "never" if unit == "s" else "none" if np.isnan(value) else "infinite"
    return _UNITS[unit].format(value)


def bound(verdict: Verdict) -> str:
    """What a target demands."""
    target = verdict.target
    return f"at {'least' if target.is_floor else 'most'} {figure(target.bound, target.measure.unit)}"


def summary(verdict: Verdict) -> str:
    """A target and what was made of it, in one line."""
    measure = verdict.target.measure
    return f"{measure.says}: {figure(verdict.value, measure.unit)} ({bound(verdict)})"


def write(folder: Path, run: Run, scenario: Scenario) -> None:
    """Write ``<scenario>.html`` and ``<scenario>.md``."""
    (folder / f"{run.scenario}.html").write_text(page(run, scenario), encoding="utf-8")
    (folder / f"{run.scenario}.md").write_text(markdown(run, scenario), encoding="utf-8")


def page(run: Run, scenario: Scenario) -> str:
    """The HTML page of a run."""
    series = of_run(run)
    verdicts = judge(run, scenario.targets)
    kinds = [kind for kind in ("user", "other") if series.calls[kind].any()]
    drawn: str = _template("page.html.j2").render(
        style=_style(),
        run=run,
        scenario=scenario,
        facts=_facts(run),
        state=_state(run, verdicts),
        rows=_rows(verdicts),
        phases=_phases(run),
        latency=charts.latency(run, series),
        shares=[(kind, charts.shares(run, series, kind)) for kind in kinds],
        rates=charts.rates(run, series),
        lateness=_lateness(run),
    )
    return drawn


def markdown(run: Run, scenario: Scenario) -> str:
    """The same without charts: targets, and a line a phase."""
    verdicts = judge(run, scenario.targets)
    lines = [f"# {run.scenario}", "", scenario.asks, "", f"{_state(run, verdicts)['headline']}. {_facts(run)}", ""]
    lines += ["| target | demanded | measured | | why |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(row.values())} |" for row in _rows(verdicts)]
    phases = _phases(run)
    lines += ["", f"| {' | '.join(phases[0])} |", f"|{'---|' * len(phases[0])}"]
    lines += [f"| {' | '.join(row.values())} |" for row in phases]
    return "\n".join([*lines, "", _lateness(run), ""])


def write_index(folder: Path, scenarios: Mapping[str, Scenario]) -> None:
    """Write ``index.html`` and ``index.md`` over all runs whose histories are in the folder."""
    runs = [Run.load(path) for name in scenarios if (path := folder / f"{name}.npz").exists()]
    rows = []
    lines = ["# Load tests", "", "| scenario | targets | |", "|---|---|---|"]
    for run in runs:
        scenario = scenarios[run.scenario]
        state = _state(run, judge(run, scenario.targets))
        rows.append({"run": run, "asks": scenario.asks, "state": state, "facts": _facts(run)})
        lines.append(f"| [{run.scenario}]({run.scenario}.md) | {state['headline']} | {scenario.asks} |")
    (folder / "index.html").write_text(_template("index.html.j2").render(style=_style(), rows=rows), encoding="utf-8")
    (folder / "index.md").write_text("\n".join([*lines, ""]), encoding="utf-8")


def picture(run: Run) -> str:
    """Tier share and p99 over time as one SVG file, for light and dark."""
    return charts.standalone(run, of_run(run)) + "\n"


def _facts(run: Run) -> str:
    about = run.conditions
    form = "Short form. " if about.get("short") else ""
    return (
        f"{form}{len(run.history):,} calls with a deadline of {run.deadline_ms:g} ms to a server of "
        f"{about.get('items', 0):,} items; capacity {run.capacity:.0f} DEEP answers/s before, "
        f"{about.get('capacity_after', float('nan')):.0f} after; {about.get('cores', 0)} cores for server, store and "
        f"callers together, load average {about.get('load_average_1min', float('nan')):.1f} after the run; "
        f"{about.get('server_errors', 0)} errors in the server's log."
    )


def _state(run: Run, verdicts: list[Verdict]) -> dict[str, str]:
    missed = sum(not verdict.met for verdict in verdicts)
    if why := invalid(run):
        return {"kind": "open", "headline": f"Not valid: {why}"}
    if missed:
        return {"kind": "failed", "headline": f"{missed} of {len(verdicts)} targets missed"}
    return {"kind": "passed", "headline": f"All {len(verdicts)} targets met"}


def _rows(verdicts: list[Verdict]) -> list[dict[str, str]]:
    return [
        {
            "says": verdict.target.measure.says,
            "bound": bound(verdict),
            "value": figure(verdict.value, verdict.target.measure.unit),
            "met": "met" if verdict.met else "missed",
            "why": verdict.target.why,
        }
        for verdict in verdicts
    ]


def _phases(run: Run) -> list[dict[str, str]]:
    found = []
    for span in run.spans:
        calls = run.during(span.name)
        took = calls.took_ms[calls.answered]
        p50, p99 = np.quantile(took, (0.5, 0.99)) if len(took) else (float("nan"), float("nan"))
        tiers = charts.tier_counts(calls)
        total = max(len(calls), 1)
        found.append(
            {
                "phase": span.name,
                "broken": _BROKEN.get(span.fault, ""),
                "offered/s": f"{len(calls) / span.seconds:.0f}",
                "of capacity": f"{span.rate / run.capacity:.1f}x",
                "in time/s": f"{calls.in_time(run.deadline_ms).sum() / span.seconds:.0f}",
                **{name: f"{count / total:.1%}" for name, count in tiers.items()},
                "p50 ms": f"{p50:.1f}",
                "p99 ms": f"{p99:.1f}",
                "server cores": f"{run.conditions.get('server_cores', {}).get(span.name, float('nan')):.2f}",
            }
        )
    return found


def _lateness(run: Run) -> str:
    shares = ", ".join(f"{name} {share:.1%}" for name, share in sent_as_planned(run).items())
    late = np.quantile(run.history.late_ms, 0.99) if len(run.history) else float("nan")
    cost = run.conditions.get("caller_ms_per_call", float("nan"))
    busiest = run.caller_busy.max() if len(run.caller_busy) else float("nan")
    return (
        f"The callers: sent as planned {shares}; 99 of 100 calls were sent at most {late:.1f} ms late; "
        f"{cost:.2f} ms of CPU a call in the closed loop; busiest second {busiest:.0%} of a core."
    )


def _style() -> Markup:
    ours = (files("offline.publish.html_report") / "templates" / "style.css").read_text(encoding="utf-8")
    more = (files(__name__) / "templates" / "load.css").read_text(encoding="utf-8")
    return Markup(ours + more)  # noqa: S704 - our own files: escaping would break their quotes


def _template(name: str) -> Any:
    from jinja2 import Environment, FunctionLoader, StrictUndefined  # noqa: PLC0415 - needed for reports alone

    folder = files(__name__) / "templates"
    return Environment(
        loader=FunctionLoader(lambda asked: (folder / asked).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template(name)
