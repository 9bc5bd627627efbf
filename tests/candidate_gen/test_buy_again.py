"""The user's own items by what they still weigh."""

from __future__ import annotations

import numpy as np
import pytest

from candidate_gen.buy_again import BuyAgain
from tests.contracts.generator_world import (
    AS_OF_S,
    DAY_S,
    ITEMS,
    make_catalogue,
    make_inputs,
    make_query,
    random_events,
)

CATALOGUE = make_catalogue()
OWN_ALONE = BuyAgain.build(make_inputs(), half_life_days=10.0, trend_power=0.0)


def test_scores_are_sums_of_weights_halved_with_age() -> None:
    """Half-life 10 days: 5 has 3/2 + 1/8 = 1.625, 2 has 4/4 = 1, 9 has 2."""
    query = make_query(
        CATALOGUE,
        [9, 5, 2, 5],
        ages_s=[0, 10 * DAY_S, 20 * DAY_S, 30 * DAY_S],
        weights=[2, 3, 4, 1],
        allow_repeats=True,
    )
    found = OWN_ALONE.generate(query, 10)
    assert found.rows.tolist() == [9, 5, 2]
    np.testing.assert_allclose(found.scores, [2, 1.625, 1], rtol=1e-6)


def test_equal_scores_come_by_the_newest_event() -> None:
    query = make_query(CATALOGUE, [7, 3, 7, 5], ages_s=[0, 0, 0, 0], weights=[1, 2, 1, 2], allow_repeats=True)
    assert OWN_ALONE.generate(query, 2).rows.tolist() == [7, 3]


def test_it_is_silent_where_repeats_are_not_wanted() -> None:
    assert len(OWN_ALONE.generate(make_query(CATALOGUE, [7, 3]), 5).rows) == 0


def test_what_everybody_has_of_late_multiplies_what_the_user_had() -> None:
    """Every positive event counts towards the trend, repeats too, halved every 20 days."""
    trend = np.zeros(ITEMS)
    for _, item, weight, time, _ in random_events():
        trend[item] += max(weight, 0) * 2 ** (-(AS_OF_S - time) / DAY_S / 20)
    built = BuyAgain.build(make_inputs(), half_life_days=10.0, trend_power=0.5, trend_half_life_days=20.0)
    query = make_query(CATALOGUE, [9, 5, 2, 5], allow_repeats=True)
    alone = dict(zip(*(part.tolist() for part in OWN_ALONE.generate(query, 10).known or ()), strict=True))
    found = built.generate(query, 10)
    expected = {row: score * (trend[row] / trend.max() + 0.005) ** 0.5 for row, score in alone.items()}
    assert found.rows.tolist() == sorted(expected, key=lambda row: -expected[row])
    np.testing.assert_allclose([expected[row] for row in found.rows.tolist()], found.scores, rtol=1e-5)


def test_parameters_out_of_range_are_named() -> None:
    for params in ({"half_life_days": 0}, {"trend_half_life_days": -1}, {"trend_power": -0.1}):
        with pytest.raises(ValueError, match=f"{next(iter(params))} is {next(iter(params.values()))}"):
            BuyAgain.build(make_inputs([]), **params)
