"""`terrace build` and `terrace evaluate`: from files of events to figures and a published bundle."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape

from terrace.cli.bundle_storage import push_built, reachable
from terrace.cli.options import (
    Ablate,
    Bundles,
    Checkpoints,
    EngineName,
    Events,
    Items,
    Map,
    PublishTo,
    Report,
    TargetTypes,
    Test,
    TrainMinutes,
    Weight,
)
from terrace.cli.output import console, errors, figures_table, verdict_lines
from terrace.cli.steps import GateMode, Source, builder, gate_entry, load_previous, measure, release, report, writable

if TYPE_CHECKING:
    from collections.abc import Mapping

Horizon = Annotated[float, typer.Option(help="Days after a moment in which an event counts as an answer.", min=0.01)]
Split = Annotated[
    Literal["time", "last-event", "share", "given"],
    typer.Option(
        help="time: the last days are the test. last-event: everyone's last event is. share: of everyone's events the "
        "last fifth, or any fifth where they have no times. given: the events of --test."
    ),
]
Seed = Annotated[int, typer.Option(help="Of every random number; the same seed and data give the same figures.")]
Deep = Annotated[bool, typer.Option(help="Train the deep model; without it the ladder ends at CF.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")]
REFUSED = 1


def build(
    events: Events,
    items: Items = None,
    bundles: Bundles = Path("build/bundles"),
    column_map: Map = [],  # noqa: B006 - typer copies it
    weight: Weight = [],  # noqa: B006 - typer copies it
    engine: EngineName = "duckdb",
    split: Split = "time",
    horizon_days: Horizon = 30.0,
    seed: Seed = 0,
    deep: Deep = True,
    target_types: TargetTypes = [],  # noqa: B006 - typer copies it
    test: Test = None,
    train_minutes: TrainMinutes = 30.0,
    checkpoints: Checkpoints = None,
    ablate: Ablate = False,
    measured: Annotated[
        bool, typer.Option("--evaluate/--no-evaluate", help="Measure every rung on the last window.")
    ] = True,
    previous: Annotated[
        str,
        typer.Option(help="Bundle to hold the new one against: a folder or a version. Default: the newest there is."),
    ] = "",
    gate: Annotated[
        GateMode,
        typer.Option(
            help="What becomes of a bundle whose rungs do not earn their places, or that is worse than the previous one: "
            "refuse (exit code 1, nothing published), mark (published, and says so), off (not judged)."
        ),
    ] = "refuse",
    publish_to: PublishTo = None,
    sign_key: Annotated[
        Path | None, typer.Option(help="Sign the bundle with this private key (`terrace bundle keygen`).")
    ] = None,
    report_to: Report = None,
    as_json: AsJson = False,
) -> None:
    """Read, report, choose, train, evaluate and publish.

    Choices are made on the window before the last; the last one is only measured. What is published is then fitted on
    all events with the same choices. Every bundle carries a report.html.

    Example: `terrace build --events events.parquet --items items.csv --map timestamp=ts --weight rating=2`
    """
    source = _source(locals())
    from offline.publish.gate import check
    from server.signature import PrivateKey

    writable(report_to)
    store = reachable(publish_to)
    signer = PrivateKey(sign_key) if sign_key is not None else None
    earlier = load_previous(previous, bundles)
    with builder(source) as (made, progress):
        found = measure(made, progress) if measured else None
        verdict = check(found, earlier)
        entry = gate_entry(verdict, gate)
        refused = entry.get("action") == "refuse"
        if refused and found is not None:
            judged = replace(found, manifest=replace(found.manifest, gate=entry))
            page = report(judged, earlier, made.warnings, f"Build from {Path(events).name}")
        else:
            folder = release(made, bundles, found, entry, progress, earlier, signer)
            page = (folder / "report.html").read_text(encoding="utf-8")
    if report_to is not None:
        report_to.write_text(page, encoding="utf-8")
    show(found.figures if found else {}, as_json=as_json)
    for line in verdict_lines(entry):
        errors.print(line, soft_wrap=True, highlight=False)
    if refused:
        errors.print("nothing was published", highlight=False)
        raise typer.Exit(REFUSED)
    done = [f"published [bold]{escape(str(folder))}[/]"]
    if store is not None:
        done.append(push_built(store, folder))
    if not as_json:
        console.print(*done, sep="\n", highlight=False, soft_wrap=True)


def evaluate(
    events: Events,
    items: Items = None,
    column_map: Map = [],  # noqa: B006 - typer copies it
    weight: Weight = [],  # noqa: B006 - typer copies it
    engine: EngineName = "duckdb",
    split: Split = "time",
    horizon_days: Horizon = 30.0,
    seed: Seed = 0,
    deep: Deep = True,
    target_types: TargetTypes = [],  # noqa: B006 - typer copies it
    test: Test = None,
    train_minutes: TrainMinutes = 30.0,
    checkpoints: Checkpoints = None,
    ablate: Ablate = False,
    report_to: Report = None,
    as_json: AsJson = False,
) -> None:
    """Measure what every rung and generator is worth on these events, without publishing anything.

    Lists come out of the pipeline that serves. Items that the user had before are neither relevant nor recommended, except
    where the figures say `repeats`.

    Example: `terrace evaluate --events ratings.csv --split last-event --report ratings.html`
    """
    source = _source(locals())
    from offline.publish.gate import check

    writable(report_to)
    with builder(source) as (made, progress):
        found = measure(made, progress)
        if report_to is not None:
            entry = gate_entry(check(found, None), "mark")
            judged = replace(found, manifest=replace(found.manifest, gate=entry))
            page = report(judged, None, made.warnings, f"Evaluation of {Path(events).name}")
            report_to.write_text(page, encoding="utf-8")
    show(found.figures, as_json=as_json)


def _source(options: Mapping[str, Any]) -> Source:
    """What to build from, by the names of the options; those that say something else are not looked at."""
    return Source(**{field.name: options[field.name] for field in fields(Source)})


def show(metrics: Mapping[str, Any], *, as_json: bool) -> None:
    """Print figures for a person or a program."""
    if as_json:
        typer.echo(json.dumps(metrics))
        return
    for table in figures_table(metrics) if metrics else ():
        console.print(table)
