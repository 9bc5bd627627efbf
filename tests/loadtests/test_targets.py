"""Measures and targets on histories that one can check in one's head."""

from __future__ import annotations

from math import inf, isnan
from typing import TYPE_CHECKING

import pytest

from core.types import Tier
from loadtests import targets
from loadtests.history import Run
from loadtests.plan import Span
from loadtests.targets import at_least, at_most, judge
from terrace.v1 import recommendation_pb2 as pb
from tests.loadtests.toy_runs import LATE, SHED, calls, overload, run

if TYPE_CHECKING:
    from pathlib import Path

ONE = (Span("p", 0, 10, 100),)


def test_an_answer_after_the_deadline_and_a_refusal_are_not_in_time() -> None:
    it = run(
        calls(0, 10, 90), calls(0, 10, 5, took_ms=50.1), calls(0, 10, 5, tier=None, status=SHED, who="batch"), spans=ONE
    )
    assert targets.in_time("p").of(it) == pytest.approx(0.90)
    assert targets.in_time("p", "user").of(it) == pytest.approx(90 / 95)
    assert targets.in_time("p", "batch").of(it) == 0.0


def test_calls_count_in_the_phase_that_they_were_meant_for() -> None:
    it = run(calls(0, 10, 10), calls(10, 10, 10, took_ms=99), spans=(Span("a", 0, 10, 10), Span("b", 10, 10, 10)))
    assert targets.in_time("a").of(it) == 1.0
    assert targets.in_time("b").of(it) == 0.0


def test_answers_lowered_as_an_exercise_do_not_count_among_tiers() -> None:
    exercised = calls(0, 10, 10, tier=Tier.CF, reason=pb.REASON_EXERCISED)
    assert targets.tier_share("p", Tier.DEEP).of(run(calls(0, 10, 90), exercised, spans=ONE)) == 1.0


def test_a_tier_share_may_be_of_known_users_alone_and_pass_over_the_first_seconds() -> None:
    it = run(
        calls(0, 2, 10, tier=Tier.CF),
        calls(2, 8, 10),
        calls(0, 10, 10, tier=Tier.POPULARITY, known=False),
        spans=ONE,
    )
    assert targets.tier_share("p", Tier.DEEP, known=True).of(it) == pytest.approx(0.8)
    assert targets.tier_share("p", Tier.DEEP, known=True, skip_s=2).of(it) == 1.0
    assert targets.tier_share("p", Tier.POPULARITY, known=False).of(it) == 1.0


def test_goodput_counts_every_tier_and_everybody_over_capacity() -> None:
    assert targets.goodput("2x").of(overload()) == pytest.approx(1.0)
    assert targets.goodput("before").of(overload()) == pytest.approx(0.5)


def test_p99_passes_over_refusals_and_a_failed_call_took_forever() -> None:
    refused = calls(0, 10, 50, tier=None, status=SHED, took_ms=200)
    assert targets.p99("p").of(run(calls(0, 10, 100, took_ms=25), refused, spans=ONE)) == pytest.approx(0.5)
    failed = calls(0, 10, 2, tier=None, status=LATE, took_ms=50)
    assert targets.p99("p").of(run(calls(0, 10, 98), failed, spans=ONE)) == inf


def test_a_refusal_is_no_error_and_anything_else_without_an_answer_is() -> None:
    it = run(calls(0, 10, 8), calls(0, 10, 1, tier=None, status=SHED), calls(0, 10, 1, tier=None, status=13), spans=ONE)
    assert targets.errors("p").of(it) == pytest.approx(0.1)
    assert targets.refused("p").of(it) == pytest.approx(0.1)


def test_who_may_be_shed_goes_first() -> None:
    it = overload()
    assert targets.preference("2x").of(it) == 1.0
    assert targets.refused("2x", "user").of(it) == 0.0
    assert targets.refused("2x", "prefetch", "batch").of(it) == 1.0
    unfair = run(calls(0, 10, 50, tier=None, status=SHED), calls(0, 10, 50, who="batch"), spans=ONE)
    assert targets.preference("p").of(unfair) == -1.0


def test_recovery_is_when_tiers_and_p99_are_as_before_and_stay_so_for_three_seconds() -> None:
    # A window from 1.5 s has 25 of 150 answers from CF, which is too many; the one from 2 s has none.
    assert targets.recovery("after", "before").of(overload()) == 2.0


