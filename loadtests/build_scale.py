"""Time and memory of reading events and of counting co-occurrence and popularity, from 1 and from 10 million events.

``python -m loadtests.build_scale EVENTS`` measures one size in its own process and prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from candidate_gen.cooccurrence import CoOccurrence
from candidate_gen.cooccurrence_params import SEQUENCES
from candidate_gen.popularity import Popularity
from candidate_gen.registry import BuildInputs
from loadtests.processes import Child, memory_mb
from offline.read.dataset import read_dataset
from offline.read.engine import open_engine

if TYPE_CHECKING:
    from collections.abc import Callable

    from loadtests.workspace import Workspace

TARGET_S = 300.0
TARGET_MB = 6_000.0
TARGET_GROWTH = 12.0
_SIZES = (1_000_000, 10_000_000)
_PER_USER = 40
_ITEMS_PER_EVENT = 0.01
_DAYS = 180
_START_S = 1_735_689_600


def run(workspace: Workspace) -> dict[str, Any]:
    """Measure each size; the headlines are of the largest."""
    sizes = (5_000, 20_000) if workspace.quick else _SIZES
    found = {}
    for events in sizes:
        with Child("loadtests.build_scale", str(events)) as child:
            found[events] = json.loads(child.ready)
    small, large = (found[events] for events in sizes)
    return {
        "build_s": large["build_s"],
        "build_target_s": TARGET_S,
        "build_peak_mb": large["build_peak_mb"],
        "build_target_mb": TARGET_MB,
        "build_growth": large["build_s"] / small["build_s"],
        "build_growth_target": TARGET_GROWTH,
        "build_scale": {f"{events}": figures for events, figures in found.items()},
    }


def write_events(path: Path, events: int) -> None:
    """Events of a Parquet file: items by a Zipf law, three of four from the user's own corner of the catalogue."""
    rng = np.random.default_rng(3)
    n_items = max(int(events * _ITEMS_PER_EVENT), 100)
    users = np.sort(rng.integers(0, max(events // _PER_USER, 1), events))
    rank = np.expm1(rng.random(events) * np.log(n_items)).astype(np.int64)
    corner = (users * 7919) % n_items
    near = np.expm1(rng.random(events) * np.log(min(n_items, 500))).astype(np.int64)
    items = np.where(rng.random(events) < 0.75, corner + near, rank) % n_items
    times = _START_S + rng.integers(0, _DAYS * 86_400, events)
    types = pc.take(pa.array(["view", "cart", "purchase"]), pa.array(rng.choice(3, events, p=(0.85, 0.05, 0.1))))
    table = pa.table(
        {
            "user_id": pc.binary_join_element_wise("u", pa.array(users).cast(pa.string()), ""),
            "item_id": pc.binary_join_element_wise("i", pa.array(items).cast(pa.string()), ""),
            "event_type": types,
            "timestamp": pa.array(times, pa.timestamp("s", "UTC")),
        }
    )
    pq.write_table(table, path)


def measure(events: int) -> dict[str, Any]:
    """Write the events, read them, build; seconds and peak memory of each."""
    with tempfile.TemporaryDirectory(prefix="terrace-bench-") as folder, open_engine(folder=Path(folder)) as engine:
        path = Path(folder, "events.parquet")
        write_events(path, events)
        data, read_s, read_mb = _timed(lambda: read_dataset(path, engine=engine))
        inputs = BuildInputs(data.events, data.catalogue, data.texts, data.as_of_s, keep=engine.keep)
        table, co_s, co_mb = _timed(lambda: CoOccurrence.build(inputs, **SEQUENCES))
        _, popularity_s, popularity_mb = _timed(lambda: Popularity.build(inputs))
        return {
            "events": data.report.events,
            "users": len(data.user_ids),
            "items": len(data.catalogue),
            "neighbours": len(table.table.rows),
            "read_s": read_s,
            "read_peak_mb": read_mb,
            "co_occurrence_s": co_s,
            "popularity_s": popularity_s,
            "build_s": co_s + popularity_s,
            "build_peak_mb": max(co_mb, popularity_mb),
        }


def _timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What it returns, wall seconds, peak resident memory in MB since it began."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # proc(5): 5 starts VmHWM anew
    start_s = time.monotonic()
    made = work()
    return made, time.monotonic() - start_s, memory_mb(os.getpid())["VmHWM"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("events", type=int)
    print(json.dumps(measure(parser.parse_args().events)), flush=True)  # noqa: T201 - the parent reads it
