"""``python -m loadtests.bench``: measures what the project promises and writes the figures down."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadtests.figures import conditions, lines
from loadtests.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

BENCHMARKS = (
    "overhead",
    "protection",
    "rungs",
    "deadline",
    "workers",
    "memory",
    "build_scale",
    "filters",
    "precompute",
)
"""In the order of running; each is a module here with ``run(workspace)``, which returns figures with names of their own."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmarks that are asked for, print their figures, write them as JSON."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=BENCHMARKS, help="run these alone")
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"), help="file for the figures")
    parser.add_argument("--folder", type=Path, default=Path("build/bench"), help="bundles and data, used again")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument("--profile", action="store_true", help="also where the time of a DEEP request goes")
    asked = parser.parse_args(arguments)
    workspace = Workspace(asked.folder, quick=asked.quick)
    figures: dict[str, Any] = {"quick": asked.quick, "conditions": conditions()}
    _show("conditions", figures["conditions"])
    for name in asked.only:
        started_s = time.monotonic()
        found = importlib.import_module(f"loadtests.{name}").run(workspace)
        _show(f"{name} ({time.monotonic() - started_s:.0f} s)", found)
        figures |= found
    if asked.profile:
        found = importlib.import_module("loadtests.stages").run(workspace)
        _show("profile", found)
        figures |= found
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(figures, indent=1), encoding="utf-8")


def _show(title: str, figures: dict[str, Any]) -> None:
    sys.stdout.write("\n".join([title, *lines(figures), "", ""]))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
