"""What is counted of the answers of each version."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.types import Reason, Recommendation, Tier
from server.telemetry.observer import Observer
from server.telemetry.recorder import Call
from server.telemetry.version_counts import (
    BUCKETS,
    SCORES_PER_OCTAVE,
    SHOWN,
    TIMES_PER_OCTAVE,
    Counts,
    VersionCounts,
    add_up,
    bin_of,
    edge_of,
    read_counts,
    write_counts,
)

ROWS = np.arange(1020, 1050, dtype=np.int32)
DEEP = Recommendation(
    rows=ROWS,
    scores=np.linspace(0.3, 0.1, len(ROWS), dtype=np.float32),
    proposed=np.zeros(len(ROWS), np.uint32),
    sources=(),
    explained_by=ROWS,
    tier=Tier.DEEP,
    skipped={},
    dropped={},
    bundle_version="v1",
    scored_rows=30,
    pool_rows=30,
    stage_ms={},
)
CALL = Call("Recommend", "user", "OK", 0, 0.004, "id", 100.0, DEEP, bundle_version="v1")
NO_ROWS = np.empty(0, np.int32)
numbers = st.floats(allow_nan=False, allow_infinity=False)


def lowered(reason: Reason, tier: Tier = Tier.CF) -> Recommendation:
    return replace(DEEP, tier=tier, skipped={Tier.DEEP: reason})


def counted(*calls: Call) -> Counts:
    observer = Observer(["v1", "v2"])
    for call in calls:
        observer.observe(call)
    assert observer.counts["v2"] == VersionCounts()
    return observer.counts["v1"].answered


def test_a_deep_answer_is_counted_with_its_time_its_best_score_and_its_first_items() -> None:
    found = counted(CALL)

    assert (found.calls, found.failed, found.may_be_deep, found.deep, found.empty) == (1, 0, 1, 1, 0)
    assert found.durations == {bin_of(0.004, TIMES_PER_OCTAVE): 1}
    assert found.scores == {bin_of(float(DEEP.scores[0]), SCORES_PER_OCTAVE): 1}
    assert found.shown == Counter(row % BUCKETS for row in ROWS[:SHOWN].tolist())


@pytest.mark.parametrize(
    ("reason", "may_be_deep"),
    [(reason, reason not in {"overloaded", "exercised", "forced", "not_asked", "not_needed"}) for reason in Reason],
)
def test_an_answer_from_below_counts_against_its_version_unless_somebody_kept_it_there(
    reason: Reason, may_be_deep: bool
) -> None:
    found = counted(replace(CALL, answer=lowered(reason)))

    assert (found.may_be_deep, found.deep, found.scores) == (may_be_deep, 0, {})
    assert found.invalid == (reason is Reason.INVALID_SCORES)


def test_a_list_without_an_item_is_empty() -> None:
    empty = replace(lowered(Reason.NO_CANDIDATES), rows=NO_ROWS, scores=np.empty(0, np.float32))
    found = counted(replace(CALL, answer=empty))

    assert (found.empty, found.shown) == (1, {})


@pytest.mark.parametrize(
    ("status", "duration_s", "failed"),
    [("INTERNAL", 0.01, 1), ("CANCELLED", 0.01, 0), ("CANCELLED", 0.11, 1), ("INVALID_ARGUMENT", 0.01, 0)],
)
def test_a_call_without_an_answer_has_failed_where_that_is_our_doing(
    status: str, duration_s: float, failed: int
) -> None:
    found = counted(replace(CALL, status=status, duration_s=duration_s, answer=None))

    assert (found.calls, found.failed, found.may_be_deep) == (1, failed, 0)


def test_a_call_that_ended_before_a_version_was_chosen_is_nobodys() -> None:
    assert counted(replace(CALL, bundle_version="", status="INTERNAL", answer=None)) == Counts()


def test_a_first_row_without_a_score_leaves_no_score() -> None:
    assert counted(replace(CALL, answer=replace(DEEP, scores=np.full(30, np.nan, np.float32)))).scores == {}


@given(st.lists(numbers, min_size=2, max_size=2))
def test_bins_are_in_the_order_of_their_numbers(pair: list[float]) -> None:
    low, high = sorted(pair)

    assert bin_of(low, SCORES_PER_OCTAVE) <= bin_of(high, SCORES_PER_OCTAVE)


@given(st.floats(1e-9, 1e9))
def test_a_number_lies_between_the_edges_of_its_bin_which_are_near(value: float) -> None:
    low, high = (edge_of(bin_of(value, TIMES_PER_OCTAVE) + more, TIMES_PER_OCTAVE) for more in (0, 1))

    assert low <= value < high <= low * (1 + 1 / TIMES_PER_OCTAVE) * (1 + 1e-12)


def test_counts_come_back_from_json_and_add_up() -> None:
    observer = Observer(["v1"])
    observer.observe(CALL)
    before = read_counts(json.loads(json.dumps(observer.to_dict())))
    observer.observe(replace(CALL, answer=lowered(Reason.LATE)))
    after = read_counts(json.loads(json.dumps(observer.to_dict())))

    assert before == {"v1": VersionCounts(answered=counted(CALL))}
    assert (after["v1"] - before["v1"]).answered == counted(replace(CALL, answer=lowered(Reason.LATE)))
    assert add_up([before, {"v2": after["v1"]}, before])["v1"].answered.calls == 2


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"calls": -1}, "v1: answered: calls: -1"),
        ({"calls": 1.5}, "calls"),
        ({"durations": [1]}, "durations"),
        ({"scores": {"high": 1}}, "scores"),
        ({"shown": {"1": None}}, "shown"),
    ],
)
def test_what_is_no_count_is_refused_by_name(change: dict[str, object], names: str) -> None:
    raw = write_counts({"v1": VersionCounts()})
    raw["v1"]["answered"] |= change

    with pytest.raises(ValueError, match=names):
        read_counts(raw)
