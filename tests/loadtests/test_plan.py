"""Phases and the moments at which users call."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.plan import PACE_S, Phase, Span, moments, timeline, users_for
from loadtests.scenarios import SCENARIOS

PHASES = (Phase("a", 0.5, seconds=30, short=3), Phase("b", 5.0, seconds=60, short=4, fault="store_gone", cold=0.5))


def test_phases_follow_each_other_at_multiples_of_the_capacity() -> None:
    assert timeline(PHASES, 200, short=False) == [
        Span("a", 0.0, 30, 100.0),
        Span("b", 30.0, 60, 1000.0, "store_gone", 0.5),
    ]


def test_a_short_run_has_the_same_loads_for_less_time() -> None:
    assert [(span.start_s, span.end_s, span.rate) for span in timeline(PHASES, 200, short=True)] == [
        (0.0, 3.0, 100.0),
        (3.0, 7.0, 1000.0),
    ]


def test_there_are_enough_users_for_none_to_call_before_the_last_call_has_ended() -> None:
    spans = timeline(PHASES, 200, short=False)
    n = users_for(spans)
    assert n == 1000 * PACE_S
    gaps = [np.diff(moments(spans[1:], n, np.random.default_rng(seed))).min() for seed in range(50)]
    assert min(gaps) >= 0.1 * PACE_S - 1e-9


def test_all_users_together_offer_the_rate_of_every_phase() -> None:
    spans, rng = [Span("a", 0, 10, 20), Span("b", 10, 10, 100)], np.random.default_rng(1)
    n = users_for(spans)
    at_s = np.concatenate([moments(spans, n, rng) for _ in range(n)])
    per_second = np.histogram(at_s, np.arange(21))[0]
    assert per_second[:10].sum() == pytest.approx(200, rel=0.1)
    assert per_second[10:].sum() == pytest.approx(1000, rel=0.05)
    assert per_second[10] > 60  # a phase begins at its full rate


@given(
    rate=st.floats(1, 500),
    seconds=st.floats(0.5, 20),
    start_s=st.floats(0, 100),
    spare=st.integers(0, 50),
    seed=st.integers(0, 2**16),
)
def test_moments_rise_and_stay_inside_their_phase(
    rate: float, seconds: float, start_s: float, spare: int, seed: int
) -> None:
    span = Span("a", start_s, seconds, rate)
    at_s = moments([span], users_for([span]) + spare, np.random.default_rng(seed))
    assert (np.diff(at_s) > 0).all()
    assert (at_s >= start_s).all()
    assert (at_s <= span.end_s).all()


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_can_be_run_and_says_why_it_demands_what_it_does(name: str) -> None:
    scenario = SCENARIOS[name]
    assert scenario.name == name
    assert sum(scenario.traffic.values()) == pytest.approx(1)
    assert len({phase.name for phase in scenario.phases}) == len(scenario.phases)
    assert all(0 < phase.short <= phase.seconds for phase in scenario.phases)
    assert all(target.why for target in scenario.targets)


def test_short_forms_of_all_scenarios_fit_into_a_coffee_break() -> None:
    assert sum(phase.short for scenario in SCENARIOS.values() for phase in scenario.phases) < 180
