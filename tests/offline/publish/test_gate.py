"""A bundle is published when each rung earns its place and the whole is not worse than what it replaces."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from offline.publish.gate import ENOUGH_CASES, check
from tests.offline.measured import figures, measured, per_user_of


def test_a_ladder_that_climbs_passes() -> None:
    verdict = check(measured(figures(0.04, 0.09, 0.12)), None)
    assert verdict.passed
    assert [c.passed for c in verdict.checks] == [True, True]


def test_a_model_below_cf_fails_with_both_values_and_what_to_do() -> None:
    verdict = check(measured(figures(0.04, 0.1043, 0.1012)), None)
    (failed,) = verdict.failed
    assert failed.name == "DEEP above CF"
    for number in ("0.1012", "0.1043", "-0.0031"):
        assert number in failed.message
    assert "--gate mark" in failed.mend


def test_cf_below_popularity_fails() -> None:
    assert [c.name for c in check(measured(figures(0.09, 0.08, 0.12)), None).failed] == ["CF above POPULARITY"]


def test_equal_rungs_fail_where_there_are_enough_cases_to_tell() -> None:
    assert not check(measured(figures(0.04, 0.1, 0.1, questions=ENOUGH_CASES)), None).passed


def test_few_cases_fail_only_what_is_certain() -> None:
    """Fifty people: a mean below by chance is a note, an interval below zero is not."""
    unsure = check(measured(figures(0.04, 0.1, 0.098, questions=50)), None)
    assert unsure.passed
    assert unsure.checks[1].passed is None
    assert "too few to judge" in unsure.checks[1].message
    assert not check(measured(figures(0.04, 0.1, 0.05, questions=50)), None).passed


def test_a_gain_within_its_interval_passes_and_says_so() -> None:
    verdict = check(measured(figures(0.04, 0.1, 0.101)), None)
    assert verdict.passed
    assert "may be chance" in verdict.checks[1].message


def test_a_ladder_without_a_model_passes_with_a_note() -> None:
    verdict = check(measured(figures(0.04, 0.1)), None)
    assert verdict.passed
    assert "There is no DEEP rung" in verdict.checks[1].message


@pytest.mark.parametrize("new", [None, measured({})])
def test_nothing_measured_is_nothing_judged(new: object) -> None:
    verdict = check(new, measured(figures(0.1, 0.2, 0.3), "old"))  # type: ignore[arg-type] # parametrised
    assert verdict.passed
    assert verdict.checks[0].passed is None


def test_worse_than_before_beyond_the_interval_fails() -> None:
    verdict = check(measured(figures(0.04, 0.1, 0.12)), measured(figures(0.04, 0.1, 0.15), "last-night"))
    (failed,) = verdict.failed
    assert failed.name == "as good as last-night"
    assert "0.1200" in failed.message
    assert "0.1500" in failed.message
    assert "terrace compare" in failed.mend


def test_worse_than_before_within_the_interval_passes() -> None:
    assert check(measured(figures(0.04, 0.1, 0.12)), measured(figures(0.04, 0.1, 0.13), "last-night")).passed


def test_on_the_same_cases_a_small_steady_loss_fails() -> None:
    """Half a hundredth less for everyone is hidden between two means and certain in pairs."""
    easy = np.random.default_rng(3).random(300) * 0.3
    old = measured(figures(0.04, 0.1, 0.13), "old", per_user_of(easy.tolist()))
    worse = per_user_of((easy - 0.005).tolist())
    assert check(measured(figures(0.04, 0.1, 0.125)), old).passed
    assert not check(measured(figures(0.04, 0.1, 0.125), per_user=worse), old).passed


def test_a_lost_model_is_held_against_the_model_it_replaces() -> None:
    """Yesterday DEEP answered, today the ladder ends at CF: what callers get is compared, not rungs of one name."""
    verdict = check(measured(figures(0.04, 0.1)), measured(figures(0.04, 0.1, 0.15), "old"))
    (failed,) = verdict.failed
    assert "of CF is 0.1000, of DEEP in old 0.1500" in failed.message


def test_other_cases_are_not_judged() -> None:
    other = figures(0.1, 0.2, 0.9)
    other["split"] = {**other["split"], "kind": "last-event"}
    verdict = check(measured(figures(0.04, 0.1, 0.12)), measured(other, "old"))
    assert verdict.passed
    assert verdict.checks[-1].passed is None


def test_every_verdict_agrees_with_its_rules() -> None:
    """Over a grid of ladders the verdict is what the two steps say, read off the means."""
    for means in product((0.05, 0.1, 0.15), repeat=3):
        assert check(measured(figures(*means)), None).passed is (means[0] < means[1] < means[2])
