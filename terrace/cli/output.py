"""What people read: tables of answers and figures, and bars while they wait."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from offline.progress import Progress as Told
    from terrace.client import Answer

FILE_WIDTH = 130
"""Columns of output that goes to a file or a pipe."""
FEW_STEPS = 50
"""Work of at most so many steps is logged step by step where there is no terminal: epochs, trials."""

console = Console(width=None if sys.stdout.isatty() else FILE_WIDTH)
errors = Console(stderr=True, width=None if sys.stderr.isatty() else FILE_WIDTH)


@contextmanager
def bars(*, quiet: bool = False) -> Iterator[Told]:
    """A progress bar per kind of work, on standard error so that ``--json`` stays clean; lines where no terminal is."""
    if not quiet and not errors.is_terminal:
        yield _lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=errors, disable=quiet) as progress:
        tasks: dict[str, Any] = {}

        def told(what: str, done: int, total: int, note: str = "") -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total, note=note)
            progress.update(tasks[what], completed=done, total=total, note=note)

        yield told


def _lines() -> Told:
    """For log files: one line a step of work with few steps, one at the end of other work."""
    began = time.monotonic()

    def told(what: str, done: int, total: int, note: str = "") -> None:
        if done and (done == total or total <= FEW_STEPS):
            passed = time.monotonic() - began
            errors.print(f"{passed:7.1f} s  {what} {done}/{total} {note}", highlight=False, markup=False)

    return told


def answer_table(answer: Answer, titles: Mapping[str, str], heading: str, elapsed_ms: float) -> Table:
    """One answer: its items with titles, and under them how it came to be."""
    table = Table(
        title=heading,
        title_justify="left",
        caption=_caption(answer, elapsed_ms),
        caption_justify="left",
        box=SIMPLE_HEAD,
        expand=True,
    )
    table.add_column("#", justify="right", min_width=2)
    table.add_column("item", overflow="ellipsis", no_wrap=True, ratio=5)
    table.add_column("score", justify="right", min_width=8)
    table.add_column("known to", overflow="ellipsis", no_wrap=True, ratio=4)
    table.add_column("because of", overflow="ellipsis", no_wrap=True, ratio=4)
    for place, item in enumerate(answer.items, 1):
        score = "" if item.score is None else f"{item.score:.3f}"
        table.add_row(
            str(place),
            escape(_named(item.item_id, titles)),
            score,
            ", ".join(item.sources),
            escape(_named(item.explained_by, titles)),
        )
    return table


def _named(item_id: str, titles: Mapping[str, str]) -> str:
    title = titles.get(item_id, "")
    return f"{item_id} {title}" if title else item_id


def _caption(answer: Answer, elapsed_ms: float) -> str:
    skipped = ", ".join(f"{tier.name}: {reason}" for tier, reason in answer.skipped.items()) or "none"
    stages = ", ".join(f"{name} {ms:.2f}" for name, ms in answer.stage_ms.items())
    dropped = "".join(f" | without {name}: {reason}" for name, reason in answer.dropped_sources.items())
    return (
        f"tier [bold]{answer.tier.name}[/] in {elapsed_ms:.1f} ms | rungs above not taken: {skipped}{dropped}\n"
        f"scored {answer.scored_rows} of {answer.pool_rows} candidates | stages in ms: {stages} | bundle {answer.bundle_version}"
    )


def figures_table(metrics: Mapping[str, Any]) -> list[Table]:
    """What ``offline.evaluate.evaluation.evaluate`` measured, for people: the figures of the longest lists; the report has the others."""
    k = max(int(name.partition("@")[2]) for name in next(iter(metrics["rungs"].values())) if "@" in name)
    names = [f"ndcg@{k}", f"recall@{k}", f"hit_rate@{k}"]
    split = metrics["split"]
    horizon = "" if split["horizon_days"] is None else f", {split['horizon_days']:.0f} days after the cut"
    rungs = Table(
        title=f"What each rung is worth: mean and 95 % interval over {split['cases']:,} users{horizon}, items new to them",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    rungs.add_column("rung", no_wrap=True)
    for name in names:
        rungs.add_column(name, justify="right", no_wrap=True)
    rungs.add_column("coverage", justify="right")
    rungs.add_column("reached", justify="right")
    for rung, values in metrics["rungs"].items():
        rungs.add_row(
            rung, *(_interval(values[n]) for n in names), f"{values['coverage']:.1%}", f"{values['reached']:.1%}"
        )
    for pair, values in metrics["differences"].items():
        rungs.add_row(pair, *(_interval(values[n], signed=True) for n in names), "", "")
    tables = [rungs, _generators_table(metrics["generators"])]
    if metrics.get("latency"):
        tables.append(_deadline_table(metrics["latency"], f"ndcg@{k}"))
    return tables


def _generators_table(generators: Mapping[str, Any]) -> Table:
    found = Table(
        title="What each generator finds: share of the relevant items among its first n candidates",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    found.add_column("generator")
    depths = [name for name in next(iter(generators.values())) if name.startswith("recall@")]
    for column in ("limit", *depths, "adds"):
        found.add_column(column, justify="right")
    for name, values in generators.items():
        if name != "union":
            limit = f"{values['limit']}" if "limit" in values else ""
            found.add_row(name, limit, *(f"{values[name]:.3f}" for name in (*depths, "adds") if name in values))
    union = generators["union"]
    found.caption = (
        f"all together: {union['recall']:.3f} in a pool of {union['rows']:.0f} on average; "
        "adds: recall of the pool that is lost without it"
    )
    return found


def _deadline_table(curve: Sequence[Mapping[str, Any]], metric: str) -> Table:
    table = Table(title="What a deadline buys, measured on this machine", title_justify="left", box=SIMPLE_HEAD)
    tiers = list(curve[0]["tiers"])
    for column in ("deadline, ms", metric, *tiers):
        table.add_column(column, justify="right")
    for entry in curve:
        shares = (f"{entry['tiers'][tier]:.0%}" for tier in tiers)
        table.add_row(f"{entry['deadline_ms']:g}", f"{entry[metric]:.4f}", *shares)
    return table


def verdict_lines(gate: Mapping[str, Any]) -> list[str]:
    """What the gate said, a line per rule; what failed says what to do."""
    words = {True: "[green]passed[/]", False: "[bold red]failed[/]", None: "[yellow]not judged[/]"}
    lines = []
    for entry in gate.get("checks", ()):
        mend = f" {entry['mend']}" if entry["mend"] else ""
        lines.append(f"gate: {words[entry['passed']]}: {escape(entry['name'])}: {escape(entry['said'])}{escape(mend)}")
    return lines


def _interval(value: Mapping[str, float], *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{value['mean']:{sign}.4f} [dim]\\[{value['low']:.4f}, {value['high']:.4f}][/]"
