"""What every ``core.types.UserEncoder`` must do."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from core.types import Stopped
from tests.contracts.scorer_contract import Stop

if TYPE_CHECKING:
    from core.types import Query, UserEncoder


def with_history(query: Query, events: int) -> Query:
    """The query with the newest ``events`` of its history, repeated where it has fewer."""
    index = np.arange(events) % len(query.history)
    return replace(
        query,
        history=query.history[index],
        history_age_s=np.sort(query.history_age_s[index]),
        history_weight=query.history_weight[index],
        history_type=query.history_type[index],
    )


class EncoderContract:
    """Inherit, and provide the fixtures ``encoder``, ``query`` (with a history) and ``width``."""

    @pytest.mark.parametrize("events", [1, 2, 3, 50, 51, 200])
    def test_histories_of_every_length_give_a_finite_vector(
        self, encoder: UserEncoder, query: Query, width: int, events: int
    ) -> None:
        vector = encoder.encode(with_history(query, events))
        assert vector.shape == (width,)
        assert vector.dtype == np.float32
        assert np.isfinite(vector).all()

    def test_the_same_query_gives_the_same_vector(self, encoder: UserEncoder, query: Query) -> None:
        np.testing.assert_array_equal(encoder.encode(query), encoder.encode(query))

    def test_another_history_gives_another_vector(self, encoder: UserEncoder, query: Query) -> None:
        other = replace(query, history=query.history[::-1].copy())
        assert not np.allclose(encoder.encode(query), encoder.encode(other))

    def test_eight_threads_get_what_one_gets(self, encoder: UserEncoder, query: Query) -> None:
        expected = encoder.encode(query)
        together = threading.Barrier(8)

        def run(_: int) -> list[np.ndarray]:
            together.wait()
            return [encoder.encode(query) for _ in range(5)]

        with ThreadPoolExecutor(8) as threads:
            for found in threads.map(run, range(8)):
                for vector in found:
                    np.testing.assert_array_equal(vector, expected)

    def test_a_run_that_is_stopped_ends_and_leaves_the_encoder_as_it_was(
        self, encoder: UserEncoder, query: Query
    ) -> None:
        expected, early = encoder.encode(query), Stop()
        early.stop()
        for stop in (early, Stop(Stop.stop)):  # before it began, and as soon as it can be
            with pytest.raises(Stopped):
                encoder.encode(query, stop)
        np.testing.assert_array_equal(encoder.encode(query, Stop()), expected)
