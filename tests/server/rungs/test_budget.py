"""How the time of a request is divided."""

from __future__ import annotations

import math

import pytest

from server.rungs.budget import LONGEST_RESERVE_S, Budget, slack_s
from server.rungs.deadline import Deadline
from server.settings import Settings

BUDGET = Budget.of(
    Settings(reserve_ms=4, reserve_share=0.15, floor_ms=1, retrieve_share=0.4, score_timeout_ms=50, max_request_ms=5000)
)


@pytest.mark.parametrize(
    ("left_s", "reserve_s"), [(-1.0, 0.004), (0.0, 0.004), (0.02, 0.004), (0.1, 0.015), (5.0, LONGEST_RESERVE_S)]
)
def test_the_reserve_is_a_share_between_two_bounds(left_s: float, reserve_s: float) -> None:
    assert BUDGET.reserve_s(left_s) == pytest.approx(reserve_s)


@pytest.mark.parametrize("left_s", [0.003, 0.02, 0.1, 5.0])
def test_admission_and_the_deep_rung_take_off_the_same_reserve(left_s: float) -> None:
    deadline = Deadline(left_s, lambda: 0.0)

    assert BUDGET.deep_deadline(deadline, 0.0).left_s() == pytest.approx(BUDGET.above_reserve_s(left_s))


def test_the_deep_rung_ends_earlier_by_what_the_event_loop_may_be_late() -> None:
    deadline = Deadline(0.1, lambda: 0.0)

    assert slack_s(0.003) == pytest.approx(0.006)
    assert BUDGET.deep_deadline(deadline, slack_s(0.003)).end_s == pytest.approx(0.1 - 0.015 - 0.006)


def test_a_run_of_the_model_ends_with_the_rung_or_as_hung() -> None:
    assert BUDGET.run_s(Deadline(0.02, lambda: 0.0)) == pytest.approx(0.02)
    assert BUDGET.run_s(Deadline(5.0, lambda: 0.0)) == pytest.approx(0.05)
    assert BUDGET.run_s(Deadline.never()) == math.inf


def test_a_part_before_the_model_leaves_it_the_rest() -> None:
    assert BUDGET.part_s(Deadline(0.1, lambda: 0.0)) == pytest.approx(0.04)
