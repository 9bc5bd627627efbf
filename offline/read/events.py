"""The events' files as one table of numbers. All of it is Ibis: the same on one machine and on Spark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ibis
import pyarrow as pa

from core.query import is_user_id
from offline.errors import InputError
from offline.read.data_report import Finding
from offline.read.event_weights import weight_of
from offline.read.findings import (
    FUTURE,
    KEPT,
    NO_ITEM,
    NO_TIME,
    NO_USER,
    ODD_USER,
    UNKNOWN_ITEM,
    dropped,
    of_text,
    one,
    only_in_test,
    refuse_nothing,
    type_of_untyped,
)
from offline.read.items import unknown_unit
from offline.read.parse_column import EARLIEST_US, END_YEAR, FIRST_YEAR, LATEST_US, microseconds_per

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from offline.read.engine import Engine
    from offline.read.input_files import Source

SESSION_GAP_S = 30 * 60
"""A user's next event after a longer pause begins a new session."""
MAX_TYPES = 127


@dataclass(frozen=True)
class Events:
    """Events as numbers.

    Attributes:
        table: see ``offline.read.dataset.Dataset.events``.

        user_ids: sorted; the index is the user's number.

        item_ids: sorted; the index is the item's row.

        types: sorted; code = index + 1.

        weights: of every type.

        sessions_from: where sessions come from, in words.

        timed: whether the events have times; if not, all have the moment of reading, and a user's come in the order
            of a hash of user and item, so that any part of them is a random one.

        findings: what was not taken as it is.
    """

    table: ibis.Table
    user_ids: list[str]
    item_ids: list[str]
    types: tuple[str, ...]
    weights: Mapping[str, float]
    sessions_from: str
    timed: bool
    rows_read: int
    findings: tuple[Finding, ...]


def read_events(
    source: Source, engine: Engine, item_ids: list[str] | None, weights: Mapping[str, float], now_s: float
) -> Events:
    """Check, number and order the events.

    Args:
        source: the events' files.

        engine: does the work and keeps the result.

        item_ids: sorted ids of the catalogue; None = whatever the events name.

        weights: of event types, before the default ones.

        now_s: later events are dropped, seconds since the epoch.

    Raises:
        InputError: no event is left, times are of an unknown unit or not of this age, or there are too many types.
    """
    raw = _canonical(source, engine, now_s)
    sound = raw.filter(raw.why == KEPT)
    if item_ids is None:
        item_ids = _sorted_distinct(sound, "item_id")
    items = _numbering(engine, "item", item_ids)
    named = _sorted_distinct(sound.semi_join(items, sound.item_id == items.item_key), "user_id")
    users = [user_id for user_id in named if is_user_id(user_id)]
    types = _types(sound, weights)
    staged = engine.keep(_numbered(raw, engine, items, _numbering(engine, "user", users), types))
    rows_read, findings = dropped(source, raw, staged)
    learned_from = staged.filter((staged.why == KEPT) & ~staged.test).count()
    if not int(learned_from.to_pyarrow().as_py()):
        refuse_nothing(source, rows_read, findings)
    table, repeats = _ordered(source, engine, staged)
    findings += [*repeats, *only_in_test(source, staged)]
    timed = "timestamp" in source.names
    sessions_from = "session_id" if "session_id" in source.names else f"gaps of {SESSION_GAP_S // 60} minutes"
    if not timed and "session_id" not in source.names:
        sessions_from = "users: without times each has one"
    unreadable = sum(entry.count for entry in source.unreadable if not entry.column)
    return Events(
        table,
        users,
        item_ids,
        tuple(types),
        types,
        sessions_from,
        timed,
        rows_read + unreadable,
        (*of_text(source), *findings),
    )


