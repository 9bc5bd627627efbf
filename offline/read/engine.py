"""Where the heavy tables live: one Ibis backend behind one door, so that nothing else knows which it is."""

from __future__ import annotations

import contextlib
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote, urlsplit

import ibis

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from types import TracebackType

    import pyarrow as pa

ENGINES = ("duckdb", "spark")
ORDER_BITS = 40
"""``order`` of a row read from files: index of its file << ORDER_BITS | index of the row in the file."""


def open_engine(
    name: str = "duckdb", *, memory: str = "4GB", threads: int | None = None, folder: Path | None = None
) -> Engine:
    """Start an engine; use it in a ``with`` statement, its tables are gone afterwards.

    Args:
        name: one of ``ENGINES``.

        memory: what the engine may use before it spills to ``folder``, for example ``4GB``.

        threads: None = one per core.

        folder: where to keep what is materialised or spilled; None = the system's temporary folder.

    Raises:
        ValueError: there is no engine of that name, or what it needs is not installed.
    """
    match name:
        case "duckdb":
            return _DuckDB(memory, threads, folder)
        case "spark":
            return _Spark(memory, threads, folder)
        case _:
            raise ValueError(f"engine {name!r}: there are {', '.join(ENGINES)}")


class Engine(ABC):
    """Reads Parquet files as Ibis tables and keeps results between steps.

    Attributes:
        folder: a temporary folder, removed with everything in it by ``close``.

        unreadable: what the backend raises when the bytes of a file are not what its format promises.
    """

    unreadable: tuple[type[Exception], ...] = ()

    def __init__(self, backend: Any, folder: tempfile.TemporaryDirectory[str]) -> None:
        """Own ``backend`` and ``folder`` until ``close``."""
        self._backend = backend
        self._temporary = folder
        self._kept = 0
        self._results: dict[Any, ibis.Table] = {}
        self.folder = Path(folder.name)

    @abstractmethod
    def read(self, files: Sequence[Path], columns: Mapping[str, str], instants: Collection[str] = ()) -> ibis.Table:
        """Parquet files as one table.

        Args:
            files: all with the same types in these columns.

            columns: name in the result -> name in the files.

            instants: names in the result of time or date columns; they come as int64 microseconds since the epoch,
                times without a zone taken as UTC.

        Returns:
            The columns, and ``order`` int64: unique, increasing in the order of ``files`` and of the rows in each.
        """

    @abstractmethod
    def _scan(self, files: Sequence[Path]) -> ibis.Table:
        """Parquet files that this engine itself wrote."""

    def keep(self, table: ibis.Table) -> ibis.Table:
        """Compute ``table`` once, however often it is used; the result reads from disk and holds no memory."""
        expression = table.op()
        if expression not in self._results:
            self._results[expression] = self._computed(table)
        return self._results[expression]

    def _computed(self, table: ibis.Table) -> ibis.Table:
        path = self._new_path()
        self._backend.to_parquet(table, path)
        return self._scan(sorted(path.glob("*.parquet")) if path.is_dir() else [path])

    def table(self, data: pa.Table) -> ibis.Table:
        """An Arrow table in the engine."""
        import pyarrow.parquet as pq

        path = self._new_path()
        pq.write_table(data, path)
        return self._scan([path])

    def close(self) -> None:
        """Stop the backend and remove the folder. Idempotent."""
        self._backend.disconnect()
        self._temporary.cleanup()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _new_path(self) -> Path:
        self._kept += 1
        return self.folder / f"{self._kept:04}.parquet"


