"""Reads events and items into numbers, and says first what was in them."""

from __future__ import annotations

import datetime as dt
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from offline.errors import InputError
from offline.read.columns import check_mapping
from offline.read.data_report import DataReport, Finding, TypeCount
from offline.read.event_weights import DEFAULT_WEIGHTS, NEUTRAL_TYPES, plain
from offline.read.events import read_events
from offline.read.input_files import open_events, open_items
from offline.read.items import bare_items, read_items

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import ibis

    from core.catalogue import Catalogue
    from offline.read.engine import Engine
    from offline.read.events import Events
    from offline.read.input_files import Source
    from offline.read.items import Items

__all__ = ["DataReport", "Dataset", "InputError", "read_dataset"]


@dataclass(frozen=True)
class Dataset:
    """Events and items as numbers. Lives as long as the engine it was read with.

    Attributes:
        events: Ibis table, any order. Columns: ``user`` int32, ``item`` int32 (catalogue row), ``type`` int8 (index in
            ``event_types`` + 1), ``weight`` float32 (of the type), ``time`` int64 (seconds since the epoch),
            ``session`` int64 (unique across users), ``seq`` int32 (position in the user's sequence, oldest 0; events
            of the same time in the order of the files, without times in that of a hash, those of the test last),
            ``value`` float32 (0 = none given), ``test`` bool (of the test, not known).

        user_ids: sorted; the index is the user's number. Every user has an event.

        catalogue: sorted by item id.

        titles: one per catalogue row, empty = none.

        texts: one per catalogue row: title, description and categories; empty = none.

        event_types: sorted.

        event_weights: weight of every type in ``event_types``.

        seen_types: types after which an item is not offered again.

        as_of_s: time of the last event, seconds since the epoch; without times the moment of reading.
    """

    events: ibis.Table
    user_ids: list[str]
    catalogue: Catalogue
    titles: list[str]
    texts: list[str]
    event_types: tuple[str, ...]
    event_weights: Mapping[str, float]
    seen_types: tuple[str, ...]
    report: DataReport
    as_of_s: float


def read_dataset(
    events: str | Path,
    items: str | Path | None = None,
    *,
    engine: Engine,
    mapping: Mapping[str, str] | None = None,
    event_weights: Mapping[str, float] | None = None,
    seen_types: Sequence[str] | None = None,
    now_s: float | None = None,
    test: str | Path | None = None,
    needs_time: bool = True,
) -> Dataset:
    """Read events and, if there are any, items.

    Args:
        events: a Parquet or CSV file, a folder of such files or a pattern.

        items: likewise; None = the catalogue is the items of the events, without titles, prices or stock.

        engine: does the heavy work.

        mapping: our name of a column -> the files'.

        event_weights: event type -> weight, before ``offline.read.event_weights.DEFAULT_WEIGHTS``; negative = the user does not
            want the item.

        seen_types: types after which an item is not offered again; None = those of positive weight that are more than
            a look (``offline.read.event_weights.NEUTRAL_TYPES``).

        now_s: events later than this are dropped, seconds since the epoch; None = the clock.

        test: more events with the same columns, which are the test.

        needs_time: refuse events without times; where that is not so and there are none, a user's events are a set.

    Raises:
        InputError: the input cannot be used; the message says where, why and what to do.
    """
    mapping, weights = mapping or {}, event_weights or {}
    check_mapping(mapping)
    for name, weight in weights.items():
        if not math.isfinite(weight):
            raise InputError(f"event weight {name}={weight}: must be a finite number")
    event_source = open_events(events, mapping, engine.folder, test=test, needs_time=needs_time)
    item_source = None if items is None else open_items(items, mapping, engine.folder)
    _check_used(mapping, event_source, item_source)
    known = None if item_source is None else read_items(item_source)
    item_ids = None if known is None else list(known.catalogue.ids)
    try:
        found = read_events(event_source, engine, item_ids, weights, time.time() if now_s is None else now_s)
    except engine.unreadable as error:
        raise InputError(f"{events}: a file is damaged ({error}); write it again") from error
    if known is None:
        known = bare_items(found.item_ids)
    if seen_types is None:
        seen_types = [name for name, weight in found.weights.items() if weight > 0 and plain(name) not in NEUTRAL_TYPES]
    report, as_of_s = _report(
        event_source,
        item_source,
        found=found,
        known=known,
        weights=weights,
        seen_types=seen_types,
        test="" if test is None else str(test),
    )
    return Dataset(
        events=found.table,
        user_ids=found.user_ids,
        catalogue=known.catalogue,
        titles=known.titles,
        texts=known.texts,
        event_types=found.types,
        event_weights=found.weights,
        seen_types=tuple(seen_types),
        report=report,
        as_of_s=as_of_s,
    )


