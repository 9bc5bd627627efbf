"""Lists that are some hours old: made from what was known then, served by the serving code, held against the present."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from core.types import Tier
from offline.evaluate.list_ages import (
    ENOUGH_CASES,
    NIGHT_H,
    above_cf,
    active_moments,
    list_ages,
    lists_made_before,
    with_list,
)
from offline.evaluate.recommended_lists import EvaluationSet
from offline.read.event_log import EventLog
from offline.split.cases import Cases
from offline.split.cuts import ShareCut, TimeCut
from offline.split.windows import Window
from server.rungs.work_pool import WorkPool
from terrace.cli.served import InProcess
from tests.server import toy

if TYPE_CHECKING:
    from collections.abc import Iterator

VIEW, PURCHASE = 1, 2
HOUR_S = 3_600
MOMENT_S = 1_000 * HOUR_S
TYPES = ("view", "purchase")


class ByTheNewest(toy.ToyScorer):
    """Scores a row by its distance from the newest item of the history."""

    def score(self, query: Any, pool: Any, stop: Any = None) -> Any:
        del stop
        return -np.abs(pool.rows - query.history[0]).astype(np.float32)


@pytest.fixture
def served() -> Iterator[InProcess]:
    """The pipeline that serves, over the toy bundle."""
    one = InProcess.__new__(InProcess)
    one._loop = asyncio.new_event_loop()
    one._work = WorkPool(threads=1, max_jobs=4)
    one._answer_from(toy.bundle(scorer=ByTheNewest()))
    with one:
        yield one


def world_of(*events: tuple[int, float, int, int]) -> Any:
    """(user, hours before the moment, item, type), in the order of users and times."""
    users = np.array([user for user, *_ in events])
    log = EventLog(
        ptr=np.searchsorted(users, np.arange(users.max() + 2)).astype(np.int64),
        items=np.array([item for _, _, item, _ in events], np.int32),
        types=np.array([kind for *_, kind in events], np.int8),
        weights=np.ones(len(events), np.float32),
        times=np.array([MOMENT_S - hours * HOUR_S for _, hours, _, _ in events], np.int64),
    )
    data = SimpleNamespace(catalogue=toy.catalogue(), event_types=TYPES)
    hidden, targets = frozenset({PURCHASE}), frozenset({PURCHASE})

    def user_states(cases: Cases) -> list[Any]:
        ids = data.catalogue.ids
        pairs = zip(cases.users, cases.ends, strict=True)
        return [log.user_state(int(user), int(end), ids, TYPES, hidden) for user, end in pairs]

    return SimpleNamespace(log=log, data=data, hidden=hidden, targets=targets, user_states=user_states)


def asked(world: Any, *relevant: list[int]) -> EvaluationSet:
    """Every user at the moment."""
    log = world.log
    ends = log.ends_before(float(MOMENT_S))
    rows = tuple(np.array(each, np.int32) for each in relevant)
    cases = Cases(np.arange(log.n_users), ends, np.full(log.n_users, float(MOMENT_S)), rows)
    return EvaluationSet(cases, world.user_states(cases))


WORLD = world_of(
    (0, 200, 11, VIEW), (0, 8, 31, VIEW), (0, 0.5, 43, PURCHASE), (0, -1, 44, PURCHASE),
    (1, 3, 21, VIEW), (1, -1, 22, PURCHASE),
)  # fmt: skip
NEAR_11, NEAR_31, NEAR_43, NEAR_21 = ({row - 1, row, row + 1, row + 2} for row in (12, 32, 44, 22))


@pytest.mark.parametrize(("hours", "newest"), [(1, 31), (6, 31), (24, 11), (168, 11)])
def test_a_list_is_made_from_what_was_known_so_many_hours_earlier(served: InProcess, hours: float, newest: int) -> None:
    first, second = lists_made_before(served, WORLD, asked(WORLD, [44], [22]), hours * HOUR_S)

    assert first is not None
    assert first.created_s == MOMENT_S - hours * HOUR_S
    assert abs(int(first.rows[0]) - newest) <= 3
    assert (second is None) == (hours > 3)


def test_what_was_bought_since_is_not_in_the_list_as_it_is_served(served: InProcess) -> None:
    moments = asked(WORLD, [44], [22])
    made, _ = lists_made_before(served, WORLD, moments, 24 * HOUR_S)
    assert made is not None
    bought = 43

    state = with_list(moments.states[0], made._replace(rows=np.array([bought, *made.rows[:-1]], np.int32)))
    answer = served.recommend(moments.request(0), state, float(MOMENT_S), Tier.PRECOMPUTED)

    assert answer.tier is Tier.PRECOMPUTED
    assert bought not in answer.rows
    assert answer.rows[0] == made.rows[0]


def test_each_age_has_its_cases_and_how_many_were_active_since(served: InProcess) -> None:
    found = list_ages(served, WORLD, asked(WORLD, [44], [22]))

    assert found is not None
    assert found["cases"] == 2
    by_hours = {age["hours"]: age for age in found["ages"]}
    assert {hours: age["cases"] for hours, age in by_hours.items()} == {1.0: 2, 6.0: 1, 24.0: 1, 168.0: 1}
    assert by_hours[1.0]["active_since"] == 0.5
    assert by_hours[1.0]["after_activity"]["cases"] == 1
    assert (by_hours[24.0]["covered"], by_hours[24.0]["active_since"]) == (0.5, 1.0)
    for age in found["ages"]:
        assert set(age["rungs"]) == {"CF", "PRECOMPUTED", "DEEP"}
        assert set(age["differences"]) == {"PRECOMPUTED - CF", "PRECOMPUTED - DEEP"}


def test_a_list_that_did_not_see_the_newest_event_is_worth_less_than_a_fresh_answer(served: InProcess) -> None:
    found = list_ages(served, WORLD, asked(WORLD, [44], [22]), ages_h=(24.0,))

    assert found is not None
    (night,) = found["ages"]
    assert night["rungs"]["DEEP"]["ndcg@20"]["mean"] > night["rungs"]["PRECOMPUTED"]["ndcg@20"]["mean"]
    assert night["differences"]["PRECOMPUTED - DEEP"]["ndcg@20"]["mean"] < 0


def test_where_nothing_happened_since_a_list_is_what_the_deep_rung_answers(served: InProcess) -> None:
    world = world_of((0, 30, 11, VIEW), (0, -1, 12, PURCHASE))

    found = list_ages(served, world, asked(world, [12]), ages_h=(1.0, 24.0))

    assert found is not None
    for age in found["ages"]:
        assert age["active_since"] == 0
        assert age["after_activity"] is None
        assert age["rungs"]["PRECOMPUTED"] == age["rungs"]["DEEP"]


def test_nothing_is_measured_without_a_model_or_without_times(served: InProcess) -> None:
    moments = asked(WORLD, [44], [22])
    served._answer_from(toy.bundle(deep=False))
    window = Window(TimeCut(float(MOMENT_S)), TimeCut(MOMENT_S + 2.0 * HOUR_S))

    assert list_ages(served, WORLD, moments) is None
    assert list_ages(served, WORLD, None) is None
    assert active_moments(WORLD, Window(ShareCut(20), ShareCut(0)), 10) is None
    assert len(active_moments(WORLD, window, 10) or ()) == 2
    assert len(active_moments(WORLD, window, 1) or ()) == 1


def step(mean: float, low: float, high: float, cases: int, hours: float = NIGHT_H) -> dict[str, Any]:
    found = {"mean": mean, "low": low, "high": high}
    return {"ages": [{"hours": hours, "cases": cases, "differences": {"PRECOMPUTED - CF": {"ndcg@20": found}}}]}


@pytest.mark.parametrize(
    ("figures", "above"),
    [
        (None, True),
        ({"ages": []}, True),
        (step(0.01, -0.01, 0.03, 500), True),
        (step(-0.001, -0.01, 0.01, ENOUGH_CASES), False),
        (step(-0.001, -0.01, 0.01, ENOUGH_CASES - 1), True),
        (step(-0.03, -0.05, -0.01, 20), False),
        (step(-0.03, -0.05, -0.01, 500, hours=1.0), True),
    ],
)
def test_lists_stand_below_cf_where_those_of_last_night_are_worse(figures: dict[str, Any] | None, above: bool) -> None:
    assert above_cf(figures) is above
