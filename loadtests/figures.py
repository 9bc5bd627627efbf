"""The arithmetic of the benchmarks, and how their figures are printed."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PACKAGES = ("grpcio", "hnswlib", "numpy", "onnxruntime", "redis", "uvloop")


def overhead(rounds: Sequence[Mapping[str, float]], whole: str = "server") -> dict[str, Any]:
    """What the whole costs over the sum of its parts.

    Args:
        rounds: CPU milliseconds by name: of the whole, and of every part.
        whole: the name that is no part.

    Returns:
        ``ratio`` and ``ms`` (by name), the medians over the rounds, and ``ratios``, one a round.

    Raises:
        ValueError: there is no round.
    """
    if not rounds:
        raise ValueError("no round was measured")
    ratios = [costs[whole] / sum(cost for name, cost in costs.items() if name != whole) for costs in rounds]
    medians = {name: median(costs[name] for costs in rounds) for name in rounds[0]}
    return {"ratio": median(ratios), "ratios": ratios, "ms": medians}


def latency(ms: Sequence[float]) -> dict[str, float]:
    """Median, 99th and 99.9th percentile and maximum; NaN of nothing."""
    if not len(ms):
        return dict.fromkeys(("p50_ms", "p99_ms", "p99.9_ms", "max_ms"), float("nan"))
    p50, p99, p999, largest = np.quantile(ms, (0.5, 0.99, 0.999, 1.0))
    return {"p50_ms": float(p50), "p99_ms": float(p99), "p99.9_ms": float(p999), "max_ms": float(largest)}


def shares(counts: Mapping[str, int], total: int) -> dict[str, float]:
    """Each count as part of ``total``; 0 of nothing."""
    return {name: count / total if total else 0.0 for name, count in counts.items()}


def conditions() -> dict[str, Any]:
    """Where the figures come from."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "load_average_1min": os.getloadavg()[0],
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def lines(figures: Mapping[str, Any], prefix: str = "") -> list[str]:
    """One line a figure, nested ones under dotted names."""
    found: list[str] = []
    for name, value in figures.items():
        if isinstance(value, dict):
            found += lines(value, f"{prefix}{name}.")
            continue
        shown = f"{value:.4g}" if isinstance(value, float) else f"{value}"
        if isinstance(value, list):
            shown = " ".join(f"{each:.4g}" if isinstance(each, float) else f"{each}" for each in value)
        found.append(f"  {prefix + name:<44} {shown}")
    return found
