"""The curve of quality over deadlines says how good lists were, from which rung, and how much of it was scored."""

from __future__ import annotations

import pytest

from core.types import Tier
from offline.evaluate.latency import DEADLINES_MS, latency_curve
from tests.offline.recorded import Recorded, evaluation_set, log_of

LOG = log_of((0, 7, 1), (1, 8, 1), users=2)
TEST_SET = evaluation_set(LOG, 10, {0: [2], 1: [0]})


def test_each_deadline_has_its_quality_and_its_rungs() -> None:
    served = Recorded({Tier.POPULARITY: [2], Tier.DEEP: [2, 0]}, found=12)
    curve = {point["deadline_ms"]: point for point in latency_curve(served, TEST_SET)}
    assert set(curve) == set(DEADLINES_MS)
    assert curve[3.0]["tiers"] == {"POPULARITY": 1, "CF": 0, "DEEP": 0}
    assert curve[3.0]["ndcg@20"] == 0.5
    assert curve[3.0]["scored_share"] is None
    assert curve[8.0]["tiers"]["DEEP"] == 1
    assert curve[8.0]["ndcg@20"] > 0.5
    assert curve[8.0]["scored_share"] == pytest.approx(3 / 12)
    assert curve[8.0]["unhurried"]["POPULARITY"] == 0.5
    assert curve[8.0]["unhurried"]["DEEP"] == curve[8.0]["ndcg@20"]


def test_costs_are_learnt_before_each_deadline() -> None:
    served = Recorded({Tier.POPULARITY: [2]})
    latency_curve(served, TEST_SET)
    assert served.warmed_up == len(DEADLINES_MS)
