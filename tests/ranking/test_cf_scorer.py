"""The CF scorer against its formula, and the contract of scorers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from core.manifest import BundleError
from ranking.cf_scorer import CfParams, CfScorer
from tests.contracts.scorer_contract import ScorerContract
from tests.ranking import world

if TYPE_CHECKING:
    from pathlib import Path

    from core.types import Pool, Query

PARAMS = CfParams.of(
    {
        "sources": {
            "co_occurrence": {"weight": 1.0, "epsilon": 0.02},
            "ann": {"weight": 0.5, "scale": 2.0, "epsilon": 0.1},
            "unheard_of": {"weight": 9.0},
        },
        "trend_weight": 0.5,
        "trend_half_life_days": 7.0,
    }
)


class TestCfScorer(ScorerContract):
    @pytest.fixture
    def scorer(self) -> CfScorer:
        return CfScorer.build(world.sequences(), world.ITEMS, world.AS_OF_S, PARAMS)

    @pytest.fixture
    def query(self) -> Query:
        return world.query([5, 12])

    @pytest.fixture
    def pool(self) -> Pool:
        return world.pool()

    def test_the_score_is_the_sum_of_the_formula(self, scorer: CfScorer, query: Query, pool: Pool) -> None:
        trend = world.sequences().trend(world.ITEMS, world.AS_OF_S, 7.0, first_only=True)
        found = scorer.score(query, pool)
        for i, row in enumerate(pool.rows):
            expected = 0.5 * math.log(trend[row] / trend.max() + 0.005)
            for column, weight, scale, epsilon in ((0, 1.0, 1.0, 0.02), (1, 0.5, 2.0, 0.1)):
                score = float(pool.source_scores[i, column])
                if score > 0:  # false for NaN
                    expected += weight * (math.log(score / scale + epsilon) - math.log(epsilon))
            assert found[i] == pytest.approx(expected, abs=1e-4)

    def test_save_and_load_bring_back_the_same_scores(
        self, scorer: CfScorer, query: Query, pool: Pool, tmp_path: Path
    ) -> None:
        scorer.save(tmp_path)
        loaded = CfScorer.load(tmp_path, world.ITEMS)
        assert loaded.params == scorer.params
        np.testing.assert_array_equal(loaded.score(query, pool), scorer.score(query, pool))

    def test_damaged_files_are_named(self, scorer: CfScorer, tmp_path: Path) -> None:
        scorer.save(tmp_path)
        with pytest.raises(BundleError, match=r"trend\.npy: float32 \(40,\)"):
            CfScorer.load(tmp_path, world.ITEMS + 1)
        (tmp_path / "trend.npy").write_bytes(b"")
        with pytest.raises(BundleError, match=r"trend\.npy: not readable"):
            CfScorer.load(tmp_path, world.ITEMS)
        (tmp_path / "cf.json").write_text('{"sources": {"ann": {"loudness": 3}}}')
        with pytest.raises(BundleError, match=r"cf\.json: not readable"):
            CfScorer.load(tmp_path, world.ITEMS)


def test_parameters_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match=r"cf\.sources\.ann\.epsilon is 0"):
        CfParams.of({"sources": {"ann": {"weight": 1.0, "epsilon": 0}}})
    with pytest.raises(ValueError, match=r"cf\.trend_half_life_days is -1"):
        CfParams.of({"sources": {}, "trend_half_life_days": -1})
