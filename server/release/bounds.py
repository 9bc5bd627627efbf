"""Statistics of a comparison: what may be chance is not held against a candidate.

A finding that rolls back must be one that chance makes in at most ``ALPHA`` of the looks.
"""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ALPHA = 1e-4
"""A rollout looks a few hundred times at five shares and a percentile; looks at one window are much alike."""
_Z = NormalDist().inv_cdf(1 - ALPHA)
_GROUPS = 10
"""Of a distribution that is compared, as usual for the population stability index."""


def upper_share(count: int, total: int) -> float:
    """The share that a count out of a total may stand for at most: Wilson's score bound, one-sided.

    Wilson, E. B. (1927), Probable inference, the law of succession, and statistical inference.
    """
    share, z2 = count / total, _Z**2
    middle = share + z2 / (2 * total)
    half = _Z * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    return min((middle + half) / (1 + z2 / total), 1.0)


def chance_of(count: int, total: int, share: float) -> float:
    """How probable so high a count is, or a higher one, where each of a total counts with probability ``share``.

    Exact, the upper tail of a binomial distribution; 1 where the count is not above what is expected.
    """
    if count <= total * share or share >= 1:
        return 1.0
    if share <= 0:
        return 0.0
    log_term = (
        math.lgamma(total + 1)
        - math.lgamma(count + 1)
        - math.lgamma(total - count + 1)
        + count * math.log(share)
        + (total - count) * math.log1p(-share)
    )
    term = tail = math.exp(log_term)
    for n in range(count, total):  # each term is smaller than the one before by a factor that shrinks
        term *= (total - n) / (n + 1) * share / (1 - share)
        tail += term
        if term < tail * 1e-12:
            break
    return min(tail, 1.0)


def quantile(histogram: Mapping[int, int], share: float, sigmas: float = 0.0) -> int | None:
    """The bin of a quantile, or of a bound of it.

    The number of values below a quantile is binomial whatever the distribution, which bounds the rank that it has.

    Args:
        histogram: bin -> values in it.
        share: 0.99 for the 99th percentile.
        sigmas: standard deviations of the rank that are added to it.

    Returns:
        None where that rank is beyond the values there are.
    """
    total = sum(histogram.values())
    rank = total * share + sigmas * math.sqrt(total * share * (1 - share))
    seen = 0
    for number in sorted(histogram):
        seen += histogram[number]
        if seen >= max(rank, 1):
            return number
    return None


def bounded_quantiles(
    reference: Mapping[int, int], other: Mapping[int, int], share: float
) -> tuple[int | None, int | None]:
    """The bins that a quantile lies in at most in one distribution, and at least in the other."""
    return quantile(reference, share, _Z), quantile(other, share, -_Z)


def stability_index(reference: Mapping[int, int], other: Mapping[int, int]) -> tuple[float, float]:
    """The population stability index of two distributions over the same bins, and what chance may make of it.

    Sum of (p - q) ln(p / q) over tenths of the reference. Where both are samples of one distribution, it is about
    (1/n + 1/m) times a chi-squared variable with a degree of freedom less than there are groups (Yurdakul, B., 2018,
    Statistical properties of the population stability index).

    Args:
        reference: bin -> values in it; not empty.
        other: the same; not empty.
    """
    groups = _tenths(reference)
    found = []
    for counts in (reference, other):
        sums = [sum(n for number, n in counts.items() if low < number <= high) for low, high in groups]
        found.append([(n + 0.5) / (sum(sums) + 0.5 * len(sums)) for n in sums])  # no group is quite empty
    index = sum((p - q) * math.log(p / q) for p, q in zip(*found, strict=True))
    freedom = len(groups) - 1
    noise = (freedom + _Z * math.sqrt(2 * freedom)) * (1 / sum(reference.values()) + 1 / sum(other.values()))
    return index, noise


def _tenths(reference: Mapping[int, int]) -> list[tuple[float, float]]:
    """Bins from above the first number to the second, with a tenth of the values each, as far as bins allow."""
    total, seen, tenths = sum(reference.values()), 0, 0
    edges: list[float] = []
    for number in sorted(reference):
        seen += reference[number]
        if seen < total and seen * _GROUPS // total > tenths:
            tenths = seen * _GROUPS // total
            edges.append(number)
    bounds = [-math.inf, *edges, math.inf]
    return list(pairwise(bounds))


def distinct_of(shown: Mapping[int, int], draws: int) -> float:
    """How many kinds are expected among so many draws without replacement: rarefaction.

    Hurlbert, S. H. (1971), The nonconcept of species diversity. Samples of different sizes can be compared by it.

    Args:
        shown: kind -> how often it was drawn.
        draws: at most the sum of ``shown``.
    """
    total = sum(shown.values())

    def log_ways(n: int) -> float:
        return math.lgamma(n + 1) - math.lgamma(n - draws + 1)

    whole = log_ways(total)
    missed = (math.exp(log_ways(total - n) - whole) if total - n >= draws else 0.0 for n in shown.values() if n)
    return sum(1 - each for each in missed)


def upper_mean(histogram: Mapping[int, int]) -> tuple[float, float]:
    """The mean of the values of a histogram, each its bin, and what it is at most; the histogram is not empty."""
    total = sum(histogram.values())
    mean = sum(value * n for value, n in histogram.items()) / total
    spread = math.sqrt(sum(n * (value - mean) ** 2 for value, n in histogram.items()) / total)
    return mean, mean + _Z * spread / math.sqrt(total)
