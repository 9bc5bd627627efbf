"""What the data report says of events that were not taken as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.query import MAX_USER_ID_BYTES
from offline.errors import InputError
from offline.read.data_report import Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    import ibis

    from offline.read.input_files import Source

NO_TYPE, NO_TYPE_AND_TIME = "view", "interaction"
"""The type of events that name none; those without a time either say what a user has, not what was looked at."""
KEPT, NO_USER, NO_ITEM, NO_TIME, FUTURE, UNKNOWN_ITEM, ODD_USER = range(7)
_REASONS = {
    NO_USER: ("event without user", "user_id is empty"),
    NO_ITEM: ("event without item", "item_id is empty"),
    NO_TIME: ("event without time", "the time is empty or not readable"),
    FUTURE: ("event in the future", "its time is later than now"),
    UNKNOWN_ITEM: ("event of an unknown item", "the items' files do not have it"),
    ODD_USER: (
        "event without usable user",
        f"no request can name it: user_id has control characters or more than {MAX_USER_ID_BYTES} bytes",
    ),
}


def type_of_untyped(source: Source) -> str:
    """The type that events without one are read as."""
    return NO_TYPE if "timestamp" in source.names else NO_TYPE_AND_TIME


def dropped(source: Source, raw: ibis.Table, staged: ibis.Table) -> tuple[int, list[Finding]]:
    """How many rows there were, and what was wrong with those that are not kept."""
    counts = staged.group_by("why").aggregate(rows=staged.count(), first=staged.order.min()).to_pyarrow().to_pylist()
    odd = one(
        staged.filter(staged.why == KEPT).aggregate(
            values=staged.odd_value.sum(),
            value_at=staged.order.min(where=staged.odd_value),
            untyped=staged.untyped.sum(),
            untyped_at=staged.order.min(where=staged.untyped),
        )
    )
    findings = []
    for entry in sorted(counts, key=lambda entry: entry["why"]):
        if entry["why"] == KEPT:
            continue
        what, why = _REASONS[entry["why"]]
        row = one(raw.filter(raw.order == entry["first"]).select("user_id", "item_id"))
        example = f"{source.where(entry['first'])}: user {row['user_id']!r}, item {row['item_id']!r}"
        findings.append(Finding(what, entry["rows"], "dropped", why, example))
    if "event_type" in source.names and odd["untyped"]:
        where = source.where(odd["untyped_at"])
        findings.append(
            Finding(
                "event without type",
                odd["untyped"],
                f"read as {type_of_untyped(source)!r}",
                "event_type is empty",
                where,
            )
        )
    if odd["values"]:
        where = source.where(odd["value_at"])
        findings.append(Finding("value not finite", odd["values"], "taken as absent", "NaN or infinite", where))
    return sum(entry["rows"] for entry in counts), findings


def of_text(source: Source) -> list[Finding]:
    """What could not be read from text files; times apart, whose rows are dropped and counted as such."""
    return [
        Finding("value not readable", entry.count, "taken as absent", f"column {entry.column}", entry.example)
        if entry.column
        else Finding("torn row", entry.count, "dropped", "too many or too few columns", entry.example)
        for entry in source.unreadable
        if entry.column != source.names.get("timestamp", "")
    ]


def refuse_nothing(source: Source, rows_read: int, findings: Sequence[Finding]) -> None:
    """Say why no event can be learned from.

    Raises:
        InputError: always.
    """
    if not rows_read:
        raise InputError(f"{source.named}: there are no events")
    reasons = "; ".join(f"{found.count} {found.what} ({found.why}; {found.example})" for found in findings)
    raise InputError(f"{source.named}: none of its {rows_read} events can be used: {reasons}")


def only_in_test(source: Source, staged: ibis.Table) -> list[Finding]:
    """Users and items that the test's files alone know; nothing can be learned of them."""
    if len(source.files) == source.known:
        return []
    kept = staged.filter(staged.why == KEPT)
    findings = []
    for column, why in (("user", "popularity serves them"), ("item", "only its text and category can lead to it")):
        each = kept.group_by(column).agg(known=(~kept.test).sum(), first=kept.order.min())
        alone = each.filter(each.known == 0)
        found = one(alone.aggregate(rows=alone.count(), first=alone["first"].min()))
        if found["rows"]:
            findings.append(
                Finding(f"{column} only in the test", found["rows"], "kept", why, source.where(found["first"]))
            )
    return findings


def one(row: ibis.Table) -> dict[str, Any]:
    """The only row of a table."""
    return dict(row.to_pyarrow().to_pylist()[0])