def _check_used(mapping: Mapping[str, str], events: Source, items: Source | None) -> None:
    used = {*events.names.items(), *(items.names.items() if items else ())}
    for ours, theirs in mapping.items():
        if (ours, theirs) not in used:
            files = events.named if items is None else f"{events.named} and {items.named}"
            there = ", ".join(dict.fromkeys([*events.columns, *(items.columns if items else ())]))
            raise InputError(f"--map {ours}={theirs}: no column {theirs!r} with a value in {files}; there are {there}")


def _report(
    events: Source,
    items: Source | None,
    *,
    found: Events,
    known: Items,
    weights: Mapping[str, float],
    seen_types: Sequence[str],
    test: str,
) -> tuple[DataReport, float]:
    table = found.table
    totals = table.aggregate(
        rows=table.count(),
        first=table.time.min(),
        last=table.time.max(),
        sessions=table.session.nunique(),
        items=table.item.nunique(),
        test=table.test.sum(),
    )
    total = totals.to_pyarrow().to_pylist()[0]
    per_type = table.group_by("type").aggregate(rows=table.count()).to_pyarrow().to_pylist()
    count = {found.types[row["type"] - 1]: row["rows"] for row in per_type}
    counts = tuple(
        TypeCount(name, count.get(name, 0), weight, name in seen_types) for name, weight in found.weights.items()
    )
    findings = [*found.findings, *known.findings]
    for source in (events, items):
        if source and source.passed_over:
            why, first = "neither Parquet nor CSV by its name", str(source.passed_over[0])
            findings.append(Finding("other file in the folder", len(source.passed_over), "not read", why, first))
    findings += [
        Finding(
            "unknown event type", entry.events, "kept with weight 1", "give it a weight if it means more", entry.name
        )
        for entry in counts
        if entry.name not in weights and plain(entry.name) not in DEFAULT_WEIGHTS
    ]
    idle = len(known.catalogue) - total["items"]
    if idle:
        findings.append(Finding("item without events", idle, "kept", "its text and category can still lead to it"))
    report = DataReport(
        events_from=events.named,
        items_from=items.named if items else "",
        rows_read=found.rows_read,
        events=total["rows"],
        users=len(found.user_ids),
        items=len(known.catalogue),
        items_with_events=total["items"],
        sessions=total["sessions"],
        sessions_from=found.sessions_from,
        first_event=_iso(total["first"]) if found.timed else "",
        last_event=_iso(total["last"]) if found.timed else "",
        event_types=counts,
        findings=tuple(findings),
        warnings=tuple(_warnings(events, found, total, weights, seen_types)),
        test_from=test,
        test_events=int(total["test"]),
    )
    return report, float(total["last"])


def _warnings(
    events: Source, found: Events, total: Mapping[str, int], weights: Mapping[str, float], seen_types: Sequence[str]
) -> list[str]:
    warnings = []
    if "event_type" not in events.names:
        warnings.append(
            f"There is no event_type: every event is taken as {found.types[0]!r}. "
            "Name the column with --map event_type=<column>."
        )
    if not found.timed:
        warnings.append(
            "There is no timestamp: a user's events are a set; order, trend and half-lives mean nothing. "
            "Name the column with --map timestamp=<column>."
        )
    if len(found.user_ids) == 1:
        warnings.append("There is one user only: nothing can be learned from what others did.")
    if total["items"] == 1:
        warnings.append("There are events of one item only: there is nothing to choose from.")
    if not any(weight > 0 for weight in found.weights.values()):
        warnings.append("No event type has a positive weight: there is nothing to learn from.")
    if found.timed and total["first"] == total["last"]:
        warnings.append("All events have the same time: order, trend and a split by time mean nothing.")
    warnings += [
        f"A weight is given for {name!r}, no event is of that type." for name in weights if name not in found.types
    ]
    warnings += [
        f"{name!r} is to hide items, no event is of that type." for name in seen_types if name not in found.types
    ]
    return warnings


def _iso(time_s: int) -> str:
    return dt.datetime.fromtimestamp(time_s, dt.UTC).isoformat().replace("+00:00", "Z")
