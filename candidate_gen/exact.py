"""Sums that come out the same to the last bit, in whatever order a parallel engine adds them up.

Floating-point addition depends on its order, and neither DuckDB nor Spark promises one. Sums here are taken over
integers: multiples of 2**-32, which is also the smallest contribution that counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import ibis
    import ibis.expr.types as ir

    from core.types import Scores

SCALE = 2.0**32
DAY_S = 86_400


def fixed(value: ir.NumericValue) -> ir.IntegerValue:
    """A number as the nearest multiple of 2**-32, counted in those."""
    return (value * SCALE).round().cast("int64")


def floating(total: ir.NumericValue) -> ir.FloatingValue:
    """The number that a sum of ``fixed`` values stands for."""
    return total.cast("float64") / SCALE


def half_life_decay(time: ir.IntegerValue, as_of_s: float, half_life_days: float | None) -> ir.FloatingValue | float:
    """2 ** (-age / half-life) of a time in seconds; 1 without a half-life. Times after ``as_of_s`` count as now."""
    if half_life_days is None:
        return 1.0
    import ibis

    age_s = ibis.greatest(as_of_s - time, 0.0)
    return ibis.literal(2.0) ** (age_s * (-1 / (DAY_S * half_life_days)))


def decayed_sums(events: ibis.Table, n_items: int, as_of_s: float, half_life_days: float | None) -> Scores:
    """[items] sums of the weights of events, each decayed by its age; below 0 counts as 0.

    Args:
        events: ``item``, ``weight`` and ``time`` are what is used.
        n_items: length of the result.
        as_of_s: the moment from which ages count, seconds since the epoch.
        half_life_days: days in which an event loses half of its weight; None = never.
    """
    decay = half_life_decay(events.time, as_of_s, half_life_days)
    weighted = events.select("item", value=fixed(events.weight.cast("float64") * decay))
    sums = weighted.group_by("item").agg(score=floating(weighted["value"].sum()))
    found = sums.filter(sums.score > 0.0).to_pyarrow()
    score = np.zeros(n_items, np.float32)
    score[found["item"].to_numpy()] = found["score"].to_numpy()
    return score
