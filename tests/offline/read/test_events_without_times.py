"""Events without times, and events that are asked for: read, ordered, counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from offline.build.fit import World
from offline.errors import InputError
from offline.read.data_report import render
from offline.read.dataset import read_dataset
from offline.read.engine import open_engine
from offline.read.event_log import EventLog
from offline.split.windows import SplitKind, plan_of

if TYPE_CHECKING:
    from pathlib import Path

    from offline.read.dataset import Dataset
    from offline.read.engine import Engine

T0 = 1_700_000_000
NOW = float(T0 + 500)
KNOWN = [("ann", "a"), ("ann", "b"), ("ann", "c"), ("bob", "b"), ("bob", "d"), ("cid", "a")]


def write(path: Path, rows: list[tuple[Any, ...]], *names: str) -> Path:
    """Rows of user, item and more columns, as Parquet."""
    columns = ("user_id", "item_id", *names)
    pq.write_table(pa.table(dict(zip(columns, map(pa.array, zip(*rows, strict=True)), strict=True))), path)
    return path


def items_of(data: Dataset, user: str, *, test: bool = False) -> list[str]:
    """Item ids of a user's known or asked events, in their order."""
    table = data.events.to_pyarrow().sort_by([("user", "ascending"), ("seq", "ascending")])
    number = data.user_ids.index(user)
    return [
        data.catalogue.ids[row["item"]] for row in table.to_pylist() if row["user"] == number and row["test"] is test
    ]


def findings(data: Dataset) -> dict[str, tuple[int, str]]:
    return {found.what: (found.count, found.done) for found in data.report.findings}


def test_events_without_times_are_one_set_of_one_moment_for_each_user(engine: Engine, tmp_path: Path) -> None:
    """One session a user, the moment of reading, a type that hides the item afterwards; and the report says so."""
    data = read_dataset(write(tmp_path / "e.parquet", KNOWN), engine=engine, now_s=NOW, needs_time=False)
    table = data.events.to_pyarrow().to_pydict()
    assert set(table["time"]) == {int(NOW)}
    assert len(set(table["session"])) == data.report.sessions == 3
    assert sorted(items_of(data, "ann")) == ["a", "b", "c"]
    assert data.event_types == data.seen_types == ("interaction",)
    assert data.report.first_event == data.report.last_event == ""
    assert "There is no timestamp" in "".join(data.report.warnings)
    console = Console(record=True, width=200)
    console.print(render(data.report))
    assert "none" in next(line for line in console.export_text().splitlines() if line.startswith("time"))


def test_the_order_of_a_set_is_drawn_by_user_and_item_and_not_by_the_file(engine: Engine, tmp_path: Path) -> None:
    """Whatever the order of the rows and whoever else is there, the same last events are held out."""
    many = [(f"u{u}", f"i{i:02}") for u in range(2) for i in range(40)]
    ways = [many, many[::-1], [("another", "i00"), ("another", "new"), *many]]
    orders = [
        items_of(read_dataset(write(tmp_path / f"{n}.parquet", rows), engine=engine, now_s=NOW, needs_time=False), "u1")
        for n, rows in enumerate(ways)
    ]
    assert orders[0] == orders[1] == orders[2]
    assert orders[0] != sorted(orders[0])
    first = read_dataset(tmp_path / "0.parquet", engine=engine, now_s=NOW, needs_time=False)
    assert items_of(first, "u0") != orders[0]


def test_a_pair_given_twice_is_one_event(engine: Engine, tmp_path: Path) -> None:
    path = write(tmp_path / "e.parquet", [*KNOWN, ("ann", "b"), ("ann", "b")])
    data = read_dataset(path, engine=engine, now_s=NOW, needs_time=False)
    assert sorted(items_of(data, "ann")) == ["a", "b", "c"]
    assert findings(data)["repeated event"] == (2, "dropped")


