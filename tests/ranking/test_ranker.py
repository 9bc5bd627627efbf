"""What the ranker learns, from how little, and that it learns the same twice."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from ranking.calibrate import Calibration, calibrate
from ranking.networks import Ensemble, Ranker, interactions, predict
from ranking.ranker import RankerSettings, train_ranker
from ranking.ranking_data import RankingData

if TYPE_CHECKING:
    from core.types import Scores

SETTINGS = RankerSettings(hidden=(16, 8), batch=8, negatives=20, rate=5e-3, dropout=0.0)


def data(seed: int, questions: int = 60, rows: int = 30) -> RankingData:
    """Right is the row whose second feature is near a half and whose vector is near the user's; feature 0 is the prior."""
    rng = np.random.default_rng(seed)
    items = rng.normal(size=(50, 4)).astype(np.float32)
    users = rng.normal(size=(questions, 4)).astype(np.float32)
    features = rng.random((questions * rows, 3)).astype(np.float32)
    chosen = rng.integers(0, 50, questions * rows).astype(np.int32)
    affinity = (items[chosen] * np.repeat(users, rows, axis=0)).sum(axis=1)
    truth = (affinity - 14 * np.abs(features[:, 1] - 0.5)).reshape(questions, rows)
    labels = (truth >= np.sort(truth, axis=1)[:, -2:-1]).ravel().astype(np.float32)
    ptr = np.arange(questions + 1) * rows
    return RankingData(ptr, features, labels, np.full(questions, 2), users, chosen, items)


def test_it_learns_what_no_single_feature_says() -> None:
    valid = data(1)
    result = train_ranker([data(0, questions=120)], valid, settings=SETTINGS, max_epochs=15)
    best = max(valid.ndcg(column) for column in valid.inputs().T)
    assert max(result.metric[0]) > best + 0.05


def test_two_trainings_give_the_same_weights() -> None:
    one, other = (train_ranker([data(0)], data(1), settings=SETTINGS, max_epochs=2, seed=5) for _ in range(2))
    for left, right in zip(one.ensemble.parameters(), other.ensemble.parameters(), strict=True):
        assert torch.equal(left, right)


def test_the_best_epoch_is_kept() -> None:
    valid = data(1)
    contrary = replace(valid, labels=1 - valid.labels)
    result = train_ranker([data(0)], contrary, settings=SETTINGS, max_epochs=12, patience=3)
    (metric,) = result.metric
    assert result.best_epochs == [int(np.argmax(metric)) + 1]
    assert len(metric) == result.best_epochs[0] + 3
    assert contrary.ndcg(predict(result.ensemble.rankers[0], contrary.inputs())) == pytest.approx(max(metric))


def test_the_prior_is_mixed_in_as_far_as_it_helps() -> None:
    """No mixture is worse than the rankers alone; an answer-like feature is worth what may be mixed in."""
    part, valid = data(0), data(1)
    useless = train_ranker([part], valid, settings=SETTINGS, max_epochs=8, extra_scores=(0,))
    told = replace(valid, features=np.column_stack([30 * valid.labels, valid.features[:, 1:]]).astype(np.float32))
    useful = train_ranker([part], told, settings=SETTINGS, max_epochs=1, extra_scores=(0,), without=(0,))
    assert useless.mixed >= max(useless.metric[0])
    assert float(useful.ensemble.input_weights[0]) > 0
    assert useful.mixed > max(useful.metric[0])


def scores(network: Ensemble, part: RankingData, rows: slice) -> Scores:
    """What the exported graph answers to the rows of the first case."""
    with torch.no_grad():
        found: Scores = network(
            torch.from_numpy(part.user_vectors[0]),
            torch.from_numpy(part.item_vectors[part.items[rows]]),
            torch.from_numpy(part.features[rows]),
        ).numpy()
    return found


def sigmoid(x: Scores) -> Scores:
    return np.asarray(1 / (1 + np.exp(-x)))


FIRST = slice(0, 30)


def test_where_nothing_can_tell_the_first_anchor_counts_like_the_rankers() -> None:
    part = data(0)
    result = train_ranker([part], None, settings=SETTINGS, max_epochs=1, extra_scores=(2, 1))
    (ranker,) = result.ensemble.rankers
    assert isinstance(ranker, Ranker)
    expected = sigmoid(predict(ranker, part.inputs()[FIRST]) + part.features[FIRST, 2])
    np.testing.assert_allclose(scores(result.ensemble, part, FIRST), expected, atol=1e-5)


def test_columns_left_out_change_nothing() -> None:
    part, valid = data(0), data(1)
    blind = train_ranker([part], valid, settings=SETTINGS, max_epochs=3, without=(1,))
    changed = valid.features.copy()
    changed[:, 1] = 7
    other = replace(valid, features=changed)
    np.testing.assert_array_equal(predict(blind.ensemble, valid.inputs()), predict(blind.ensemble, other.inputs()))


