"""What people read: tables of answers and figures, errors, and progress while they wait."""

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
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from offline.progress import Progress as Report
    from terrace.client import Answer

FILE_WIDTH = 130
"""Columns of output that goes to a file or a pipe."""
LINE_EVERY_S = 10.0
"""Where there is no terminal, work that goes on has a line this often, seconds."""
WORTH_A_LINE_S = 1.0
"""Where there is no terminal, work that ended sooner has no line."""

UNREACHABLE = 3
"""Exit code where a server or the store could not be reached."""

console = Console(width=None if sys.stdout.isatty() else FILE_WIDTH)
errors = Console(stderr=True, width=None if sys.stderr.isatty() else FILE_WIDTH)


def print_error(text: object) -> None:
    """One message on standard error that says what is wrong; ``text`` is shown as it is, brackets too."""
    errors.print(f"[bold red]error:[/] {escape(str(text))}", highlight=False, soft_wrap=True)


def print_warning(text: object) -> None:
    """One message on standard error about what was not done as asked."""
    errors.print(f"[yellow]warning:[/] {escape(str(text))}", highlight=False, soft_wrap=True)


@contextmanager
def show_progress() -> Iterator[Report]:
    """A bar per kind of work, on standard error so that ``--json`` stays clean; lines where there is no terminal."""
    if not errors.is_terminal or errors.is_dumb_terminal:
        lines = ProgressLines()
        yield lines
        lines.end()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=errors) as shown:
        tasks: dict[str, Any] = {}

        def report(what: str, done: int, total: int, note: str = "") -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=total, note=note)
            shown.update(tasks[what], completed=done, total=total, note=note)

        yield report


class ProgressLines:
    """Progress for log files: a line when work has ended that took a second or more, and one every ten seconds.

    Args:
        clock: monotonic, seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = self._reported = self._printed = clock()
        self._what, self._done, self._since = "", 0, self._began
        self._pending = ""

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """See ``offline.progress.Progress``."""
        now = self._clock()
        if what != self._what or done < self._done:  # other work, or the same anew
            self.end()
            self._what, self._since = what, self._reported
        elif self._done >= total:
            return
        self._done, self._reported = done, now
        self._pending = f"{now - self._began:7.1f} s  {what} {done}/{total} {note}".rstrip()
        if done >= total:
            self.end()
        elif now - self._printed >= LINE_EVERY_S:
            self._print()

    def end(self) -> None:
        """The line of work that ended, also before it had done all that it could: a training may stop early."""
        if self._pending and self._reported - self._since >= WORTH_A_LINE_S:
            self._print()
        self._pending = ""

    def _print(self) -> None:
        errors.print(self._pending, highlight=False, markup=False, soft_wrap=True)
        self._printed, self._pending = self._reported, ""


def answer_table(answer: Answer, titles: Mapping[str, str], heading: str, elapsed_ms: float) -> Table:
    """One answer: its items with titles, and under them how it came to be."""
    table = Table(
        title=escape(heading),
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
    if (metrics.get("list_ages") or {}).get("ages"):
        tables.append(_list_ages_table(metrics["list_ages"], f"ndcg@{k}"))
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


def _list_ages_table(found: Mapping[str, Any], metric: str) -> Table:
    table = Table(
        title=f"How precomputed lists age: {metric} at moments when {found['cases']:,} users were active",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    rungs, pairs = (list(found["ages"][0][part]) for part in ("rungs", "differences"))
    for column in ("age, hours", "users", "active since", *rungs, *pairs):
        table.add_column(column, justify="right", no_wrap=True)
    for age in found["ages"]:
        values = [f"{age['rungs'][name][metric]['mean']:.4f}" for name in rungs]
        steps = [_interval(age["differences"][pair][metric], signed=True) for pair in pairs]
        table.add_row(f"{age['hours']:g}", f"{age['cases']:,}", f"{age['active_since']:.0%}", *values, *steps)
    where = "above" if found.get("above_cf", True) else "below"
    table.caption = f"on the ladder the lists stand {where} CF, as the validation window decided"
    return table


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
        lines.append(
            f"gate: {words[entry['passed']]}: {escape(entry['name'])}: {escape(entry['message'])}{escape(mend)}"
        )
    return lines


def _interval(value: Mapping[str, float], *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{value['mean']:{sign}.4f} [dim]\\[{value['low']:.4f}, {value['high']:.4f}][/]"