class _DuckDB(Engine):
    def __init__(self, memory: str, threads: int | None, folder: Path | None) -> None:
        import duckdb

        temporary = tempfile.TemporaryDirectory(prefix="terrace-", dir=folder)
        settings: dict[str, Any] = {"memory_limit": memory, "temp_directory": temporary.name}
        if threads is not None:
            settings["threads"] = threads
        super().__init__(ibis.duckdb.connect(**settings), temporary)
        self.unreadable = (duckdb.InvalidInputException, duckdb.IOException)

    def read(self, files: Sequence[Path], columns: Mapping[str, str], instants: Collection[str] = ()) -> ibis.Table:
        import pyarrow.parquet as pq

        schema = pq.read_schema(files[0])
        chosen = []
        for ours, theirs in columns.items():
            value = _quoted(theirs)
            if ours in instants:
                # epoch_us knows every kind of time but zoned nanoseconds, and those alone may be cast without a zone file.
                kind = schema.field(theirs).type
                zoned_ns = getattr(kind, "unit", "") == "ns" and kind.tz
                value = f"epoch_us({value}::TIMESTAMPTZ)" if zoned_ns else f"epoch_us({value})"
            chosen.append(f"{value} AS {_quoted(ours)}")
        chosen.append(f'(file_index::BIGINT << {ORDER_BITS}) | file_row_number AS "order"')
        paths = ", ".join("'" + str(path).replace("'", "''") + "'" for path in files)
        name = ibis.util.gen_name("terrace")
        self._backend.raw_sql(
            f"CREATE TEMP VIEW {name} AS SELECT {', '.join(chosen)} "  # noqa: S608 - every name is quoted
            f"FROM read_parquet([{paths}], hive_partitioning = false, union_by_name = true)"
        )
        return self._backend.table(name)

    def _scan(self, files: Sequence[Path]) -> ibis.Table:
        return self._backend.read_parquet([str(path) for path in files])


class _Spark(Engine):
    def __init__(self, memory: str, threads: int | None, folder: Path | None) -> None:
        try:
            from pyspark.sql import SparkSession
        except ImportError as error:
            raise ValueError("engine 'spark' needs pyspark and Java: pip install 'pyspark>=4'") from error
        temporary = tempfile.TemporaryDirectory(prefix="terrace-", dir=folder)
        builder = SparkSession.builder.appName("terrace").config("spark.local.dir", temporary.name)
        builder = builder.config("spark.sql.warehouse.dir", str(Path(temporary.name, "warehouse")))
        builder = builder.config("spark.sql.session.timeZone", "UTC").config("spark.ui.enabled", "false")
        builder = builder.config("spark.sql.legacy.parquet.nanosAsLong", "true")
        builder = builder.config("spark.driver.memory", memory.upper().removesuffix("B").lower())
        if threads is not None:
            builder = builder.master(f"local[{threads}]").config("spark.sql.shuffle.partitions", str(threads))
        self._session = builder.getOrCreate()
        super().__init__(ibis.pyspark.connect(self._session), temporary)

    def read(self, files: Sequence[Path], columns: Mapping[str, str], instants: Collection[str] = ()) -> ibis.Table:
        from pyspark.sql import functions as f

        rows = self._session.read.parquet(*map(str, files))
        index_of = {str(path.resolve()): index for index, path in enumerate(files)}
        uris = [row[0] for row in rows.select(f.col("_metadata.file_path")).distinct().collect()]
        pairs = [(uri, index_of[unquote(urlsplit(uri).path)]) for uri in uris]
        numbered = self._session.createDataFrame(pairs, "uri string, file long")
        kinds = dict(rows.dtypes)
        chosen = [
            (_micros(theirs, kinds[theirs]) if ours in instants else f.col(_ticked(theirs))).alias(ours)
            for ours, theirs in columns.items()
        ]
        rows = rows.select(
            *chosen, f.col("_metadata.file_path").alias("uri"), f.col("_metadata.row_index").alias("row")
        )
        order = (f.shiftleft(f.col("file"), ORDER_BITS) + f.col("row")).alias("order")
        return self._view(rows.join(f.broadcast(numbered), "uri").select(*columns, order))

    def _scan(self, files: Sequence[Path]) -> ibis.Table:
        return self._view(self._session.read.parquet(*map(str, files)))

    def _view(self, frame: Any) -> ibis.Table:
        name = ibis.util.gen_name("terrace")
        frame.createOrReplaceTempView(name)
        return self._backend.table(name)

    def close(self) -> None:
        with contextlib.suppress(Exception):  # a session that has ended has no cache, and says so in many ways
            self._session.catalog.clearCache()
        super().close()


def _micros(name: str, kind: str) -> Any:
    from pyspark.sql import functions as f

    if kind == "bigint":  # how Spark hands out nanoseconds
        return f.expr(f"{_ticked(name)} div 1000")
    return f.unix_micros(f.col(_ticked(name)).cast("timestamp"))


def _ticked(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
