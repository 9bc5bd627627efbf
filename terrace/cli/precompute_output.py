"""What `terrace precompute` prints: what a run has done, and what there is of the lists of a version."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

from terrace.cli.output import console, print_error, print_warning

if TYPE_CHECKING:
    from core.precompute_record import ShardRecord
    from server.precompute.completeness import Completeness
    from server.precompute.shard_run import Rates

INCOMPLETE = 1
"""Exit code where lists are missing."""


def print_done(record: ShardRecord, rates: Rates) -> int:
    """Print what was done; returns the exit code."""
    task, counts = record.task, record.counts
    console.print(
        f"shard {task.shard} of {task.version} is complete: {in_words(record)}", highlight=False, soft_wrap=True
    )
    if rates.lists:
        of = "1 process" if rates.processes == 1 else f"{rates.processes} processes"
        console.print(
            f"{rates.per_s:,.0f} lists/s with {of}. The pipeline alone, without store and encoding: "
            f"{rates.pipeline_per_s:,.0f}/s in a process, of which {rates.share:.0%} were reached",
            highlight=False,
            soft_wrap=True,
        )
    if counts.partly_read:
        print_warning(f"{counts.partly_read:,} lists were made without stored values that are not readable")
    for source, number in counts.without.items():
        print_warning(f"{number:,} lists were made without {source}, which failed: the log says why")
    if failed := sum(counts.failed.values()):
        reasons = ", ".join(f"{reason} {number:,}" for reason, number in counts.failed.items())
        print_error(f"{failed:,} users have no list because the deep rung failed: {reasons}. The log says why")
    return INCOMPLETE if failed else 0


def in_words(record: ShardRecord) -> str:
    """What became of the users of a shard."""
    counts = record.counts
    parts = [f"{counts.written:,} lists of {counts.users:,} users ({record.task.users})"]
    parts += [f"{counts.inactive:,} not active"] if counts.inactive else []
    parts += [f"{counts.no_history:,} without history"] if counts.no_history else []
    parts += [f"{sum(counts.failed.values()):,} failed"] if counts.failed else []
    return f"{', '.join(parts)}; run {record.run}"


def print_status(found: Completeness) -> None:
    """A row for each shard, and what is missing or wrong."""
    if found.records:
        table = Table(title=f"Lists of {found.version}", title_justify="left", box=SIMPLE_HEAD)
        for column in ("shard", "state", "users", "lists", "not active", "no history", "failed", "began", "last sign"):
            table.add_column(column, justify="left" if column in {"shard", "state"} else "right")
        for record in found.records:
            counts = record.counts
            numbers = (counts.users, counts.written, counts.inactive, counts.no_history, sum(counts.failed.values()))
            state = "complete" if record.complete else "not complete"
            times = (_at(record.started_s), _at(record.updated_s))
            table.add_row(str(record.task.shard), state, *(f"{number:,}" for number in numbers), *times)
        console.print(table)
    if found.complete:
        console.print(f"complete; {found.read_again:,} lists were read again and are readable", highlight=False)
    for problem in found.problems:
        print_error(problem)


def _at(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
