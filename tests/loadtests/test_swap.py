"""The load test of swaps: its smallest form with real processes, and what it makes of calls."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from loadtests.swap import Form, play
from loadtests.swap_callers import LIMIT, MARK, PATIENCE_S, is_mixed
from loadtests.swap_figures import Calls, Change, Moments, figures, missed, slope
from loadtests.workspace import Workspace
from terrace.v1 import recommendation_pb2 as pb

if TYPE_CHECKING:
    from pathlib import Path

FAILED = 14
GOOD = {
    "failed_calls": 0,
    "mixed_answers": 0,
    "sigterm_failed_calls": 0,
    "sigterm_exit_code": 0,
    "p99_ratio": 1.5,
    "promote_s": 1.0,
    "rollback_s": 0.2,
}


def calls(*rows: tuple[float, float, str], failed: tuple[int, ...] = (), mixed: tuple[int, ...] = ()) -> Calls:
    """Calls of (meant_s, took_ms, version)."""
    meant_s, took_ms, versions = zip(*rows, strict=True)
    places = range(len(rows))
    return Calls(
        meant_s=np.array(meant_s),
        late_ms=np.zeros(len(rows)),
        took_ms=np.array(took_ms),
        status=np.array([FAILED if place in failed else 0 for place in places]),
        tier=np.array([0 if place in failed else pb.TIER_DEEP for place in places]),
        mixed=np.array([float(place in mixed) for place in places]),
        versions=["" if place in failed else version for place, version in zip(places, versions, strict=True)],
        cores=0.1,
    )


CHANGES = [
    Change("first", 0.0, 0.1, "v0"),
    Change("promote", 10.0, 10.1, "v1"),
    Change("rollback", 20.0, 20.1, "v0"),
]
MOMENTS = Moments(changes=CHANGES, steady=[(1.0, 5.0)], replacing=[(5.0, 9.0)], sigterm=[(25.0, 30.0)])


def test_the_time_of_a_change_runs_until_the_last_answer_from_before_it() -> None:
    found = figures(
        calls((2, 10, "v0"), (6, 20, "v0"), (10.3, 100, "v0"), (10.6, 10, "v1"), (20.05, 50, "v1"), (20.2, 10, "v0")),
        MOMENTS,
    )

    assert found["promotes_s"] == [pytest.approx(0.3)]
    assert found["rollbacks_s"] == [pytest.approx(0.0)]
    assert found["p99_ratio"] == pytest.approx(2)
    assert (found["failed_calls"], found["mixed_answers"]) == (0, 0)


@pytest.mark.parametrize(
    ("meant_s", "version", "mixed"),
    [
        (9.0, "v1", 1),  # before anybody promoted it
        (10.05, "v1", 0),  # while the document is written
        (10.9, "v0", 0),  # a worker may not have seen the document
        (11.5, "v0", 1),  # it must have by now
        (19.0, "v0", 1),
        (20.5, "v1", 0),
        (22.0, "v1", 1),
    ],
)
def test_an_answer_is_of_a_version_that_a_document_allowed_within_the_last_second(
    meant_s: float, version: str, mixed: int
) -> None:
    found = figures(calls((2, 10, "v0"), (6, 10, "v0"), (meant_s, 10, version)), MOMENTS)

    assert found["mixed_answers"] == mixed


def test_a_call_that_failed_is_counted_and_takes_as_long_as_a_caller_waits() -> None:
    found = figures(
        calls((2, 10, "v0"), (6, 10, "v0"), (7, 10, "v0"), (26, 10, "v0"), failed=(2, 3)),
        MOMENTS,
    )

    assert (found["failed_calls"], found["sigterm_calls"], found["sigterm_failed_calls"]) == (2, 1, 1)
    assert found["failed_statuses"] == {"UNAVAILABLE": 2}
    assert found["replacing"]["max_ms"] == PATIENCE_S * 1000


def test_an_answer_has_items_of_the_version_that_it_names_and_no_other() -> None:
    def answer(*ids: str) -> pb.RecommendResponse:
        items = [pb.RecommendedItem(item_id=each) for each in (*ids, *(f"plain-{i}" for i in range(LIMIT - len(ids))))]
        return pb.RecommendResponse(items=items, info=pb.AnswerInfo(bundle_version="v1"))

    assert not is_mixed(answer())
    assert not is_mixed(answer(f"a{MARK}v1", f"b{MARK}v1"))
    assert is_mixed(answer(f"a{MARK}v0"))
    assert is_mixed(answer(f"a{MARK}v0", f"b{MARK}v1"))
    assert is_mixed(pb.RecommendResponse(info=pb.AnswerInfo(bundle_version="v1")))


def test_figures_that_miss_their_target_are_named() -> None:
    assert missed(GOOD, "") == []
    assert missed(GOOD | {"promote_s": 1.2}, "") == ["promote_s is 1.2, at most 1"]
    assert missed(GOOD | {"p99_ratio": np.inf}, "") == ["p99_ratio is inf, at most 1.5"]


def test_a_busy_machine_excuses_times_and_no_failed_call() -> None:
    assert missed(GOOD | {"promote_s": 1.2, "p99_ratio": 3.0}, "others used it") == []
    assert missed(GOOD | {"failed_calls": 1}, "others used it") == ["failed_calls is 1, at most 0"]


def test_a_slope_is_growth_from_one_swap_to_the_next() -> None:
    assert slope([5.0, 7.0, 9.0]) == pytest.approx(2)
    assert slope([5.0]) == 0


def test_the_smallest_run_fails_no_call_and_mixes_no_items(folder: Path, tmp_path: Path) -> None:
    """Whether an answer is of a version that is allowed by now depends on the machine's speed, and is not asked here."""
    made = Workspace(folder, quick=True).benchmark_data()
    form = Form(swaps=1, search_s=0.5, steady_s=0.5, age_s=0.5, flips=1, rate=30.0)
    found: dict[str, Any] = play(made, tmp_path / "swap", form)

    assert json.loads(json.dumps(found))["calls"] > 0
    assert (found["swaps"], found["failed_calls"], found["mixed_items"]) == (1, 0, 0)
    assert (found["sigterm_failed_calls"], found["sigterm_exit_code"]) == (0, 0)
    assert len(found["promotes_s"]) == 2
    assert len(found["rollbacks_s"]) == 1
    assert len(found["soak"]["pss_mb"]) == 2
