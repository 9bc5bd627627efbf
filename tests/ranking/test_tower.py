"""What the user tower learns, and that it learns the same twice."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ranking.sequences import Sequences
from ranking.tower import TowerResult, train_tower
from ranking.tower_examples import TrendGrid, Windows
from ranking.tower_run import TowerRun
from ranking.tower_settings import TowerCases, TowerSettings
from tests.ranking import world
from tests.ranking.conftest import SETTINGS

if TYPE_CHECKING:
    from pathlib import Path


def questions(seed: int) -> TowerCases:
    """What comes after all but the last event of other users of the same world."""
    sequences = world.sequences(seed=seed)
    ends = sequences.ptr[1:] - 1
    return TowerCases(sequences, np.arange(len(ends)), ends, [sequences.items[e : e + 1] for e in ends])


def ndcg(result: TowerResult, asked: TowerCases) -> float:
    run = TowerRun(
        asked.sequences, world.ITEMS, 2, settings=result.settings, device=torch.device("cpu"), seed=0,
    )  # fmt: skip
    run.start_from(result.tower, result.item_vectors)
    return run.ndcg(asked, k=5)


def test_order_is_learnt_far_better_than_popularity(trained: TowerResult) -> None:
    asked = questions(seed=9)
    popular = np.argsort(-np.bincount(world.sequences().items, minlength=world.ITEMS))[:5].tolist()
    by_popularity = np.mean([1 / np.log2(2 + popular.index(r[0])) if r[0] in popular else 0.0 for r in asked.relevant])
    assert ndcg(trained, asked) > by_popularity + 0.3


def test_two_trainings_give_the_same_weights() -> None:
    settings = replace(SETTINGS, spectral=True, new_only=True, trend_half_life_days=30.0)
    one, other = (
        train_tower(world.sequences(), world.ITEMS, 2, settings=settings, max_epochs=2, device="cpu", seed=3)
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.item_vectors, other.item_vectors)
    for left, right in zip(one.tower.parameters(), other.tower.parameters(), strict=True):
        assert torch.equal(left, right)


def test_items_nobody_touched_have_zero_vectors() -> None:
    result = train_tower(world.sequences(), world.ITEMS + 3, 2, settings=SETTINGS, max_epochs=1, device="cpu")
    assert not result.item_vectors[world.ITEMS :].any()
    assert result.item_vectors[: world.ITEMS].any(axis=1).all()


def test_the_best_epoch_is_kept_and_patience_ends_the_training() -> None:
    seen: list[float] = []
    asked = questions(seed=2)
    hopeless = replace(asked, relevant=[np.array([(r[0] + 1) % world.ITEMS], np.int32) for r in asked.relevant])
    result = train_tower(
        world.sequences(), world.ITEMS, 2, settings=SETTINGS, valid=hopeless, max_epochs=12, patience=2,
        device="cpu", progress=lambda *epoch: seen.append(epoch[2]),
    )  # fmt: skip
    assert result.metric == seen
    assert result.stopped_by == "patience"
    assert result.best_epoch == int(np.argmax(seen)) + 1
    assert len(seen) == result.best_epoch + 2
    run = TowerRun(
        hopeless.sequences, world.ITEMS, 2, settings=SETTINGS, device=torch.device("cpu"), seed=0,
    )  # fmt: skip
    run.start_from(result.tower, result.item_vectors)
    assert run.ndcg(hopeless) == pytest.approx(max(seen))


def test_time_ends_the_training_after_the_first_epoch() -> None:
    result = train_tower(
        world.sequences(), world.ITEMS, 2, settings=SETTINGS, max_epochs=5, time_limit_s=0.0, device="cpu"
    )
    assert (result.stopped_by, result.best_epoch) == ("time", 1)


def test_a_training_goes_on_from_an_earlier_one(trained: TowerResult) -> None:
    asked = questions(seed=9)
    fresh = train_tower(world.sequences(seed=1), world.ITEMS, 2, settings=SETTINGS, max_epochs=1, device="cpu")
    warm = train_tower(
        world.sequences(seed=1), world.ITEMS, 2, settings=SETTINGS, max_epochs=1, init=trained, device="cpu"
    )
    assert ndcg(warm, asked) > ndcg(fresh, asked) + 0.2


def test_an_interrupted_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    asked, kept = questions(seed=9), tmp_path / "tower.pt"

    def train(epochs: int, checkpoint: Path | None) -> TowerResult:
        return train_tower(
            world.sequences(), world.ITEMS, 2, settings=SETTINGS, valid=asked, max_epochs=epochs, device="cpu",
            checkpoint=checkpoint,
        )  # fmt: skip

    whole = train(3, None)
    train(1, kept)
    resumed = train(3, kept)
    assert resumed.metric == whole.metric
    np.testing.assert_array_equal(resumed.item_vectors, whole.item_vectors)
    again = train(3, kept)
    assert again.metric == whole.metric
    np.testing.assert_array_equal(again.item_vectors, whole.item_vectors)


def test_sampled_softmax_learns_the_order_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ranking.tower_run.FULL_SOFTMAX_ITEMS", 10)
    settings = replace(SETTINGS, negatives=20)
    result = train_tower(world.sequences(), world.ITEMS, 2, settings=settings, max_epochs=12, device="cpu")
    assert ndcg(result, questions(seed=9)) > 0.5


def test_without_two_steps_of_anybody_there_is_nothing_to_learn() -> None:
    one = Sequences(
        np.array([0, 1]), np.array([2], np.int32), np.ones(1, np.int8), np.ones(1, np.float32), np.ones(1, np.int64)
    )
    with pytest.raises(ValueError, match="no sequence to learn from"):
        train_tower(one, 3, 1, settings=TowerSettings(), device="cpu")


@st.composite
def some_sequences(draw: st.DrawFn) -> Sequences:
    lengths = draw(st.lists(st.integers(0, 12), min_size=1, max_size=5))
    n = sum(lengths)
    gaps = draw(st.lists(st.sampled_from([0, 1, 5]), min_size=n, max_size=n))
    items = draw(st.lists(st.integers(0, 6), min_size=n, max_size=n))
    ptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    times = np.concatenate([np.cumsum(gaps[a:b]) for a, b in pairwise(ptr)])
    ones = np.ones(n, np.float32)
    return Sequences(ptr, np.array(items, np.int32), ones.astype(np.int8), ones, (times * world.DAY).astype(np.int64))


@given(
    sequences=some_sequences(),
    stride=st.integers(1, 5),
    horizon=st.sampled_from([None, 1.0, 6.0]),
    new_only=st.booleans(),
)
def test_places_and_targets_are_those_of_the_definition(
    sequences: Sequences, stride: int, horizon: float | None, new_only: bool
) -> None:
    """The last event of each step is asked once; answers are what the user turned to within the horizon."""
    expected = {}
    for user in range(sequences.n_users):
        a, b = int(sequences.ptr[user]), int(sequences.ptr[user + 1])
        times, items = sequences.times, sequences.items
        for e in range(a, b):
            later = [i for i in range(e + 1, b) if times[i] > times[e]]
            if e + 1 < b and times[e + 1] == times[e]:
                continue
            if horizon is None:
                later = [i for i in later if times[i] == times[later[0]]]
            else:
                later = [i for i in later if times[i] <= times[e] + horizon * world.DAY]
            if new_only:
                later = [i for i in later if items[i] not in items[a:i]]
            if later:
                expected[e] = later
    windows = Windows.cut(sequences, length=5, stride=stride, horizon_days=horizon, new_only=new_only)
    found = {}
    for w in range(len(windows)):
        assert 0 < windows.stop[w] - windows.start[w] <= 5
        for p in range(windows.ptr[w], windows.ptr[w + 1]):
            place = int(windows.place[p])
            assert windows.start[w] <= place < windows.stop[w]
            assert place not in found
            found[place] = windows.pool[windows.target_start[p] : windows.target_stop[p]].tolist()
    assert found == expected


def test_the_trend_of_a_day_knows_nothing_of_that_day() -> None:
    sequences = world.sequences()
    grid = TrendGrid(sequences, world.ITEMS, 30.0, first_only=False)
    assert not grid.grid[grid.day(sequences.times.min()[None])].any()
    after = grid.newest
    total = np.bincount(
        sequences.items, 0.5 ** ((sequences.times.max() - sequences.times) / world.DAY / 30), minlength=world.ITEMS
    )
    np.testing.assert_allclose(after, np.log(total / total.mean() + 0.05), rtol=1e-4)
