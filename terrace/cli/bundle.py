"""`terrace bundle`: what is in a bundle and what it is worth; ``bundle_trust.py`` has who made it and is it sound."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from core.manifest import read_manifest, verify
from terrace.cli import bundle_storage, bundle_trust
from terrace.cli.options import newest_or_named
from terrace.cli.output import console, figures_table

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_LIST = 20
REPORT_NAME = "report.html"

app = typer.Typer(no_args_is_help=True, help="Look at bundles, verify and sign them.")


@app.callback()
def bundle() -> None:
    """Look at bundles, verify and sign them."""


app.command("verify")(bundle_trust.verify)
app.command("sign")(bundle_trust.sign)
app.command("keygen")(bundle_trust.keygen)


app.command("list")(bundle_storage.list_bundles)
app.command("push")(bundle_storage.push)
app.command("pull")(bundle_storage.pull)
app.command("prune")(bundle_storage.prune)


@app.command()
def show(
    path: Annotated[Path, typer.Argument(help="A bundle, or a folder of bundles (the newest is shown).")] = Path(
        "build/bundles"
    ),
    check: Annotated[bool, typer.Option(help="Hold every file against its checksum.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Print what is in a bundle: its data, generators, model, measured worth and files."""
    folder = newest_or_named(path)
    manifest = read_manifest(folder)
    if check:
        verify(folder, manifest)
    if as_json:
        typer.echo(json.dumps(asdict(manifest), ensure_ascii=False))
        return
    facts = Table(title=f"Bundle {manifest.version}", title_justify="left", show_header=False)
    facts.add_row("folder", str(folder))
    facts.add_row("built at", f"{manifest.built_at} by version {manifest.code_version}")
    facts.add_row("items", f"{manifest.items:,}")
    facts.add_row("rungs, best last", " < ".join(manifest.rungs) or "not measured")
    facts.add_row("gate", _verdict(manifest.gate))
    facts.add_row("event weights", ", ".join(f"{name} {weight:g}" for name, weight in manifest.event_weights.items()))
    facts.add_row("never offered again after", ", ".join(manifest.seen_types))
    facts.add_row("golden requests", str(len(manifest.golden)))
    facts.add_row("files", "all match their checksums" if check else "not checked")
    if REPORT_NAME in manifest.files:
        facts.add_row("report", str(folder / REPORT_NAME))
    console.print(facts)
    parts = Table(title="Generators and models", title_justify="left")
    for column in ("part", "candidates", "parameters"):
        parts.add_column(column)
    for name, params in manifest.generators.items():
        parts.add_row(name, str(params["limit"]), _params(params, "limit"))
    parts.add_row("CF scorer", "", _params(manifest.cf))
    parts.add_row("deep model", "", _params(manifest.model, "importance", "ablation") or "none")
    console.print(parts)
    if manifest.metrics:
        for table in figures_table(manifest.metrics):
            console.print(table)
    files = Table(title="Files", title_justify="left")
    files.add_column("file")
    files.add_column("bytes", justify="right")
    for name, entry in manifest.files.items():
        files.add_row(name, f"{entry.bytes:,}")
    console.print(files)


def _verdict(gate: Mapping[str, Any]) -> str:
    """The gate's verdict, with the rules that failed."""
    if not gate:
        return "was off"
    if gate["passed"]:
        return "passed"
    failed = [f"{entry['name']}: {entry['message']}" for entry in gate["checks"] if entry["passed"] is False]
    return escape(f"published with a mark, not {'; not '.join(failed)}")


def _params(params: object, *leave_out: str) -> str:
    items = params.items() if isinstance(params, dict) else ()
    return ", ".join(f"{name}={_short(value)}" for name, value in items if name not in leave_out and value != "")


def _short(value: object) -> str:
    """A value as a person reads it: four digits, long lists by their length."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return f"[{len(value)} names]" if len(value) > LONGEST_LIST else f"[{', '.join(map(_short, value))}]"
    return str(value)
