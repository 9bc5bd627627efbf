"""Statistics of a comparison, against numbers that are known otherwise."""

from __future__ import annotations

import math
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.release.bounds import (
    ALPHA,
    bounded_quantiles,
    chance_of,
    distinct_of,
    quantile,
    stability_index,
    upper_mean,
    upper_share,
)


@given(st.integers(1, 40), st.floats(0.001, 0.999), st.data())
def test_the_chance_of_a_count_is_the_sum_of_the_binomial_terms(total: int, share: float, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, total))
    terms = [math.comb(total, n) * share**n * (1 - share) ** (total - n) for n in range(count, total + 1)]

    assert chance_of(count, total, share) == pytest.approx(sum(terms) if count > total * share else 1.0, rel=1e-6)


def test_the_chance_of_a_count_stays_exact_for_millions() -> None:
    assert chance_of(1_000, 1_000_000, 0.001) == 1.0
    assert chance_of(1_100, 1_000_000, 0.001) == pytest.approx(0.00096, rel=0.05)  # 3.1 standard deviations
    assert 0 <= chance_of(5_000, 1_000_000, 0.001) < 1e-300


@pytest.mark.parametrize(("count", "total"), [(0, 10), (0, 10_000), (3, 500), (400, 1000), (1000, 1000)])
def test_so_low_a_count_is_hardly_chance_where_the_share_is_above_its_bound(count: int, total: int) -> None:
    bound = upper_share(count, total)

    assert count / total <= bound <= 1
    if bound < 1:
        at_most = sum(math.exp(_log_term(n, total, bound)) for n in range(count + 1))
        assert at_most < 3 * ALPHA


def _log_term(n: int, total: int, share: float) -> float:
    ways = math.lgamma(total + 1) - math.lgamma(n + 1) - math.lgamma(total - n + 1)
    return ways + n * math.log(share) + (total - n) * math.log1p(-share)


def test_a_quantile_is_the_value_at_its_rank_and_none_beyond_the_values() -> None:
    histogram = dict.fromkeys(range(1, 101), 1)

    assert quantile(histogram, 0.99) == 99
    assert quantile(histogram, 0.5) == 50
    assert quantile(histogram, 0.99, 3.7) is None
    assert quantile({}, 0.99) is None


def test_bounds_of_a_percentile_hold_the_true_one() -> None:
    random = Random(1)
    samples = [Counter(int(random.expovariate(0.01)) for _ in range(5_000)) for _ in range(200)]
    true = -100 * math.log(0.01)
    at_most = [bounded_quantiles(sample, sample, 0.99) for sample in samples]

    assert all(high is not None and low is not None and low <= true <= high + 1 for high, low in at_most)


def test_the_stability_index_of_one_distribution_is_below_its_noise_and_of_two_above() -> None:
    random = Random(2)

    def sample(mean: float, n: int) -> Counter[int]:
        return Counter(round(random.gauss(mean, 10)) for _ in range(n))

    same = [stability_index(sample(0, 3_000), sample(0, 300)) for _ in range(300)]
    index, noise = stability_index(sample(0, 3_000), sample(10, 300))

    assert max(index - noise for index, noise in same) < 0.01
    assert index - noise > 0.5


def test_the_stability_index_of_scores_in_one_bin_is_none() -> None:
    assert stability_index({5: 1000}, {5: 10})[0] == 0
    assert stability_index({5: 1000, 6: 1000}, {7: 1000})[0] > 1


@given(st.dictionaries(st.integers(0, 50), st.integers(1, 30), min_size=1), st.data())
def test_distinct_kinds_are_those_expected_among_so_many_draws(shown: dict[int, int], data: st.DataObject) -> None:
    total = sum(shown.values())
    draws = data.draw(st.integers(1, total))
    exact = sum(1 - math.comb(total - n, draws) / math.comb(total, draws) for n in shown.values())

    assert distinct_of(shown, draws) == pytest.approx(exact, rel=1e-6)


def test_the_bound_of_a_mean_comes_closer_with_more_values() -> None:
    few, many = upper_mean({0: 5, 100: 5}), upper_mean({0: 5_000, 100: 5_000})

    assert few[0] == many[0] == 50
    assert 50 < many[1] < 52
    assert few[1] > 100
