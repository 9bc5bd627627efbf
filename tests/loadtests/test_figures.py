"""The benchmarks' arithmetic on numbers that one can check in one's head."""

from __future__ import annotations

import math

import pytest

from loadtests.figures import latency, lines, overhead, shares


def test_the_overhead_is_the_median_of_the_rounds_whole_over_the_sum_of_the_parts() -> None:
    rounds = [
        {"server": 3.0, "ann": 1.0, "rpc": 1.0},
        {"server": 8.0, "ann": 1.0, "rpc": 3.0},
        {"server": 9.0, "ann": 2.0, "rpc": 4.0},
    ]
    found = overhead(rounds)
    assert found["ratios"] == [1.5, 2.0, 1.5]
    assert found["ratio"] == 1.5
    assert found["ms"] == {"server": 8.0, "ann": 1.0, "rpc": 3.0}


def test_no_round_is_no_overhead() -> None:
    with pytest.raises(ValueError, match="no round"):
        overhead([])


def test_latency_of_a_thousand_and_one_equally_spaced_calls() -> None:
    assert latency(list(range(1001))) == {"p50_ms": 500.0, "p99_ms": 990.0, "p99.9_ms": 999.0, "max_ms": 1000.0}


def test_latency_of_nothing_is_not_a_number() -> None:
    assert all(map(math.isnan, latency([]).values()))


def test_shares_of_nothing_are_zero() -> None:
    assert shares({"DEEP": 3, "CF": 1}, 4) == {"DEEP": 0.75, "CF": 0.25}
    assert shares({"DEEP": 0}, 0) == {"DEEP": 0.0}


def test_nested_figures_are_shown_under_dotted_names() -> None:
    shown = [line.split() for line in lines({"ratio": 1.23456, "ms": {"ann": [0.5, 1.0]}})]
    assert shown == [["ratio", "1.235"], ["ms.ann", "0.5", "1"]]