def test_types_and_sessions_are_read_without_times_too(engine: Engine, tmp_path: Path) -> None:
    """Orders without dates: the sessions are baskets, the types keep their weights."""
    rows = [("ann", "a", "purchase", "1"), ("ann", "b", "purchase", "2"), ("ann", "c", "view", "2")]
    path = write(tmp_path / "e.parquet", rows, "event_type", "session_id")
    data = read_dataset(path, engine=engine, now_s=NOW, needs_time=False)
    assert data.report.sessions == 2
    assert data.report.sessions_from == "session_id"
    assert data.seen_types == ("purchase",)


def test_where_times_are_needed_a_file_without_them_is_refused_with_what_to_do(engine: Engine, tmp_path: Path) -> None:
    path = write(tmp_path / "e.parquet", KNOWN)
    with pytest.raises(
        InputError, match=r"no column 'timestamp'.*--map timestamp=<column>, or.*--split share or given"
    ):
        read_dataset(path, engine=engine, now_s=NOW)


def test_test_events_come_after_what_each_user_is_known_for(engine: Engine, tmp_path: Path) -> None:
    """They are told apart, counted, and so are users and items that nothing else knows."""
    known = write(tmp_path / "train.parquet", KNOWN)
    test = write(tmp_path / "test.parquet", [("ann", "d"), ("bob", "new"), ("bob", "a"), ("zoe", "a")])
    data = read_dataset(known, engine=engine, now_s=NOW, test=test, needs_time=False)
    assert items_of(data, "ann", test=True) == ["d"]
    assert sorted(items_of(data, "bob", test=True)) == ["a", "new"]
    assert sorted(items_of(data, "bob")) == ["b", "d"]
    table = data.events.to_pyarrow().to_pylist()
    last_known = {
        user: max(row["seq"] for row in table if row["user"] == user and not row["test"]) for user in range(3)
    }
    assert all(row["seq"] > last_known.get(row["user"], -1) for row in table if row["test"])
    assert findings(data) == {"user only in the test": (1, "kept"), "item only in the test": (1, "kept")}
    examples = {found.what: found.example for found in data.report.findings}
    assert examples["item only in the test"].endswith("test.parquet row 2")
    assert (data.report.test_events, data.report.test_from) == (4, str(test))
    log = EventLog.read(data.events, len(data.user_ids))
    assert (log.ends_before_test - log.ptr[:-1]).tolist() == [3, 2, 1, 0]


def test_cases_of_a_given_split_are_the_test_files_events(engine: Engine, tmp_path: Path) -> None:
    """By hand: answers are a user's test items that are not known, known is all and only the training file."""
    known = write(tmp_path / "train.parquet", KNOWN)
    test = write(tmp_path / "test.parquet", [("ann", "d"), ("ann", "b"), ("bob", "a"), ("bob", "c"), ("cid", "a")])
    data = read_dataset(known, engine=engine, now_s=NOW, test=test, needs_time=False)
    world = World.read(data, engine, tmp_path)
    plan = plan_of(world.log, SplitKind.GIVEN, 30.0)
    cases = world.cases(plan.test, new_only=True)
    ids = data.catalogue.ids
    found = {
        data.user_ids[user]: {ids[row] for row in rows} for user, rows in zip(cases.users, cases.relevant, strict=True)
    }
    assert found == {"ann": {"d"}, "bob": {"a", "c"}}
    table = plan.test.cut.known(data.events).to_pyarrow().to_pydict()
    assert sorted((data.user_ids[u], ids[i]) for u, i in zip(table["user"], table["item"], strict=True)) == KNOWN
    assert plan.release.known(data.events).count().to_pyarrow().as_py() == len(KNOWN) + 5


def test_timed_test_events_never_come_before_known_ones(engine: Engine, tmp_path: Path) -> None:
    """A random split of data with times: what is asked for is taken as of the last known event, and counted."""
    known = write(tmp_path / "train.parquet", [("ann", "a", T0), ("ann", "b", T0 + 100)], "timestamp")
    test = write(tmp_path / "test.parquet", [("ann", "c", T0 + 50), ("ann", "d", T0 + 200)], "timestamp")
    data = read_dataset(known, engine=engine, now_s=NOW, test=test)
    log = EventLog.read(data.events, 1)
    assert log.times.tolist() == [T0, T0 + 100, T0 + 100, T0 + 200]
    assert items_of(data, "ann", test=True) == ["c", "d"]
    assert findings(data)["test event before known ones"] == (1, "taken as of the user's last known event")


