"""Evaluation drives the serving code once per question and adds nothing to its answers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from core.catalogue import Catalogue
from core.manifest import Manifest
from core.types import Candidates, Recommendation, Tier, UserState
from offline.evaluate import evaluate
from offline.split import Cases

if TYPE_CHECKING:
    from core.query import Request
    from core.types import Query, Rows

N = 6


class Listed:
    """A generator that always proposes the same rows."""

    inline = True

    def __init__(self, name: str, rows: list[int]) -> None:
        self.name, self.rows = name, np.array(rows, np.int32)

    def generate(self, query: Query, limit: int) -> Candidates:
        del query
        rows = self.rows[:limit]
        return Candidates(self.name, rows, np.arange(len(rows), 0, -1).astype(np.float32))


class Recorded:
    """A served bundle whose answer to each tier is given; notes what it was asked."""

    def __init__(self, lists: dict[Tier, list[int]]) -> None:
        catalogue = Catalogue(
            ids=[f"i{n}" for n in range(N)],
            available=np.ones(N, np.bool_),
            price=np.ones(N, np.float32),
            created_at=np.zeros(N, np.int64),
            category_ptr=np.zeros(N + 1, np.int32),
            category_idx=np.empty(0, np.int32),
            category_names=(),
            attributes={},
        )
        manifest = Manifest("v", "", 0.0, "", N, {}, (), (), {}, {})
        self.bundle: Any = SimpleNamespace(
            catalogue=catalogue,
            manifest=manifest,
            scorer=object() if Tier.DEEP in lists else None,
            encoder=None,
            generators=(Listed("first", [0, 1, 2]), Listed("second", [2, 3])),
            limits={"first": 2, "second": 2},
        )
        self.lists = lists
        self.asked: list[tuple[str, float, Tier]] = []

    def recommend(self, request: Request, user: UserState, now_s: float, max_tier: Tier) -> Recommendation:
        del user
        self.asked.append((request.user_id, now_s, max_tier))
        rows: Rows = np.array(self.lists[max_tier][: request.limit], np.int32)
        nothing = np.zeros(len(rows), np.uint32)
        scores = np.zeros(len(rows), np.float32)
        return Recommendation(rows, scores, nothing, (), rows, max_tier, {}, {}, "v", 0, 0, {})


CASES = Cases(
    users=np.array([4, 9]),
    ends=np.array([0, 0]),
    asked_at_s=np.array([50.0, 60.0]),
    relevant=(np.array([2], np.int32), np.array([0, 5], np.int32)),
)
STATES = [UserState(), UserState()]


def test_every_rung_is_asked_every_question_at_its_own_time() -> None:
    served = Recorded({Tier.POPULARITY: [1, 3], Tier.CF: [0, 2], Tier.DEEP: [2, 0]})
    evaluate(served, CASES, STATES)
    rungs = (Tier.POPULARITY, Tier.CF, Tier.DEEP)
    assert served.asked == [(user, at, rung) for rung in rungs for user, at in (("4", 50.0), ("9", 60.0))]


def test_the_order_of_the_rungs_is_measured_and_not_assumed() -> None:
    """A popularity list that is better than CF's is said to be."""
    served = Recorded({Tier.POPULARITY: [2, 0, 5], Tier.CF: [3, 4, 1]})
    found = evaluate(served, CASES, STATES)
    assert found["order"] == ["CF", "POPULARITY"]
    assert found["differences"]["CF - POPULARITY"]["ndcg@20"]["mean"] < 0
    assert "DEEP" not in found["rungs"]


def test_recall_of_a_rung_is_the_share_of_relevant_items_in_its_lists() -> None:
    served = Recorded({Tier.POPULARITY: [2, 0], Tier.CF: [1]})
    found = evaluate(served, CASES, STATES)
    assert found["rungs"]["POPULARITY"]["recall@20"]["mean"] == pytest.approx((1 + 0.5) / 2)
    assert found["rungs"]["POPULARITY"]["coverage"] == pytest.approx(2 / N)


def test_generators_are_judged_alone_and_by_the_pool_they_make_together() -> None:
    """The pool holds each generator's share of candidates; alone each is asked for far more."""
    found = evaluate(Recorded({Tier.POPULARITY: [0], Tier.CF: [0]}), CASES, STATES)["generators"]
    assert found["first"]["recall@50"] == pytest.approx((1 + 0.5) / 2)
    assert found["second"]["recall@50"] == pytest.approx((1 + 0) / 2)
    assert found["union"]["recall"] == pytest.approx((1 + 0.5) / 2)
    assert found["union"]["rows"] == pytest.approx(4)
