"""The data report: what was read, what was left out and why. The first thing a build says."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Group


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in the data that was not taken as it is.

    Attributes:
        what: in a few words.

        count: rows, values or columns.

        done: what was done about it: ``dropped``, ``kept``, ...

        why: the reason.

        example: file, row and value of the first; may be empty.
    """

    what: str
    count: int
    done: str
    why: str
    example: str = ""


@dataclass(frozen=True, slots=True)
class TypeCount:
    """One event type: how often it occurs, what it weighs and whether its items count as seen."""

    name: str
    events: int
    weight: float
    seen: bool


@dataclass(frozen=True)
class DataReport:
    """What was read.

    Attributes:
        events_from: as the user named it.

        items_from: as the user named it; empty = no items were given.

        rows_read: rows of the events' files, torn ones included; ``events`` + what was dropped.

        events: that were kept.

        items: rows of the catalogue.

        items_with_events: of these.

        sessions_from: ``session_id`` or ``gaps of 30 minutes``.

        first_event: ISO 8601, UTC, seconds; empty = events have no times.

        last_event: likewise.

        warnings: sentences; the data can be used but will disappoint.

        test_from: files of the test's events, as the user named them; empty = there are none.

        test_events: of ``events`` these.
    """

    events_from: str
    items_from: str
    rows_read: int
    events: int
    users: int
    items: int
    items_with_events: int
    sessions: int
    sessions_from: str
    first_event: str
    last_event: str
    event_types: tuple[TypeCount, ...]
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]
    test_from: str = ""
    test_events: int = 0

    def as_dict(self) -> dict[str, Any]:
        """In plain values, for JSON."""
        return asdict(self) | {
            "event_types": [asdict(entry) for entry in self.event_types],
            "findings": [asdict(entry) for entry in self.findings],
            "warnings": list(self.warnings),
        }


def render(report: DataReport) -> Group:
    """The report for a terminal: ``rich.print(render(report))``."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    facts = Table.grid(padding=(0, 2))
    source = report.events_from + (f" and {report.items_from}" if report.items_from else ", no items file")
    of_test = [("test", f"{report.test_events:,} of these events, from {report.test_from}")] if report.test_from else []
    for name, value in (
        ("read from", source),
        ("events", f"{report.events:,} of {report.rows_read:,} rows"),
        *of_test,
        ("users", f"{report.users:,}"),
        ("items", f"{report.items:,}, of which {report.items_with_events:,} with events"),
        ("time", f"{report.first_event} to {report.last_event}" if report.first_event else "none"),
        ("sessions", f"{report.sessions:,} from {report.sessions_from}"),
    ):
        facts.add_row(f"[bold]{name}", escape(value))
    types = Table("event type", "events", "weight", "hides the item afterwards", box=None, header_style="bold")
    for entry in report.event_types:
        types.add_row(escape(entry.name), f"{entry.events:,}", f"{entry.weight:g}", "yes" if entry.seen else "no")
    parts: list[Any] = [facts, "", types]
    if report.findings:
        findings = Table("found", "how many", "what was done, and why", "for example", box=None, header_style="bold")
        for found in report.findings:
            done = f"{found.done}: {found.why}"
            findings.add_row(escape(found.what), f"{found.count:,}", escape(done), escape(found.example))
        parts += ["", findings]
    parts += [f"[yellow]warning:[/] {escape(warning)}" for warning in report.warnings]
    return Group(*parts)
