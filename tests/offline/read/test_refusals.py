from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from offline.read.dataset import InputError, read_dataset

if TYPE_CHECKING:
    from pathlib import Path

    from offline.read.engine import Engine

HEAD = "user_id,item_id,timestamp"
ROW = "u,i,2023-11-14T22:13:20Z"
NOW = 1_710_000_000


def refusal(engine: Engine, events: Path | str, items: Path | None = None, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        read_dataset(events, items, engine=engine, now_s=NOW, **options)
    return str(caught.value)


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.fixture
def events(tmp_path: Path) -> Path:
    return write(tmp_path / "good.csv", f"{HEAD}\n{ROW}\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["e.csv", "empty"]),
        (f"{HEAD}\n", ["e.csv", "no rows"]),
        ("who,item_id,timestamp\nu,i,2024-01-01\n", ["'user_id'", "who, item_id, timestamp", "--map user_id="]),
        (f"{HEAD},user_id\n{ROW},u\n", ["two columns", "'user_id'"]),
        (f"{HEAD}\n{ROW}\nu,i\n", ["e.csv line 3", "too many or too few columns"]),
        (f"{HEAD}\n{ROW}\nu,i,soon\n", ["e.csv line 3", "'soon'", "no readable time"]),
        (f"{HEAD}\n{ROW}\nu,i,2024-02-30\n", ["e.csv line 3", "'2024-02-30'"]),
        (f"{HEAD}\nu,i,\n", ["no row has a 'timestamp'"]),
        (f"{HEAD}\nu,i,17\nu,j,23\n", ["'timestamp'", "unknown unit (17 to 23)"]),
        (f"{HEAD}\nu,i,1700000000\nu,j,1700000000000\n", ["unknown unit"]),
        (f"{HEAD}\n{ROW}\nu,i,1970-01-01\n", ["e.csv line 3", "1990"]),
        (f"{HEAD}\n{ROW}\nu,i,9999-12-31\n", ["e.csv line 3", "2100"]),
        (f"{HEAD}\nu,i,2024-06-01\n", ["none of its 1 events", "future", "e.csv line 2"]),
        (f"{HEAD}\n ,i,2024-01-01\n", ["none of its 1 events", "user_id is empty"]),
        (f"{HEAD}\n{ROW}\n".encode() + "ü,i,2024-01-01\n".encode("latin1"), ["e.csv line 3", "not UTF-8"]),
    ],
)
def test_a_file_of_events_that_cannot_be_used_is_refused(
    engine: Engine, tmp_path: Path, text: str | bytes, said: list[str]
) -> None:
    """The message names the place and what is wrong."""
    message = refusal(engine, write(tmp_path / "e.csv", text))
    assert [part for part in said if part not in message] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("item_id,price\na,1\nb,2\na,3\n", ["'a' occurs twice", "i.csv line 2", "i.csv line 4"]),
        ("item_id,available\ni,true\nj,sold out\n", ["i.csv line 3", "'sold out'", "true or false"]),
        ("item_id\n\n", ["no rows"]),
        ("item_id,title\n,x\n", ["no row has an item_id"]),
        ("sku,title\na,b\n", ["'item_id'", "sku, title"]),
        ("item_id,created_at\na,5\n", ["'created_at'", "unknown unit"]),
        ("item_id\nother\n", ["none of its 1 events", "unknown item"]),
    ],
)
def test_a_file_of_items_that_cannot_be_used_is_refused(
    engine: Engine, tmp_path: Path, events: Path, text: str, said: list[str]
) -> None:
    message = refusal(engine, events, write(tmp_path / "i.csv", text))
    assert [part for part in said if part not in message] == []


def test_a_missing_file_is_named(engine: Engine, tmp_path: Path) -> None:
    assert f"{tmp_path / 'none.csv'}: no such file or folder" in refusal(engine, tmp_path / "none.csv")


def test_a_pattern_without_a_match_is_named(engine: Engine, tmp_path: Path) -> None:
    assert "x*.csv: no Parquet or CSV file matches" in refusal(engine, f"{tmp_path}/x*.csv")


def test_a_folder_without_data_is_named(engine: Engine, tmp_path: Path) -> None:
    write(tmp_path / "notes.txt", "-")
    assert "the folder has no file" in refusal(engine, tmp_path)


def test_a_file_of_another_kind_is_refused_by_its_name(engine: Engine, tmp_path: Path) -> None:
    assert "e.xlsx: neither Parquet nor CSV" in refusal(engine, write(tmp_path / "e.xlsx", "-"))