def _canonical(source: Source, engine: Engine, now_s: float) -> ibis.Table:
    """Columns user_id, item_id, event_type, session_id, shuffle (text), value, time_us, order, test, why."""
    timed = "timestamp" in source.names
    whole_numbers = timed and pa.types.is_integer(source.kind("timestamp"))
    raw = engine.read(source.parquet, source.names, ("timestamp",) if timed and not whole_numbers else ())
    time = _times(source, raw, whole_numbers=whole_numbers) if timed else ibis.literal(int(now_s) * 1_000_000)
    user, item = raw.user_id.cast("string"), raw.item_id.cast("string")
    kind = raw.event_type.cast("string") if "event_type" in raw.columns else ibis.null("string")
    value = raw.value.cast("float64") if "value" in raw.columns else ibis.null("float64")
    session = raw.session_id.cast("string") if "session_id" in raw.columns else ibis.null("string")
    time = time.cast("int64")
    return raw.select(
        "order",
        test=raw.order >= source.test_begins,
        shuffle=ibis.literal("") if timed else (user + "\x1f" + item).hexdigest("md5"),
        user_id=user,
        item_id=item,
        event_type=ibis.ifelse(_empty(kind), type_of_untyped(source), kind),
        untyped=_empty(kind),
        time_us=time,
        value=ibis.ifelse(value.isnull() | value.isnan() | value.isinf(), 0.0, value).cast("float32"),
        odd_value=(value.isnan() | value.isinf()).fill_null(False),
        session_id=session,
        why=ibis.cases(
            (_empty(user), NO_USER),
            (_empty(item), NO_ITEM),
            (time.isnull(), NO_TIME),
            (time > int(now_s * 1_000_000), FUTURE),
            else_=KEPT,
        ).cast("int8"),
    )


def _times(source: Source, raw: ibis.Table, *, whole_numbers: bool) -> Any:
    """Microseconds since the epoch, null where there is none.

    Raises:
        InputError: there is none at all, or they are of an unknown unit or not of this age.
    """
    first = _range(raw)
    if first["low"] is None:
        raise InputError(f"{source.named}: no row has a {source.names['timestamp']!r}; events need a time")
    if whole_numbers:
        unit = microseconds_per(first["low"], first["high"])
        if unit is None:
            raise InputError(unknown_unit(source, "timestamp", first["low"], first["high"]))
        return raw.timestamp * unit.numerator if unit.denominator == 1 else raw.timestamp // unit.denominator
    for time_us, order in ((first["low"], first["low_order"]), (first["high"], first["high_order"])):
        if not EARLIEST_US <= time_us < LATEST_US:
            raise InputError(
                f"{source.where(order)}: the time in column {source.names['timestamp']!r} is "
                f"{time_us // 1_000_000} seconds after 1970, not between {FIRST_YEAR} and {END_YEAR}. "
                "Correct or remove the row"
            )
    return raw.timestamp


def _range(raw: ibis.Table) -> dict[str, Any]:
    return one(
        raw.aggregate(
            low=raw.timestamp.min(),
            high=raw.timestamp.max(),
            low_order=raw.order.argmin(raw.timestamp),
            high_order=raw.order.argmax(raw.timestamp),
        )
    )


def _empty(text: Any) -> Any:
    return text.isnull() | (text.strip() == "")


def _sorted_distinct(table: ibis.Table, column: str) -> list[str]:
    return sorted(table.select(column).distinct().to_pyarrow()[column].to_pylist())


def _numbering(engine: Engine, name: str, ids: Sequence[str]) -> ibis.Table:
    columns = {f"{name}_key": pa.array(ids, pa.string()), name: pa.array(range(len(ids)), pa.int32())}
    return engine.table(pa.table(columns))


def _types(sound: ibis.Table, weights: Mapping[str, float]) -> dict[str, float]:
    names = sorted(sound.select("event_type").distinct().limit(MAX_TYPES + 1).to_pyarrow()["event_type"].to_pylist())
    if len(names) > MAX_TYPES:
        raise InputError(
            f"column event_type: more than {MAX_TYPES} different values, for example {', '.join(map(repr, names[:3]))}; "
            "is it another column? Say which with --map event_type=<column>"
        )
    return {name: weight_of(name, weights) for name in names}


