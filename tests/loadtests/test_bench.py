"""The harness on a tiny bundle: real processes, real store, figures without meaning."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from loadtests.bench import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_the_overhead_benchmark_writes_its_figures_as_json(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    main(["--quick", "--only", "overhead", "--out", str(out), "--folder", str(tmp_path)])
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert figures["overhead_ratio"] > 1
    assert figures["overhead_scored_rows"][0] >= 500
    assert set(figures["overhead_ms"]) == {"server", "ann", "tower", "ranker", "get", "rpc"}
    assert len(figures["overhead_rounds"]) == len(figures["overhead_ratios"]) == 2
    assert figures["conditions"]["cores"] >= 1