def test_recovery_near_the_end_of_a_phase_is_seen_if_it_lasts_to_the_end() -> None:
    spans = (Span("before", 0, 10, 50), Span("after", 10, 6, 50))
    slow, quick = calls(10, 4.5, 50, took_ms=40), calls(14.5, 1.5, 50)
    assert targets.recovery("after", "before").of(run(calls(0, 10, 50), slow, quick, spans=spans)) == 4.5


def test_a_run_that_stays_slow_never_recovers() -> None:
    spans = (Span("before", 0, 10, 50), Span("after", 10, 10, 50))
    slow = run(calls(0, 10, 50), calls(10, 10, 50, took_ms=16), spans=spans)
    assert targets.recovery("after", "before").of(slow) == inf
    same = run(calls(0, 10, 50), calls(10, 10, 50, took_ms=14), spans=spans)
    assert targets.recovery("after", "before").of(same) == 0.0


def test_the_time_until_a_breaker_opens_is_read_from_the_reasons() -> None:
    it = run(
        calls(0, 1, 50, tier=Tier.CF, reason=pb.REASON_LATE),
        calls(1, 9, 50, tier=Tier.CF, reason=pb.REASON_BREAKER_OPEN),
        spans=ONE,
    )
    assert targets.reason_after("p", "BREAKER_OPEN").of(it) == 1.0
    assert targets.reason_after("p", "OVERLOADED").of(it) == inf


def test_a_median_is_compared_with_that_of_the_same_tier_in_another_phase() -> None:
    """A POPULARITY answer is always quicker than a DEEP one: compared with all of before, one twice as slow would pass."""
    it = run(
        calls(0, 10, 50, took_ms=10),
        calls(0, 10, 5, tier=Tier.POPULARITY, took_ms=2),
        calls(10, 10, 5, tier=Tier.POPULARITY, took_ms=4),
        spans=(Span("a", 0, 10, 55), Span("b", 10, 10, 5)),
    )
    assert targets.median_against("b", "a", Tier.POPULARITY, skip_s=3).of(it) == pytest.approx(2)
    assert isnan(targets.median_against("b", "a", Tier.DEEP).of(it))


def test_shedding_ends_with_the_last_call_that_is_refused() -> None:
    shed = calls(12, 1, 10, tier=None, status=SHED, who="batch")
    spans = (Span("a", 0, 10, 10), Span("b", 10, 10, 10))
    it = run(calls(0, 20, 10), shed, spans=spans)

    assert targets.shedding_ends("a").of(it) == 0
    assert targets.shedding_ends("b").of(it) == pytest.approx(2.9)
    until_the_end = run(calls(0, 20, 10), calls(12, 8, 10, tier=None, status=SHED, who="batch"), spans=spans)
    assert targets.shedding_ends("b").of(until_the_end) == inf


def test_the_first_second_of_a_phase_may_be_looked_at_alone() -> None:
    it = run(calls(0, 1, 10, took_ms=99), calls(1, 9, 10), spans=ONE)

    assert targets.in_time("p", first_s=1).of(it) == 0
    assert targets.in_time("p", first_s=2).of(it) == pytest.approx(0.5)


def test_a_target_is_met_at_its_bound_and_missed_by_nothing_at_all() -> None:
    it = overload()
    floor, ceiling = (
        at_least(1.0, targets.in_time("2x", "user"), "why"),
        at_most(2.0, targets.recovery("after", "before"), "why"),
    )
    nobody = at_least(0.5, targets.in_time("before", "batch"), "why")
    verdicts = judge(it, (floor, ceiling, nobody))
    assert [verdict.met for verdict in verdicts] == [True, True, False]
    assert isnan(verdicts[2].value)


def test_a_run_whose_callers_were_late_does_not_count() -> None:
    assert not targets.invalid(overload())
    late = run(calls(0, 10, 98), calls(0, 10, 2, late_ms=10.1), spans=ONE)
    assert targets.sent_as_planned(late) == {"p": pytest.approx(0.98)}
    assert "could not send as planned" in targets.invalid(late)


def test_a_run_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    it = overload()
    it.save(tmp_path / "run.npz")
    again = Run.load(tmp_path / "run.npz")
    assert (again.scenario, again.spans, again.capacity, again.conditions) == (
        it.scenario, it.spans, it.capacity, it.conditions,
    )  # fmt: skip
    assert all((getattr(again.history, name) == column).all() for name, column in vars(it.history).items())
