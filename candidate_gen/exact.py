"""Sums that come out the same to the last bit, in whatever order a parallel engine adds them up.

Floating-point addition depends on its order, and neither DuckDB nor Spark promises one. Sums here are taken over
integers: multiples of 2**-32, which is also the smallest contribution that counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ibis.expr.types as ir

SCALE = 2.0**32
DAY_S = 86_400.0


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
