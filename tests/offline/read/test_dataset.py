from __future__ import annotations

import gzip
import json
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from offline.read.data_report import render
from offline.read.dataset import read_dataset

if TYPE_CHECKING:
    from offline.read.dataset import Dataset
    from offline.read.engine import Engine

T0 = 1_700_000_000
NOW = T0 + 10_000_000
SHARED = Path(__file__).parents[4] / "shared" / "data"


def write_events(path: Path, rows: list[tuple[Any, ...]], *names: str) -> Path:
    """Rows of user, item, seconds after T0 and more columns ``names``, as Parquet."""
    columns = dict(zip(("user_id", "item_id", "timestamp", *names), zip(*rows, strict=True), strict=True))
    table = {name: pa.array(values) for name, values in columns.items()}
    table["timestamp"] = pa.array([T0 + s for s in columns["timestamp"]]).cast(pa.timestamp("s", "UTC"))
    pq.write_table(pa.table(table), path)
    return path


def write_text(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def rows_of(data: Dataset, *columns: str) -> list[tuple[Any, ...]]:
    """Rows in the order (user, seq)."""
    table = data.events.to_pyarrow().sort_by([("user", "ascending"), ("seq", "ascending")])
    return list(zip(*(table[name].to_pylist() for name in columns), strict=True))


def findings(data: Dataset) -> dict[str, tuple[int, str]]:
    return {found.what: (found.count, found.done) for found in data.report.findings}


def test_users_and_items_are_numbered_in_the_order_of_their_ids(engine: Engine, tmp_path: Path) -> None:
    path = write_events(tmp_path / "e.parquet", [("u2", "b", 5), ("u10", "a", 3), ("u2", "é", 1)])
    data = read_dataset(path, engine=engine, now_s=NOW)
    assert data.user_ids == ["u10", "u2"]
    assert list(data.catalogue.ids) == ["a", "b", "é"]
    assert rows_of(data, "user", "item", "seq", "time") == [(0, 0, 0, T0 + 3), (1, 2, 0, T0 + 1), (1, 1, 1, T0 + 5)]
    assert data.as_of_s == T0 + 5


def test_the_events_have_the_promised_columns_and_types(engine: Engine, tmp_path: Path) -> None:
    path = write_events(tmp_path / "e.parquet", [("u", "a", 5)])
    schema = read_dataset(path, engine=engine, now_s=NOW).events.schema()
    expected = {"user": "int32", "item": "int32", "type": "int8", "weight": "float32", "time": "int64"}
    assert {name: str(kind).lstrip("!") for name, kind in schema.items()} == expected | {
        "session": "int64",
        "seq": "int32",
        "value": "float32",
        "test": "boolean",
    }


def test_events_of_the_same_second_keep_the_order_of_files_and_rows(engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "events"
    folder.mkdir()
    write_events(folder / "2.parquet", [("u", "a", 0), ("u", "c", 0)])
    write_events(folder / "1.parquet", [("u", "d", 0), ("u", "b", 0)])
    data = read_dataset(folder, engine=engine, now_s=NOW)
    assert [data.catalogue.ids[item] for (item,) in rows_of(data, "item")] == ["d", "b", "a", "c"]


def test_parts_of_a_second_decide_the_order(engine: Engine, tmp_path: Path) -> None:
    path = write_text(
        tmp_path / "e.csv",
        "user_id,item_id,timestamp\nu,late,2023-11-14T22:13:20.9Z\nu,early,2023-11-14T23:13:20.1+01:00\n",
    )
    data = read_dataset(path, engine=engine, now_s=NOW)
    assert [data.catalogue.ids[item] for (item,) in rows_of(data, "item")] == ["early", "late"]
    assert rows_of(data, "time") == [(T0,), (T0,)]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", None])
def test_timestamps_of_every_unit_and_zone_are_the_same_moment(
    engine: Engine, tmp_path: Path, unit: str, zone: str | None
) -> None:
    times = pa.array([T0 * {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]]).cast(pa.timestamp(unit, zone))
    pq.write_table(pa.table({"user_id": ["u"], "item_id": ["i"], "timestamp": times}), tmp_path / "e.parquet")
    assert read_dataset(tmp_path / "e.parquet", engine=engine, now_s=NOW).as_of_s == T0


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_the_unit_of_whole_number_times_is_found(engine: Engine, tmp_path: Path, unit: int, kind: str) -> None:
    path = tmp_path / f"e.{kind}"
    if kind == "csv":
        write_text(path, f"user_id,item_id,timestamp\nu,i,{T0 * unit}\nu,j,{(T0 + 7) * unit}\n")
    else:
        times = [T0 * unit, (T0 + 7) * unit]
        pq.write_table(pa.table({"user_id": ["u"] * 2, "item_id": ["i", "j"], "timestamp": times}), path)
    assert rows_of(read_dataset(path, engine=engine, now_s=NOW), "time") == [(T0,), (T0 + 7,)]


def test_parquet_that_keeps_everything_as_text_reads_like_csv(engine: Engine, tmp_path: Path) -> None:
    columns = {
        "user_id": ["u", "v"],
        "item_id": ["i", "i"],
        "timestamp": ["2023-11-14T22:13:20Z", "2023-11-14 22:13:21"],
    }
    pq.write_table(pa.table({**columns, "value": ["1.5", None]}), tmp_path / "e.parquet")
    data = read_dataset(tmp_path / "e.parquet", engine=engine, now_s=NOW)
    assert rows_of(data, "time", "value") == [(T0, 1.5), (T0 + 1, 0.0)]


def test_ids_may_be_whole_numbers(engine: Engine, tmp_path: Path) -> None:
    path = write_events(tmp_path / "e.parquet", [(12, 7, 0), (3, 7, 0)])
    pq.write_table(pa.table({"item_id": [7], "title": ["Seven"]}), tmp_path / "items.parquet")
    data = read_dataset(path, tmp_path / "items.parquet", engine=engine, now_s=NOW)
    assert (data.user_ids, list(data.catalogue.ids), data.titles) == (["12", "3"], ["7"], ["Seven"])


def test_csv_gzip_and_parquet_of_the_same_rows_read_the_same(engine: Engine, tmp_path: Path) -> None:
    text = "user_id;item_id;timestamp;event_type;value\nu;a;2023-11-14T22:13:20Z;purchase;2.5\nv;b;2023-11-14;view;\n"
    write_text(tmp_path / "e.csv", "\ufeff" + text)
    (tmp_path / "e.csv.gz").write_bytes(gzip.compress(text.encode()))
    rows = [("u", "a", 0, "purchase", 2.5), ("v", "b", -80_000, "view", None)]
    write_events(tmp_path / "e.parquet", rows, "event_type", "value")
    read = [
        rows_of(
            read_dataset(tmp_path / name, engine=engine, now_s=NOW), "user", "item", "type", "time", "weight", "value"
        )
        for name in ("e.csv", "e.csv.gz", "e.parquet")
    ]
    assert read[0] == read[1] == read[2] == [(0, 0, 1, T0, 5.0, 2.5), (1, 1, 2, T0 - 80_000, 1.0, 0.0)]


def test_a_pattern_reads_what_it_matches(engine: Engine, tmp_path: Path) -> None:
    for day in ("a", "b"):
        (tmp_path / f"day={day}").mkdir()
        write_events(tmp_path / f"day={day}" / "part.parquet", [(day, day, 0)])
    assert read_dataset(str(tmp_path / "day=*" / "*.parquet"), engine=engine, now_s=NOW).user_ids == ["a", "b"]


def test_columns_can_have_other_names(engine: Engine, tmp_path: Path) -> None:
    path = write_text(tmp_path / "e.csv", "who,sku,at\nu,i,2023-11-14T22:13:20Z\n")
    items = write_text(tmp_path / "i.csv", "item_id,name\ni,Thing\n")
    mapping = {"user_id": "who", "item_id": "sku", "timestamp": "at", "title": "name"}
    data = read_dataset(path, items, engine=engine, mapping=mapping, now_s=NOW)
    assert (data.user_ids, data.titles, data.as_of_s) == (["u"], ["Thing"], T0)


def test_types_get_default_weights_that_can_be_overridden(engine: Engine, tmp_path: Path) -> None:
    kinds = ["view", "Add to cart", "purchase", "dislike", "wave"]
    path = write_events(tmp_path / "e.parquet", [("u", "i", n, kind) for n, kind in enumerate(kinds)], "event_type")
    data = read_dataset(path, engine=engine, event_weights={"view": 0.5, "nod": 2.0}, now_s=NOW)
    assert data.event_types == ("Add to cart", "dislike", "purchase", "view", "wave")
    assert data.event_weights == {"Add to cart": 3.0, "dislike": -2.0, "purchase": 5.0, "view": 0.5, "wave": 1.0}
    assert data.seen_types == ("Add to cart", "purchase", "wave")
    assert [entry.example for entry in data.report.findings if entry.what == "unknown event type"] == ["wave"]
    assert any("'nod'" in warning for warning in data.report.warnings)
    weights = dict(zip(data.event_types, (3, -2, 5, 0.5, 1), strict=True))
    assert rows_of(data, "type", "weight") == [(data.event_types.index(k) + 1, weights[k]) for k in kinds]


def test_without_types_every_event_is_a_view_and_the_report_says_so(engine: Engine, tmp_path: Path) -> None:
    data = read_dataset(write_events(tmp_path / "e.parquet", [("u", "i", 0)]), engine=engine, now_s=NOW)
    assert data.event_types == ("view",)
    assert any("event_type" in warning for warning in data.report.warnings)


def test_every_row_is_kept_or_counted_with_its_reason(engine: Engine, tmp_path: Path) -> None:
    rows = [
        ("u", "a", 0, "view", 1.0),
        ("u", "a", 0, "view", 1.0),
        (None, "a", 1, "view", 1.0),
        (" ", "a", 1, "view", 1.0),
        ("u", "", 1, "view", 1.0),
        ("u", "a", 20_000_000, "view", 1.0),
        ("u", "zz", 2, "view", 1.0),
        ("v", "b", 3, None, float("inf")),
    ]
    path = write_events(tmp_path / "e.parquet", rows, "event_type", "value")
    items = write_text(tmp_path / "i.csv", "item_id\na\nb\nc\n")
    data = read_dataset(path, items, engine=engine, now_s=NOW)
    assert findings(data) == {
        "event without user": (2, "dropped"),
        "event without item": (1, "dropped"),
        "event in the future": (1, "dropped"),
        "event of an unknown item": (1, "dropped"),
        "event without type": (1, "read as 'view'"),
        "value not finite": (1, "taken as absent"),
        "repeated event": (1, "dropped"),
        "item without events": (1, "kept"),
    }
    dropped = sum(count for count, done in findings(data).values() if done == "dropped")
    assert data.report.rows_read == len(rows) == data.report.events + dropped
    examples = {found.what: found.example for found in data.report.findings}
    assert examples["event of an unknown item"].endswith("row 7: user 'u', item 'zz'")
    assert examples["repeated event"].endswith("row 2")
    assert (data.report.items, data.report.items_with_events) == (3, 2)


def test_events_of_a_user_that_no_request_can_name_are_dropped_and_counted(engine: Engine, tmp_path: Path) -> None:
    users = ["auth0|7", "a b+/=", "岡本", "é" * 128, "tab\there", "nul\0", "\x85", "é" * 129]
    path = write_events(tmp_path / "e.parquet", [(user, "i", n) for n, user in enumerate(users)])
    data = read_dataset(path, engine=engine, now_s=NOW)
    assert data.user_ids == sorted(users[:4])
    assert findings(data)["event without usable user"] == (4, "dropped")
    assert data.report.rows_read == data.report.events + 4


def test_torn_rows_and_unreadable_times_are_dropped_and_counted_with_their_line(engine: Engine, tmp_path: Path) -> None:
    lines = [f'u{n},"i\n{n}",2023-11-14T22:13:20Z,1' for n in range(500)]
    lines[100] = "u100,i100"
    lines[200] = "u200,i200,yesterday,1"
    lines[300] = "u300,i300,2023-11-14T22:13:20Z,many"
    path = write_text(tmp_path / "e.csv", "\n\n".join(["user_id,item_id,timestamp,value", *lines]) + "\n")
    data = read_dataset(path, engine=engine, now_s=NOW)
    found = {entry.what: (entry.count, entry.example) for entry in data.report.findings}
    # Every row above takes two lines and is followed by an empty one; the three short ones take one line.
    assert found["torn row"] == (1, f"{path} line {3 + 300}: 'u100,i100'")
    assert found["event without time"][1].startswith(f"{path} line {3 + 600 - 1}: user 'u200'")
    assert found["value not readable"] == (1, f"{path} line {3 + 900 - 2}: 'many' in column 'value'")
    assert (data.report.rows_read, data.report.events) == (500, 498)


def test_sessions_are_those_of_the_data_and_unique_across_users(engine: Engine, tmp_path: Path) -> None:
    rows = [("u", "a", 0, "1"), ("u", "b", 90_000, "1"), ("v", "a", 0, "1"), ("v", "b", 1, "2"), ("v", "c", 2, None)]
    path = write_events(tmp_path / "e.parquet", rows, "session_id")
    sessions = [session for (session,) in rows_of(read_dataset(path, engine=engine, now_s=NOW), "session")]
    assert sessions[0] == sessions[1]
    assert len(set(sessions)) == 4


def test_half_an_hour_without_events_ends_a_session(engine: Engine, tmp_path: Path) -> None:
    times = [0, 1800, 1801, 3601, 5402]
    path = write_events(tmp_path / "e.parquet", [("u", "a", t) for t in times] + [("v", "a", 0)])
    sessions = [session for (session,) in rows_of(read_dataset(path, engine=engine, now_s=NOW), "session")]
    assert [a == b for a, b in pairwise(sessions)] == [True, True, True, False, False]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["u", "v", "w"]),
            st.sampled_from(["a", "b"]),
            st.integers(0, 5000),
            st.sampled_from(["view", "buy"]),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_numbers_agree_with_a_plain_loop(engine: Engine, tmp_path: Path, rows: list[tuple[str, str, int, str]]) -> None:
    """Repeats, positions and sessions are what a loop over the rows gives."""
    data = read_dataset(write_events(tmp_path / "e.parquet", rows, "event_type"), engine=engine, now_s=NOW)
    got = rows_of(data, "user", "seq", "item", "type", "time", "session")
    expected = []
    for user, user_id in enumerate(data.user_ids):
        mine = sorted({row: None for row in rows if row[0] == user_id}, key=lambda row: row[2])
        for seq, (_, item, time, kind) in enumerate(mine):
            fresh = seq == 0 or time - mine[seq - 1][2] > 1800
            code = data.event_types.index(kind) + 1
            expected.append((user, seq, data.catalogue.row_of[item], code, T0 + time, fresh))
    began = [i == 0 or got[i][5] != got[i - 1][5] for i in range(len(got))]
    assert [(*row[:5], new) for row, new in zip(got, began, strict=True)] == expected
    assert len({row[5] for row in got}) == sum(began)


def test_items_become_a_catalogue(engine: Engine, tmp_path: Path) -> None:
    items = pa.table(
        {
            "item_id": ["b", "a", "c"],
            "title": ["Bee", None, "Sea"],
            "description": ["buzzes", "", None],
            "categories": [["x", "y", "x"], None, ["y"]],
            "price": [2.5, -1.0, float("nan")],
            "available": [False, None, True],
            "created_at": pa.array([T0, None, 0]).cast(pa.timestamp("s", "UTC")),
            "year": [1999.0, None, 2001.0],
            "brand": pa.array(["Q", "", "P"]).dictionary_encode(),
            "vector": [[1.0], [2.0], [3.0]],
        }
    )
    pq.write_table(items, tmp_path / "items.parquet")
    events = write_events(tmp_path / "e.parquet", [("u", "a", 0)])
    data = read_dataset(events, tmp_path / "items.parquet", engine=engine, now_s=NOW)
    catalogue = data.catalogue
    assert list(catalogue.ids) == ["a", "b", "c"]
    assert data.titles == ["", "Bee", "Sea"]
    assert data.texts == ["", "Bee\nbuzzes\nx, y", "Sea\ny"]
    assert [catalogue.categories_of(row) for row in range(3)] == [(), ("x", "y"), ("y",)]
    assert catalogue.available.tolist() == [True, False, True]
    assert np.array_equal(catalogue.price, np.array([np.nan, 2.5, np.nan], np.float32), equal_nan=True)
    assert catalogue.created_at.tolist() == [0, T0, 0]
    assert {name: (codes.tolist(), values) for name, (codes, values) in catalogue.attributes.items()} == {
        "year": ([-1, 0, 1], ("1999", "2001")),
        "brand": ([-1, 1, 0], ("P", "Q")),
    }
    assert findings(data)["price not a price"] == (2, "taken as unknown")
    assert findings(data)["item column not used"] == (1, "passed over")


def test_a_column_of_a_thousand_values_and_more_is_no_attribute(engine: Engine, tmp_path: Path) -> None:
    n = 1001
    table = pa.table(
        {"item_id": [f"i{k}" for k in range(n)], "sku": [str(k) for k in range(n)], "half": [k // 2 for k in range(n)]}
    )
    pq.write_table(table, tmp_path / "items.parquet")
    events = write_events(tmp_path / "e.parquet", [("u", "i0", 0)])
    data = read_dataset(events, tmp_path / "items.parquet", engine=engine, now_s=NOW)
    assert list(data.catalogue.attributes) == ["half"]
    assert any("'sku'" in found.example for found in data.report.findings)


def test_items_from_csv_split_categories_and_read_flags(engine: Engine, tmp_path: Path) -> None:
    text = 'item_id,categories,available,price,created_at\na,"x | y",no,1.5,2023-11-14\nb,,YES,,\n'
    events = write_events(tmp_path / "e.parquet", [("u", "a", 0)])
    data = read_dataset(events, write_text(tmp_path / "i.csv", text), engine=engine, now_s=NOW)
    assert data.catalogue.categories_of(0) == ("x", "y")
    assert data.catalogue.available.tolist() == [False, True]
    assert data.catalogue.created_at.tolist() == [T0 - 80_000, 0]


def test_one_user_can_be_read_but_is_warned_of(engine: Engine, tmp_path: Path) -> None:
    data = read_dataset(write_events(tmp_path / "e.parquet", [("u", "i", 0), ("u", "j", 1)]), engine=engine, now_s=NOW)
    assert any("one user" in warning for warning in data.report.warnings)


def test_the_report_is_json_and_prints(engine: Engine, tmp_path: Path) -> None:
    path = write_events(tmp_path / "[red]e.parquet", [("u", "i", 0, "wave"), ("u", "i", 0, "wave")], "event_type")
    report = read_dataset(path, engine=engine, now_s=NOW).report
    assert json.loads(json.dumps(report.as_dict(), allow_nan=False))["findings"][0]["what"] == "repeated event"
    out = StringIO()
    Console(file=out, width=200).print(render(report))
    assert all(text in out.getvalue() for text in ("[red]e.parquet", "wave", "repeated event", "2023-11-14T22:13:20Z"))


@pytest.mark.shared_data
def test_a_real_shop_reads_whole(engine: Engine) -> None:
    folder = SHARED / "online-retail"
    if not folder.is_dir():
        pytest.skip("the public data sets are not beside the checkout")
    data = read_dataset(folder / "events.parquet", folder / "items.parquet", engine=engine)
    dropped = sum(found.count for found in data.report.findings if found.done == "dropped")
    assert data.report.rows_read == 738_602 == data.report.events + dropped
    assert data.seen_types == ("purchase",)
