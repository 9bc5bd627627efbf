"""Hand-made figures and bundles for what reads them: gate, comparison, report."""

from __future__ import annotations

from typing import Any

import numpy as np

from core.manifest import Manifest
from offline.evaluate.per_user import PerUser
from offline.publish.compare import Measured

RUNGS = ("POPULARITY", "CF", "DEEP")
HOSTILE = '<script>alert("x")</script>&\'"'


def interval(mean: float, half: float = 0.01) -> dict[str, float]:
    return {"mean": mean, "low": mean - half, "high": mean + half}


def figures(*means: float, questions: int = 400, half: float = 0.01, **more: Any) -> dict[str, Any]:
    """Rungs of these NDCGs, as many as there are means."""
    names = RUNGS[: len(means)]
    rungs = {
        name: {
            **{f"{kind}@{k}": interval(mean, half) for kind in ("ndcg", "recall", "hit_rate") for k in (10, 20)},
            "coverage": 0.3,
            "reached": 1.0,
        }
        for name, mean in zip(names, means, strict=True)
    }
    steps = zip(names, names[1:], means, means[1:], strict=False)
    differences = {
        f"{high} - {low}": {f"ndcg@{k}": interval(above - below, half / 2) for k in (10, 20)}
        for low, high, below, above in steps
    }
    generators = {
        "popularity": {"recall@50": 0.1, "recall@500": 0.5, "ndcg@20": 0.04, "adds": 0.1, "limit": 300},
        "co_occurrence": {"recall@50": 0.2, "recall@500": 0.4, "ndcg@20": 0.05, "adds": 0.2, "limit": 200},
        "union": {"recall": 0.6, "recall@50": 0.25, "recall@500": 0.6, "rows": 480.0},
    }
    split = {"kind": "time", "horizon_days": 30.0, "new_only": True, "cases": questions}
    base = {"split": split, "rungs": rungs, "differences": differences, "generators": generators, "order": list(names)}
    return {**base, **more}


def measured(found: dict[str, Any], version: str = "new", per_user: PerUser | None = None, **more: Any) -> Measured:
    manifest = Manifest(
        version,
        "2025-06-01T00:00:00+00:00",
        0.0,
        "0.1.0",
        5,
        {"view": 1.0},
        (),
        ("view",),
        {"popularity": {"limit": 300}},
        {},
    )
    return Measured(Manifest(**{**manifest.__dict__, "metrics": found, **more}), per_user)


def per_user_of(values: list[float], users: list[int] | None = None, relevant: int = 7) -> PerUser:
    """NDCG of DEEP for these users."""
    who = np.array(users if users is not None else range(len(values)), np.uint64)
    return PerUser(who, who + np.uint64(relevant), {"DEEP": {"ndcg@20": np.array(values, np.float32)}})