def test_a_test_file_that_is_known_too_is_refused(engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "all"
    folder.mkdir()
    write(folder / "train.parquet", KNOWN)
    test = write(folder / "test.parquet", [("ann", "d")])
    with pytest.raises(InputError, match=r"test.parquet is among .*all too"):
        read_dataset(folder, engine=engine, now_s=NOW, test=test, needs_time=False)


def test_a_test_file_of_another_kind_is_refused(engine: Engine, tmp_path: Path) -> None:
    known = write(tmp_path / "train.parquet", KNOWN)
    test = tmp_path / "test.csv"
    test.write_text("user_id,item_id\nann,d\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"test.csv: .*train.parquet is Parquet; write both alike"):
        read_dataset(known, engine=engine, now_s=NOW, test=test, needs_time=False)


def test_a_test_without_its_split_and_the_split_without_a_test_are_refused(engine: Engine, tmp_path: Path) -> None:
    known = write(tmp_path / "train.parquet", KNOWN)
    test = write(tmp_path / "test.parquet", [("ann", "d")])
    alone = read_dataset(known, engine=engine, now_s=NOW, needs_time=False)
    both = read_dataset(known, engine=engine, now_s=NOW, test=test, needs_time=False)
    with pytest.raises(InputError, match=r"--split given: .*--test"):
        plan_of(EventLog.read(alone.events, 3), SplitKind.GIVEN, 30.0)
    with pytest.raises(InputError, match=r"--split share: .*--test"):
        plan_of(EventLog.read(both.events, 3), SplitKind.SHARE, 30.0)


sets = st.dictionaries(st.sampled_from("abcd"), st.sets(st.integers(0, 30), min_size=1), min_size=1)


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sets)
def test_the_windows_of_a_share_never_overlap_and_leave_something_known(
    engine: Engine, tmp_path: Path, had: dict[str, set[int]]
) -> None:
    """Training answers, validation answers and test answers of a user are different items, a fifth the test."""
    rows = [(user, f"i{item}") for user, found in had.items() for item in found]
    data = read_dataset(write(tmp_path / "e.parquet", rows), engine=engine, now_s=NOW, needs_time=False)
    world = World.read(data, engine, tmp_path)
    plan = plan_of(world.log, SplitKind.SHARE, 30.0)
    asked: dict[int, list[int]] = {}
    for window in (*plan.train, plan.valid, plan.test):
        cases = world.cases(window, new_only=True)
        for user, end, relevant in zip(cases.users, cases.ends, cases.relevant, strict=True):
            assert end > world.log.ptr[user]
            asked.setdefault(user, []).extend(relevant.tolist())
            if window is plan.test:
                assert len(relevant) == (20 * len(had[data.user_ids[user]]) + 49) // 100
    assert all(len(set(items)) == len(items) for items in asked.values())


@pytest.mark.spark
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_spark_draws_the_same_order(engine: Engine, tmp_path: Path) -> None:
    pytest.importorskip("pyspark")
    known = write(tmp_path / "train.parquet", KNOWN)
    test = write(tmp_path / "test.parquet", [("ann", "d"), ("zoe", "a")])
    plain = read_dataset(known, engine=engine, now_s=NOW, test=test, needs_time=False)
    with open_engine("spark", threads=2, memory="1GB", folder=tmp_path) as spark:
        data = read_dataset(known, engine=spark, now_s=NOW, test=test, needs_time=False)
        columns = ("user", "seq", "item", "test", "session")
        rows = [
            found.events.select(*columns).to_pyarrow().sort_by([("user", "ascending"), ("seq", "ascending")])
            for found in (plain, data)
        ]
        assert rows[0].equals(rows[1])
        assert data.report == plain.report