def test_scores_are_probabilities_that_happened() -> None:
    """Users of context 1 take three times as many items; the calibration tells them apart and changes no order."""
    rng = np.random.default_rng(2)
    part, valid = (
        replace(
            each,
            features=np.column_stack([each.features[:, :2], np.repeat(np.arange(60) % 2, 30)]).astype(np.float32),
            labels=(each.labels + (rng.random(1800) < 0.15) * np.repeat(np.arange(60) % 2, 30) > 0).astype(np.float32),
        )
        for each in (data(0), data(1))
    )
    result = train_ranker([part], valid, settings=SETTINGS, max_epochs=8, context=(2,))
    assert result.calibration is not None
    assert result.calibration.error < 0.05
    network, inputs = result.ensemble, torch.from_numpy(valid.inputs())
    with torch.no_grad():
        found = torch.sigmoid(network.slope * network.order(inputs) + inputs @ network.context + network.offset)
    busy = valid.features[:, 2] == 1
    for some in (busy, ~busy):
        assert float(found[some].mean()) == pytest.approx(float(valid.labels[some].mean()), abs=0.01)
    one = scores(network, valid, FIRST)
    np.testing.assert_array_equal(np.argsort(one), np.argsort(predict(network, valid.inputs()[FIRST])))


def test_with_few_validation_cases_epochs_are_fixed_with_a_note() -> None:
    result = train_ranker([data(0, questions=5)], data(1, questions=3), settings=SETTINGS)
    assert "3 validation cases" in result.note
    assert result.best_epochs == [len(result.metric[0])]


def test_an_ensemble_is_the_mean_of_its_seeds() -> None:
    part = data(0)
    result = train_ranker([part], None, settings=replace(SETTINGS, seeds=3), max_epochs=1)
    single = [predict(ranker, part.inputs()[FIRST]) for ranker in result.ensemble.rankers]  # type: ignore[arg-type] # a ModuleList of rankers
    np.testing.assert_allclose(scores(result.ensemble, part, FIRST), sigmoid(np.mean(single, axis=0)), atol=1e-5)


def test_scores_do_not_change_when_the_vector_space_is_turned() -> None:
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    user, items = rng.normal(size=6), rng.normal(size=(9, 6))
    one = interactions(torch.from_numpy(user), torch.from_numpy(items))
    other = interactions(torch.from_numpy(user @ turn), torch.from_numpy(items @ turn))
    assert torch.allclose(one, other, atol=1e-9)


def test_pools_without_a_relevant_item_teach_nothing() -> None:
    part = data(0)
    with pytest.raises(ValueError, match="nothing to learn from"):
        train_ranker([replace(part, labels=np.zeros_like(part.labels))], None, settings=SETTINGS)


def test_relevant_items_outside_the_pool_count_as_missed() -> None:
    part = data(0, questions=1, rows=3)
    perfect = replace(part, labels=np.array([1, 0, 0], np.float32), relevant=np.array([2]))
    ideal = 1 + 1 / np.log2(3)
    assert perfect.ndcg(np.array([3, 2, 1], np.float32)) == pytest.approx(1 / ideal)


@pytest.mark.parametrize("extra_scores", [(), (0,), (0, 2)])
def test_the_calibration_is_fitted_on_the_order_that_is_served(
    extra_scores: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the search for the mix added up is what the network computes, to the last bit."""
    fitted_on: list[Scores] = []

    def watch(ensemble: Ensemble, order: Scores, *rest: Any) -> Calibration:
        fitted_on.append(order)
        return calibrate(ensemble, order, *rest)

    monkeypatch.setattr("ranking.ranker.calibrate", watch)
    valid = data(1)
    result = train_ranker([data(0)], valid, settings=SETTINGS, max_epochs=4, extra_scores=extra_scores)
    np.testing.assert_array_equal(predict(result.ensemble, valid.inputs()), fitted_on[0])
    assert fitted_on[0].dtype == np.float32


def test_cases_that_are_spread_are_of_the_whole_data() -> None:
    """The last third of the cases is of another kind: they must not be passed over."""
    every = data(3, questions=30)
    some = every.spread(7)

    assert len(some) == 7
    chosen = [0, 4, 8, 12, 17, 21, 25]
    for at, case in enumerate(chosen):
        one, same = slice(*some.ptr[at : at + 2]), slice(*every.ptr[case : case + 2])
        np.testing.assert_array_equal(some.features[one], every.features[same])
        np.testing.assert_array_equal(some.labels[one], every.labels[same])
        np.testing.assert_array_equal(some.items[one], every.items[same])
    np.testing.assert_array_equal(some.user_vectors, every.user_vectors[chosen])
    assert every.spread(30) is every


def test_the_calibration_that_is_reported_is_of_the_scores_that_are_served() -> None:
    """Where a high score means an unlikely item no slope can be taken over."""
    cases = data(1)
    order = (3 - 6 * cases.labels).astype(np.float32)
    ensemble = Ensemble([], cases.inputs().shape[1])
    found = calibrate(ensemble, order, cases, cases.inputs(), ())

    assert (float(ensemble.slope), float(ensemble.offset)) == (1, 0)
    served = 1 / (1 + np.exp(-order))
    assert sum(guess * rows for guess, _, rows in found.bins) == pytest.approx(float(served.sum()), rel=1e-4)
    assert found.error > 0.8
