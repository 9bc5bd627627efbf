from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from offline.read.dataset import read_dataset
from offline.read.engine import open_engine
from offline.shop import generate_shop

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from offline.read.dataset import Dataset
    from offline.read.engine import Engine


def sorted_rows(data: Dataset) -> pa.Table:
    columns = sorted(data.events.columns)
    return data.events.to_pyarrow().select(columns).sort_by([("user", "ascending"), ("seq", "ascending")])


@pytest.mark.spark
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_spark_reads_what_duckdb_reads(engine: Engine, tmp_path: Path) -> None:
    """Types, numbers, sessions and the report are the same row by row."""
    pytest.importorskip("pyspark")
    shop = generate_shop(users=120, items=80, events=2000, days=30, seed=2)
    events, items = shop.write(tmp_path / "a shop")
    plain = read_dataset(events, items, engine=engine)
    with open_engine("spark", threads=2, memory="1GB", folder=tmp_path) as spark:
        data = read_dataset(events, items, engine=spark)
        assert data.events.schema() == plain.events.schema()
        assert sorted_rows(data).equals(sorted_rows(plain))
        assert data.report == plain.report
        assert data.user_ids == plain.user_ids


def test_an_engine_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="engine 'flink': there are duckdb, spark"):
        open_engine("flink")
