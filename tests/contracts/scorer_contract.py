"""What every ``core.types.Scorer`` must do, whatever it computes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from core.types import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable

    from core.types import InterruptibleScorer, Pool, Query, Scorer


class ScorerContract:
    """Inherit, and provide the fixtures ``scorer``, ``query`` and ``pool`` (at least four rows)."""

    tolerance = 1e-5

    def test_one_finite_score_for_each_row(self, scorer: Scorer, query: Query, pool: Pool) -> None:
        scores = scorer.score(query, pool)
        assert scores.shape == (len(pool),)
        assert scores.dtype == np.float32
        assert np.isfinite(scores).all()

    def test_permuting_the_pool_permutes_the_scores(self, scorer: Scorer, query: Query, pool: Pool) -> None:
        order = np.random.default_rng(3).permutation(len(pool))
        np.testing.assert_allclose(
            scorer.score(query, pool.take(order)), scorer.score(query, pool)[order], rtol=0, atol=self.tolerance
        )

    def test_splitting_the_pool_splits_the_scores(self, scorer: Scorer, query: Query, pool: Pool) -> None:
        whole = scorer.score(query, pool)
        for cut in (1, len(pool) // 2, len(pool) - 1):
            parts = [scorer.score(query, pool.take(part)) for part in (slice(cut), slice(cut, None))]
            np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=self.tolerance)

    def test_eight_threads_get_what_one_gets(self, scorer: Scorer, query: Query, pool: Pool) -> None:
        expected = scorer.score(query, pool)
        together = threading.Barrier(8)

        def run(_: int) -> list[np.ndarray]:
            together.wait()
            return [scorer.score(query, pool) for _ in range(5)]

        with ThreadPoolExecutor(8) as threads:
            for found in threads.map(run, range(8)):
                for scores in found:
                    np.testing.assert_array_equal(scores, expected)

    def test_neither_query_nor_pool_is_changed(self, scorer: Scorer, query: Query, pool: Pool) -> None:
        before = (query.history.copy(), query.history_age_s.copy(), pool.rows.copy(), pool.source_scores.copy())
        scorer.score(query, pool)
        after = (query.history, query.history_age_s, pool.rows, pool.source_scores)
        for left, right in zip(before, after, strict=True):
            np.testing.assert_array_equal(left, right)


class Stop:
    """The plainest ``core.types.StopSignal``; calls ``when_ready`` as soon as the run can be stopped."""

    def __init__(self, when_ready: Callable[[Stop], None] = lambda _: None) -> None:
        self._when_ready = when_ready
        self._act: Callable[[], None] | None = None
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True
        if self._act is not None:
            self._act()

    def on_stop(self, act: Callable[[], None]) -> None:
        self._act = act
        if self._stopped:
            act()
        self._when_ready(self)


class InterruptibleScorerContract(ScorerContract):
    """The same for ``core.types.InterruptibleScorer``."""

    def test_a_run_that_was_stopped_before_it_began_raises_stopped(
        self, scorer: InterruptibleScorer, query: Query, pool: Pool
    ) -> None:
        stop = Stop()
        stop.stop()
        with pytest.raises(Stopped):
            scorer.score(query, pool, stop)

    def test_another_thread_can_stop_a_run(self, scorer: InterruptibleScorer, query: Query, pool: Pool) -> None:
        def from_elsewhere(stop: Stop) -> None:
            thread = threading.Thread(target=stop.stop)
            thread.start()
            thread.join()

        with pytest.raises(Stopped):
            scorer.score(query, pool, Stop(from_elsewhere))

    def test_a_stopped_run_leaves_the_scorer_as_it_was(
        self, scorer: InterruptibleScorer, query: Query, pool: Pool
    ) -> None:
        expected = scorer.score(query, pool)
        stop = Stop()
        stop.stop()
        with pytest.raises(Stopped):
            scorer.score(query, pool, stop)
        np.testing.assert_array_equal(scorer.score(query, pool), expected)
        np.testing.assert_array_equal(scorer.score(query, pool, Stop()), expected)
