"""What people read: tables of answers and figures, and bars while they wait."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from offline.progress import Progress as Told
    from terrace.client import Answer

console = Console()
errors = Console(stderr=True)


@contextmanager
def bars(*, quiet: bool = False) -> Iterator[Told]:
    """A progress bar per kind of work, on standard error so that ``--json`` stays clean."""
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


def answer_table(answer: Answer, titles: Mapping[str, str], heading: str, elapsed_ms: float) -> Table:
    """One answer: its items with titles, and under them how it came to be."""
    table = Table(title=heading, title_justify="left", caption=_caption(answer, elapsed_ms), caption_justify="left")
    table.add_column("#", justify="right")
    table.add_column("item")
    table.add_column("title", overflow="ellipsis", no_wrap=True, max_width=44)
    table.add_column("score", justify="right")
    table.add_column("proposed by")
    table.add_column("because of", overflow="ellipsis", no_wrap=True, max_width=32)
    for place, item in enumerate(answer.items, 1):
        score = "" if item.score is None else f"{item.score:.3f}"
        because = titles.get(item.explained_by, item.explained_by)
        table.add_row(
            str(place),
            escape(item.item_id),
            escape(titles.get(item.item_id, "")),
            score,
            ", ".join(item.sources),
            escape(because),
        )
    return table


def _caption(answer: Answer, elapsed_ms: float) -> str:
    skipped = ", ".join(f"{tier.name}: {reason}" for tier, reason in answer.skipped.items()) or "none"
    stages = ", ".join(f"{name} {ms:.2f}" for name, ms in answer.stage_ms.items())
    dropped = "".join(f" | without {name}: {reason}" for name, reason in answer.dropped_sources.items())
    return (
        f"tier [bold]{answer.tier.name}[/] in {elapsed_ms:.1f} ms | rungs above not taken: {skipped}{dropped}\n"
        f"scored {answer.scored_rows} of {answer.pool_rows} candidates | stages in ms: {stages} | bundle {answer.bundle_version}"
    )


def figures_table(metrics: Mapping[str, Any]) -> list[Table]:
    """What ``offline.evaluate.evaluate`` measured, for people."""
    rungs = Table(title="What each rung is worth (mean and 95 % interval over users)", title_justify="left")
    names = [name for name, value in next(iter(metrics["rungs"].values())).items() if isinstance(value, dict)]
    rungs.add_column("rung")
    for name in names:
        rungs.add_column(name, justify="right")
    rungs.add_column("coverage", justify="right")
    rungs.add_column("reached", justify="right")
    for rung, values in metrics["rungs"].items():
        rungs.add_row(
            rung, *(_interval(values[n]) for n in names), f"{values['coverage']:.1%}", f"{values['reached']:.1%}"
        )
    for pair, values in metrics["differences"].items():
        rungs.add_row(pair, *(_interval(values[n], signed=True) for n in names), "", "")
    found = Table(
        title="What each generator finds (share of the relevant items among its first n candidates)",
        title_justify="left",
    )
    found.add_column("generator")
    depths = list(next(iter(metrics["generators"].values())))
    for depth in depths:
        found.add_column(depth, justify="right")
    for name, values in metrics["generators"].items():
        if name != "union":
            found.add_row(name, *(f"{values[d]:.3f}" for d in depths))
    union = metrics["generators"]["union"]
    found.caption = f"all together: {union['recall']:.3f} in a pool of {union['rows']:.0f} on average"
    return [rungs, found]


def _interval(value: Mapping[str, float], *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{value['mean']:{sign}.4f} [dim]\\[{value['low']:.4f}, {value['high']:.4f}][/]"