def _numbered(
    raw: ibis.Table, engine: Engine, items: ibis.Table, users: ibis.Table, types: Mapping[str, float]
) -> ibis.Table:
    kinds = engine.table(
        pa.table(
            {
                "type_key": pa.array(types, pa.string()),
                "type": pa.array(range(1, len(types) + 1), pa.int8()),
                "weight": pa.array(types.values(), pa.float32()),
            }
        )
    )
    joined = raw.left_join(items, raw.item_id == items.item_key)
    joined = joined.left_join(users, joined.user_id == users.user_key)
    joined = joined.left_join(kinds, joined.event_type == kinds.type_key)
    first = joined.order.min().over(group_by=[joined.user, joined.session_id])
    return joined.select(
        "user",
        "item",
        "type",
        "weight",
        "time_us",
        "value",
        "odd_value",
        "untyped",
        "order",
        "test",
        "shuffle",
        labelled=ibis.ifelse(joined.session_id.isnull(), None, first),
        why=ibis.cases(
            (joined.why != KEPT, joined.why),
            (joined.item.isnull(), UNKNOWN_ITEM),
            (joined.user.isnull(), ODD_USER),
            else_=KEPT,
        ).cast("int8"),
    )


def _ordered(source: Source, engine: Engine, staged: ibis.Table) -> tuple[ibis.Table, list[Finding]]:
    """Each different event once, in its place in the user's sequence and in its session."""
    kept = staged.filter(staged.why == KEPT)
    late: list[Finding] = []
    if len(source.files) > source.known:
        kept, late = _after_known(source, kept)
    same = kept.group_by("user", "item", "type", "weight", "test", "time_us", "shuffle", "value", "labelled")
    once = same.aggregate(order=kept.order.min(), times=kept.count())
    in_order = ["test", "time_us", "shuffle", "order"]
    position = ibis.row_number().over(group_by="user", order_by=in_order)
    before = once.time_us.lag().over(group_by=["user", "labelled"], order_by=in_order)
    placed = once.mutate(seq=position.cast("int32"))
    placed = placed.mutate(
        begins=ibis.ifelse((placed.time_us - before <= SESSION_GAP_S * 1_000_000).fill_null(False), None, placed.seq)
    )
    begin = placed.begins.max().over(ibis.cumulative_window(group_by=["user", "labelled"], order_by=in_order))
    # Odd: found by pauses, even: named by the data. Both are unique across users.
    derived = (placed.user.cast("int64") * (1 << 31) + begin) * 2 + 1
    table = engine.keep(
        placed.select(
            "user",
            "item",
            "type",
            "weight",
            "seq",
            "value",
            "test",
            "times",
            time=placed.time_us // 1_000_000,
            session=ibis.ifelse(placed.labelled.isnull(), derived, placed.labelled * 2),
        )
    )
    repeats = table.times.sum() - table.count()
    count = int(repeats.to_pyarrow().as_py() or 0)
    table = table.drop("times")
    if not count:
        return table, late
    twice = same.aggregate(times=kept.count(), last=kept.order.max())
    last = one(twice.filter(twice.times > 1).aggregate(at=twice["last"].min()))["at"]
    why = "the same user, item, type, time, value and session"
    return table, [*late, Finding("repeated event", count, "dropped", why, source.where(last))]


def _after_known(source: Source, kept: ibis.Table) -> tuple[ibis.Table, list[Finding]]:
    """Test events never before the user's known ones: what is to be predicted comes after what is known."""
    known_until = kept.time_us.max(where=~kept.test).over(group_by="user")
    kept = kept.mutate(late=kept.test & (kept.time_us < known_until).fill_null(False), known_until=known_until)
    found = one(kept.aggregate(rows=kept.late.sum(), first=kept.order.min(where=kept.late)))
    kept = kept.mutate(time_us=ibis.ifelse(kept.late, kept.known_until, kept.time_us)).drop("late", "known_until")
    if not found["rows"]:
        return kept, []
    why = "what is to be predicted comes after what is known"
    done = "taken as of the user's last known event"
    return kept, [Finding("test event before known ones", found["rows"], done, why, source.where(found["first"]))]
