"""Shuffling or leaving out an input costs what the input is worth."""

from __future__ import annotations

from ranking.importance import ablation, groups, importance, input_names
from ranking.ranker import train_ranker
from tests.ranking.test_ranker import SETTINGS, data

NAMES = ("history_noise", "trend_true", "price")
"""Feature 1 decides together with the vectors, see ``data``; the others are noise."""


def test_the_inputs_that_decide_come_first() -> None:
    valid = data(1)
    result = train_ranker([data(0, questions=120)], valid, settings=SETTINGS, max_epochs=15)
    found = importance(result.ensemble, valid, NAMES)
    assert {worth.name for worth in found} == set(input_names(NAMES))
    assert found[0].name == "trend_true"
    assert found[0].low > 0
    assert found[1].name in {"tower_dot", "tower_cosine"}
    assert [worth.drop for worth in found] == sorted((worth.drop for worth in found), reverse=True)


def test_leaving_out_a_group_trains_without_exactly_its_columns() -> None:
    valid, train = data(1), data(0, questions=120)
    full = train_ranker([train], valid, settings=SETTINGS, max_epochs=8).ensemble
    asked = []

    def again(without: tuple[int, ...]) -> object:
        asked.append(without)
        return train_ranker([train], valid, settings=SETTINGS, max_epochs=8, without=without).ensemble

    found = ablation(again, full, valid, NAMES)  # type: ignore[arg-type] # an ensemble, seen as object here
    assert groups(NAMES) == {"user": (0,), "trend": (1,), "item": (2,), "tower": (3, 4, 5, 6)}
    assert sorted(asked) == sorted(groups(NAMES).values())
    worth = {one.name: one for one in found}
    assert worth["trend"].low > 0
    assert worth["trend"].drop > worth["item"].drop
