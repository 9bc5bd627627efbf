"""The short form of every benchmark on a tiny bundle: real processes, real store, figures without meaning."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from loadtests.bench import BENCHMARKS, main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Figures = dict[str, Any]


def overhead(found: Figures) -> None:
    assert found["overhead_ratio"] > 1
    assert found["overhead_scored_rows"][0] >= 500
    assert set(found["overhead_ms"]) == {"server", "ann", "tower", "ranker", "get", "rpc"}
    assert len(found["overhead_rounds"]) == len(found["overhead_ratios"]) == 2


def protection(found: Figures) -> None:
    assert found["protection_share"] < 1
    assert min(found["deep_request_ms"].values()) > 0


def rungs(found: Figures) -> None:
    assert set(found["rungs"]) == {"POPULARITY", "CF", "DEEP"}
    assert all(0 < rung["p50_ms"] <= rung["p99_ms"] for rung in found["rungs"].values())


def deadline(found: Figures) -> None:
    assert 0 <= found["deep_in_deadline_share"] <= 1
    assert found["capacity_per_s"] == max(found["deadline_capacity"].values()) > 0


def memory(found: Figures) -> None:
    assert found["memory_pss_mb"] > found["memory_bundle_mb"] > 0
    assert found["memory_load_s"] > 0
    one, two = (found["memory_by_workers"][n] for n in ("1", "2"))
    assert (len(one["workers_own"]), len(two["workers_own"])) == (1, 2)
    assert found["memory_second_worker_share"] == pytest.approx(two["Pss"] / one["Pss"] - 1)
    assert min(one["calls"], two["calls"]) > 0


def workers(found: Figures) -> None:
    assert found["workers_ratio"] > 0
    assert found["workers_load_ratio"] > 0
    assert 0 < found["workers_caller_share"] < 1


def build_scale(found: Figures) -> None:
    small, large = (found["build_scale"][events] for events in ("5000", "20000"))
    assert small["events"] == 5_000
    assert large["events"] == 20_000
    assert found["build_growth"] == pytest.approx(large["build_s"] / small["build_s"])


def filters(found: Figures) -> None:
    assert (
        found["filters_longest_cpu_ms"] == max(each["longest_cpu_ms"] for each in found["filters_alone"].values()) > 0
    )
    assert 0 < found["filters_users_beside_two_callers"]["none"]["answered_share"] <= 1


def precompute(found: Figures) -> None:
    assert found["precompute_scoring_per_s"] > 0
    assert found["precompute_lists"] > 100
    assert all(each["lists_per_s"] > 0 and each["share"] > 0 for each in found["precompute_by_processes"].values())
    assert 0 < found["precompute_gb_for_a_million"] < 10


CHECKS: dict[str, Callable[[Figures], None]] = {
    "overhead": overhead,
    "protection": protection,
    "rungs": rungs,
    "deadline": deadline,
    "workers": workers,
    "memory": memory,
    "build_scale": build_scale,
    "filters": filters,
    "precompute": precompute,
}


def test_every_benchmark_has_a_short_form_that_is_run_here() -> None:
    assert set(CHECKS) == set(BENCHMARKS)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_writes_its_figures_as_json(name: str, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "bench.json"

    main(["--quick", "--only", name, "--out", str(out), "--folder", str(folder)])

    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["conditions"]["cores"] >= 1
    CHECKS[name](found)
