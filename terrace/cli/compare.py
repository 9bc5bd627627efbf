"""`terrace compare`: what changed from one bundle to another, with intervals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from terrace.cli.options import Bundles, Report
from terrace.cli.output import console
from terrace.cli.steps import find_bundle, writable

_SHOWN = ("ndcg@20", "recall@20", "hit_rate@20")


def compare(
    old: Annotated[str, typer.Argument(help="A bundle: its folder, or its version under --bundles.")],
    new: Annotated[str, typer.Argument(help="The bundle to hold against it.")],
    bundles: Bundles = Path("build/bundles"),
    report_to: Report = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything that changed as JSON.")] = False,
) -> None:
    """Compare two measured bundles: figures, generators, parameters and data.

    Where both answered the same cases, differences are taken user by user; else between the two means. It says which.

    Example: `terrace compare 20250530T020000Z 20250531T020000Z --report changes.html`
    """
    from offline.publish.compare import Measured
    from offline.publish.compare import compare as held_against
    from offline.publish.html_report import render

    writable(report_to)
    before, after = (Measured.load(find_bundle(name, bundles)) for name in (old, new))
    found = held_against(before, after)
    if report_to is not None:
        report_to.write_text(render(after.manifest, change=found, about_change=True), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(found))
        return
    for table in _tables(found):
        console.print(table)


def _tables(found: dict[str, Any]) -> list[Table]:
    how = f"{found['how'][:1].upper()}{found['how'][1:]}"
    figures = Table(title=f"{found['new']} against {found['old']}", title_justify="left", box=SIMPLE_HEAD)
    figures.caption, figures.caption_justify = how, "left"
    for column in ("rung", "metric"):
        figures.add_column(column)
    for column in ("before", "now", "difference"):
        figures.add_column(column, justify="right", no_wrap=True)
    for rung, values in found["rungs"].items():
        for metric in (name for name in _SHOWN if name in values):
            entry = values[metric]
            apart = f"{entry['difference']:+.4f} [dim]\\[{entry['low']:+.4f}, {entry['high']:+.4f}][/]"
            figures.add_row(rung, metric, f"{entry['old']:.4f}", f"{entry['new']:.4f}", apart)
    changed = Table(
        "what", "before", "now", title="Data and parameters that changed", title_justify="left", box=SIMPLE_HEAD
    )
    for entry in found["parameters"]:
        changed.add_row(*(escape(_short(entry[key])) for key in ("what", "old", "new")))
    if not found["parameters"]:
        changed.add_row("nothing", "", "")
    return [figures, changed]


def _short(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
