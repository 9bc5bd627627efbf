"""The user's own items by what they still weigh."""

from __future__ import annotations

import numpy as np
import pytest

from candidate_gen.buy_again import BuyAgain
from tests.contracts.generator_world import DAY_S, make_catalogue, make_query

CATALOGUE = make_catalogue()


def test_scores_are_sums_of_weights_halved_with_age() -> None:
    """Half-life 10 days: 5 has 3/2 + 1/8 = 1.625, 2 has 4/4 = 1, 9 has 2."""
    query = make_query(
        CATALOGUE,
        [9, 5, 2, 5],
        ages_s=[0, 10 * DAY_S, 20 * DAY_S, 30 * DAY_S],
        weights=[2, 3, 4, 1],
        allow_repeats=True,
    )
    found = BuyAgain(half_life_days=10).generate(query, 10)
    assert found.rows.tolist() == [9, 5, 2]
    np.testing.assert_allclose(found.scores, [2, 1.625, 1], rtol=1e-6)


def test_equal_scores_come_by_the_newest_event() -> None:
    query = make_query(CATALOGUE, [7, 3, 7, 5], ages_s=[0, 0, 0, 0], weights=[1, 2, 1, 2], allow_repeats=True)
    assert BuyAgain().generate(query, 2).rows.tolist() == [7, 3]


def test_it_is_silent_where_repeats_are_not_wanted() -> None:
    assert len(BuyAgain().generate(make_query(CATALOGUE, [7, 3]), 5).rows) == 0


def test_a_half_life_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="half_life_days is 0"):
        BuyAgain(half_life_days=0)