def test_parquet_and_csv_in_one_folder_are_refused(engine: Engine, tmp_path: Path, events: Path) -> None:
    pq.write_table(pa.table({"user_id": ["u"]}), tmp_path / "e.parquet")
    message = refusal(engine, tmp_path)
    assert "both Parquet (e.parquet) and CSV (good.csv)" in message
    assert str(events.parent) in message


@pytest.mark.parametrize("content", [b"", b"PAR1 not really"])
def test_a_broken_parquet_file_is_named(engine: Engine, tmp_path: Path, content: bytes) -> None:
    assert "e.parquet" in refusal(engine, write(tmp_path / "e.parquet", content))


def test_text_in_parquet_that_is_not_utf8_is_refused(engine: Engine, tmp_path: Path, events: Path) -> None:
    broken = pa.Array.from_buffers(pa.string(), 1, pa.array([b"i\xff"], pa.binary()).buffers())
    pq.write_table(pa.table({"item_id": broken}), tmp_path / "items.parquet")
    assert "items.parquet: the file is damaged" in refusal(engine, events, tmp_path / "items.parquet")
    columns = {"user_id": broken, "item_id": ["i"], "timestamp": [1_700_000_000]}
    pq.write_table(pa.table(columns), tmp_path / "events.parquet")
    assert "events.parquet: a file is damaged" in refusal(engine, tmp_path / "events.parquet")


def test_parquet_with_a_page_overwritten_is_refused(engine: Engine, tmp_path: Path) -> None:
    users = [f"user {n * n}" for n in range(5000)]
    columns = {"user_id": users, "item_id": users, "timestamp": [1_700_000_000] * 5000}
    path = tmp_path / "e.parquet"
    pq.write_table(pa.table(columns), path)
    content = bytearray(path.read_bytes())
    content[1000:9000] = bytes(8000)
    path.write_bytes(content)
    assert "e.parquet: a file is damaged" in refusal(engine, path)


def test_a_broken_gzip_file_is_named(engine: Engine, tmp_path: Path) -> None:
    whole = gzip.compress(f"{HEAD}\n{ROW}\n".encode() * 50)
    assert "e.csv.gz" in refusal(engine, write(tmp_path / "e.csv.gz", whole[:-12]))
    assert "gzip" in refusal(engine, write(tmp_path / "f.csv.gz", b"plain"))


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("user_id", [1.5]),
        ("item_id", [["i"]]),
        ("timestamp", [True]),
        ("value", [True]),
        ("event_type", [0.5]),
    ],
)
def test_a_column_of_the_wrong_type_is_named(engine: Engine, tmp_path: Path, column: str, values: list[Any]) -> None:
    columns = {"user_id": ["u"], "item_id": ["i"], "timestamp": [1_700_000_000]} | {column: values}
    pq.write_table(pa.table(columns), tmp_path / "e.parquet")
    message = refusal(engine, tmp_path / "e.parquet")
    assert "e.parquet" in message
    assert f"column {column!r} holds" in message


def test_files_that_differ_in_type_are_named(engine: Engine, tmp_path: Path) -> None:
    for name, user in (("a", "u"), ("b", 1)):
        columns = {"user_id": [user], "item_id": ["i"], "timestamp": [1_700_000_000]}
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    message = refusal(engine, tmp_path)
    assert "b.parquet: column user_id is int64" in message
    assert "a.parquet" in message


def test_a_required_column_without_any_value_is_missing(engine: Engine, tmp_path: Path) -> None:
    columns = {"user_id": pa.nulls(1), "item_id": ["i"], "timestamp": [1_700_000_000]}
    pq.write_table(pa.table(columns), tmp_path / "e.parquet")
    assert "'user_id' for user_id" in refusal(engine, tmp_path / "e.parquet")


def test_more_types_than_a_vocabulary_holds_are_refused(engine: Engine, tmp_path: Path) -> None:
    rows = "".join(f"{ROW},t{n}\n" for n in range(128))
    assert "event_type: more than 127" in refusal(engine, write(tmp_path / "e.csv", f"{HEAD},event_type\n{rows}"))


@pytest.mark.parametrize(
    ("mapping", "said"),
    [({"user": "u"}, "'user' is no column of ours; there are user_id"), ({"value": "amount"}, "no column 'amount'")],
)
def test_a_mapping_that_means_nothing_is_refused(
    engine: Engine, events: Path, mapping: dict[str, str], said: str
) -> None:
    assert said in refusal(engine, events, mapping=mapping)


def test_a_weight_that_is_no_number_is_refused(engine: Engine, events: Path) -> None:
    assert "view=nan" in refusal(engine, events, event_weights={"view": float("nan")})
