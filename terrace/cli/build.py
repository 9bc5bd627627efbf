"""`terrace build` and `terrace evaluate`: from files of events to figures and a published bundle."""

from __future__ import annotations

import json
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from terrace.cli.options import Bundles, EngineName, Events, Items, Map, Weight, dataset
from terrace.cli.output import bars, console, errors, figures_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from offline.build import Builder
    from offline.progress import Progress

Horizon = Annotated[float, typer.Option(help="Days after a moment in which an event counts as an answer.", min=0.01)]
Split = Annotated[
    Literal["time", "last-event"],
    typer.Option(help="time: the last days are the test. last-event: everyone's last event is."),
]
Seed = Annotated[int, typer.Option(help="Of every random number; the same seed and data give the same figures.")]
Deep = Annotated[bool, typer.Option(help="Train the deep model; without it the ladder ends at CF.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")]


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
    measured: Annotated[
        bool, typer.Option("--evaluate/--no-evaluate", help="Measure every rung on the last window.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Read, report, choose, train, evaluate and publish.

    Choices are made on the window before the last; the last one is only measured. What is published is then fitted on
    all events with the same choices.

    Example: `terrace build --events events.parquet --items items.csv --map timestamp=ts --weight rating=2`
    """
    with builder(events, items, column_map, weight, engine, split, horizon_days, seed, deep) as (made, told):
        metrics = measure(made, told) if measured else {}
        folder = release(made, bundles, metrics)
    show(metrics, as_json=as_json)
    if not as_json:
        console.print(f"published [bold]{folder}[/]", highlight=False, soft_wrap=True)


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
    as_json: AsJson = False,
) -> None:
    """Measure what every rung and generator is worth on these events, without publishing anything.

    Lists come out of the pipeline that serves. Items that the user had before are neither asked for nor answered.

    Example: `terrace evaluate --events ratings.csv --split last-event --json`
    """
    with builder(events, items, column_map, weight, engine, split, horizon_days, seed, deep) as (made, told):
        metrics = measure(made, told)
    show(metrics, as_json=as_json)


@contextmanager
def builder(
    events: str,
    items: str | None,
    column_map: list[str],
    weight: list[str],
    engine: str,
    split: str,
    horizon_days: float,
    seed: int,
    deep: bool,
    report_to: Console = errors,
) -> Iterator[tuple[Builder, Progress]]:
    """A builder over the input that the options name, after the data report."""
    from offline.build import Builder
    from offline.fit import World
    from offline.plan import SplitKind
    from offline.report import render

    with (
        dataset(events, items, column_map, weight, engine) as (data, backend),
        tempfile.TemporaryDirectory(prefix="terrace-build-") as scratch,
    ):
        report_to.print(render(data.report))
        with bars() as told:
            world = World.read(data, backend, Path(scratch))
            made = Builder(world, SplitKind(split), horizon_days, seed=seed, deep=deep, progress=told)
            yield made, told
        for warning in made.warnings:
            errors.print(f"warning: {warning}", soft_wrap=True)


def measure(made: Builder, told: Progress) -> dict[str, Any]:
    """Fit at the last window's cut, ask the serving code that window's questions."""
    from offline.evaluate import evaluate as judge
    from terrace.cli.served import InProcess

    folder = made.world.scratch / "evaluated"
    folder.mkdir()
    made.draft(folder, made.plan.test.cut, version="evaluated")
    with InProcess(folder) as served:
        cases, states, described = made.test_questions(served.bundle)
        if not len(cases):
            errors.print("warning: nobody turned to anything new in the last window, so there is nothing to measure")
            return {}
        return judge(served, cases, states, split=described, progress=told)


def release(made: Builder, bundles: Path, metrics: dict[str, Any]) -> Path:
    """Fit on everything, record golden answers, publish."""
    from offline.publish import open_draft, publish, seal, version_at
    from terrace.cli.served import InProcess

    version = version_at(time.time())
    draft = open_draft(bundles, version)
    manifest = made.draft(draft, made.plan.release, version=version)
    with InProcess(draft) as served:
        golden = served.golden()
    seal(draft, replace(manifest, golden=golden, metrics=metrics, rungs=tuple(metrics.get("order", ()))))
    return publish(draft, bundles, version)


def show(metrics: dict[str, Any], *, as_json: bool) -> None:
    """Print figures for a person or a program."""
    if as_json:
        typer.echo(json.dumps(metrics))
        return
    for table in figures_table(metrics) if metrics else ():
        console.print(table)
