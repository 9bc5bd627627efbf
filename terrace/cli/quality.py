"""`terrace quality`: how good every rung is on a public data set, beside plain methods and published targets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from terrace.cli.build import show
from terrace.cli.options import Ablate, Checkpoints, TrainMinutes
from terrace.cli.output import console, print_warning
from terrace.cli.steps import Source, builder, gate_entry, measure

if TYPE_CHECKING:
    from offline.evaluate.baselines import Reference
    from offline.evaluate.public_data import Protocol
    from offline.progress import Progress

REFERENCE = Path("eval") / "baselines.py"
"""Beside the folder of data sets."""


def quality(
    data: Annotated[str, typer.Argument(help="online-retail, ml-1m, gowalla or retailrocket.")],
    folder: Annotated[Path, typer.Option("--dir", help="Holds a folder of each data set.")] = Path("../shared/data"),
    out: Annotated[Path, typer.Option(help="Where the page, the JSON and the Markdown table go.")] = Path(
        "build/quality"
    ),
    seed: Annotated[int, typer.Option(help="Of every random number.")] = 0,
    deep: Annotated[bool, typer.Option(help="Train the deep model; without it the ladder ends at CF.")] = True,
    train_minutes: TrainMinutes = 30.0,
    checkpoints: Checkpoints = None,
    ablate: Ablate = False,
) -> None:
    """Measure a public data set by its protocol; writes DATA.html, DATA.json and DATA.md.

    The same figures twice on the same machine; what a clock decides stands apart in the JSON.

    Example: `terrace quality online-retail --dir ../shared/data`
    """
    from offline.evaluate.baselines import Reference, load
    from offline.evaluate.evaluation import NOT_REPRODUCIBLE
    from offline.evaluate.public_data import BASELINES, PROTOCOLS, hold
    from offline.evaluate.quality_table import markdown
    from offline.publish.gate import check
    from offline.publish.html_report import render

    if data not in PROTOCOLS:
        raise typer.BadParameter(f"{data}: there are {', '.join(PROTOCOLS)}")
    protocol = PROTOCOLS[data]
    out.mkdir(parents=True, exist_ok=True)
    source = replace(
        source_of(protocol, folder / data),
        seed=seed,
        deep=deep,
        train_minutes=train_minutes,
        checkpoints=checkpoints,
        ablate=ablate,
    )
    with builder(source) as (made, progress):
        found = measure(made, progress)
        if not found.figures:
            raise typer.Exit(1)
        module = load(folder.parent / REFERENCE)
        if module is None:
            print_warning(f"no plain baselines, {folder.parent / REFERENCE} is not there")
        beside = plain(protocol, Reference(made, module), progress) if module is not None else {}
        reached = hold(protocol.targets, {**found.figures, BASELINES: beside})
        manifest = replace(found.manifest, gate=gate_entry(check(found, None), "mark"))
        page = render(
            manifest,
            warnings=made.warnings,
            title=f"Quality on {data}",
            beside={"baselines": beside, "targets": reached},
        )
    (out / f"{data}.html").write_text(page, encoding="utf-8")
    same = {name: value for name, value in found.figures.items() if name not in NOT_REPRODUCIBLE}
    timed = {name: found.figures[name] for name in NOT_REPRODUCIBLE if name in found.figures}
    written = {"data": data, "figures": same, "baselines": beside, "targets": reached, "timed": timed}
    (out / f"{data}.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    table = markdown(protocol, found.figures, beside, reached)
    (out / f"{data}.md").write_text(table, encoding="utf-8")
    show(found.figures, as_json=False)
    console.print(table, markup=False, highlight=False, soft_wrap=True)
    console.print(f"written: {out / data}.html, .json and .md", highlight=False, soft_wrap=True)


def source_of(protocol: Protocol, folder: Path) -> Source:
    """What a protocol builds from.

    Raises:
        typer.BadParameter: the data is not there.
    """
    for name in (protocol.events, protocol.items, protocol.test):
        if name and not (folder / name).is_file():
            raise typer.BadParameter(f"{folder / name}: not there; --dir names the folder that holds {folder.name}/")
    return Source(
        str(folder / protocol.events),
        str(folder / protocol.items) if protocol.items else None,
        split=protocol.split,
        horizon_days=protocol.horizon_days,
        target_types=protocol.target_types,
        test=str(folder / protocol.test) if protocol.test else None,
    )


def plain(protocol: Protocol, reference: Reference, progress: Progress) -> dict[str, Any]:
    """The plain methods' figures, for new items and where repeats are allowed."""
    from offline.evaluate.public_data import NEW, REPEATS

    found = {NEW: reference.figures(protocol.baselines, new_only=True, progress=progress)}
    if protocol.repeat_baselines:
        found[REPEATS] = reference.figures(protocol.repeat_baselines, new_only=False, progress=progress)
    return found
