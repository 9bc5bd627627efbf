"""Metrics and spans tell what happened, exactly, and nothing about users or items."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

from core.types import Reason, Recommendation, Tier
from server.telemetry.recorder import CRITICALITIES, METHODS, NO_TIER, OTHER, STATUSES, Call, Telemetry
from tests.server.observed import Facts, Observed, Tally, labels

if TYPE_CHECKING:
    from collections.abc import Iterator

TRACE, CALLER = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331
SAMPLED = f"00-{TRACE:032x}-{CALLER:016x}-01"
UNSAMPLED = f"00-{TRACE:032x}-{CALLER:016x}-00"
STAGES = ("store", "propose", "merge", "retrieve", "score", "select")
SOURCES = ("ann", "co_occurrence", "user_store")


@st.composite
def recommendations(draw: st.DrawFn) -> Recommendation:
    tier = draw(st.sampled_from(Tier))
    size = draw(st.integers(0, 3))
    pool = draw(st.integers(0, 500))
    return Recommendation(
        rows=np.arange(size, dtype=np.int32),
        scores=np.zeros(size, np.float32),
        proposed=np.zeros(size, np.uint32),
        sources=SOURCES[:2],
        explained_by=np.full(size, -1, np.int32),
        tier=tier,
        skipped={above: draw(st.sampled_from(Reason)) for above in Tier if above > tier},
        dropped=draw(st.dictionaries(st.sampled_from(SOURCES), st.sampled_from(Reason))),
        bundle_version="20261121T100000Z",
        scored_rows=draw(st.integers(0, pool)),
        pool_rows=pool,
        stage_ms=draw(st.dictionaries(st.sampled_from(STAGES), st.floats(0, 500))),
    )


calls = st.builds(
    Call,
    method=st.sampled_from(sorted(METHODS)),
    criticality=st.sampled_from(sorted(CRITICALITIES)),
    status=st.sampled_from(sorted(STATUSES)),
    started_ns=st.integers(10**18, 2 * 10**18),
    duration_s=st.floats(0, 2),
    recommendation_id=st.uuids().map(lambda each: each.hex),
    deadline_ms=st.floats(0, 500),
    answer=st.none() | recommendations(),
    parent=st.sampled_from(["", SAMPLED, UNSAMPLED, "no such thing"]),
)
DEEP = Recommendation(
    rows=np.array([41, 42], np.int32),
    scores=np.zeros(2, np.float32),
    proposed=np.zeros(2, np.uint32),
    sources=("ann",),
    explained_by=np.full(2, -1, np.int32),
    tier=Tier.DEEP,
    skipped={},
    dropped={},
    bundle_version="20261121T100000Z",
    scored_rows=30,
    pool_rows=40,
    stage_ms={"store": 0.25, "score": 2.0},
)
CALL = Call(
    method="Recommend",
    criticality="user",
    status="OK",
    started_ns=1_700_000_000_000_000_000,
    duration_s=0.004,
    recommendation_id="c0ffee",
    deadline_ms=80.0,
    answer=DEEP,
)


@given(st.lists(calls, max_size=8))
def test_metrics_and_spans_agree_with_the_calls_exactly(made: list[Call]) -> None:
    observed = Observed()
    for call in made:
        observed.telemetry.record(call)
    facts = [Facts.of_call(call) for call in made]
    tally = observed.tally()
    assert tally == Tally.of(facts)
    assert tally.stage_s == pytest.approx(Tally.of(facts).stage_s)
    assert [Facts.of_span(span) for span in observed.spans] == facts
    assert observed.counts("terrace.request.duration") == tally.requests
    assert sum(observed.sums("terrace.request.duration").values()) == pytest.approx(sum(c.duration_s for c in made))


def test_a_span_is_the_call() -> None:
    observed = Observed()
    answer = replace(DEEP, tier=Tier.CF, skipped={Tier.DEEP: Reason.LATE}, dropped={"ann": Reason.FAILED})
    observed.telemetry.record(replace(CALL, answer=answer))
    (span,) = observed.spans
    assert span.pop("trace")
    assert span == {
        "name": "terrace.v1.RecommendationService/Recommend",
        "start_ns": CALL.started_ns,
        "end_ns": CALL.started_ns + 4_000_000,
        "parent": None,
        "error": False,
        "rpc.system.name": "grpc",
        "rpc.method": "terrace.v1.RecommendationService/Recommend",
        "rpc.response.status_code": "OK",
        "terrace.criticality": "user",
        "terrace.deadline_ms": 80.0,
        "terrace.recommendation_id": "c0ffee",
        "terrace.tier": "CF",
        "terrace.skipped.DEEP": "late",
        "terrace.dropped.ann": "failed",
        "terrace.bundle_version": "20261121T100000Z",
        "terrace.rows.scored": 30,
        "terrace.rows.pool": 40,
        "terrace.stage_ms.store": 0.25,
        "terrace.stage_ms.score": 2.0,
    }


def test_a_call_without_an_answer_is_counted_all_the_same() -> None:
    observed = Observed()
    observed.telemetry.record(replace(CALL, answer=None, status="RESOURCE_EXHAUSTED", criticality="batch"))
    shed = labels(method="Recommend", status="RESOURCE_EXHAUSTED", tier=NO_TIER, criticality="batch")
    assert observed.counts("terrace.requests") == {shed: 1}
    assert observed.names() == {"terrace.requests", "terrace.request.duration"}
    assert observed.spans[0]["terrace.tier"] == NO_TIER


@pytest.mark.parametrize(("status", "error"), [("INTERNAL", True), ("INVALID_ARGUMENT", False), ("CANCELLED", False)])
def test_a_span_is_an_error_when_the_server_is_at_fault(status: str, error: bool) -> None:
    observed = Observed()
    observed.telemetry.record(replace(CALL, answer=None, status=status))
    assert observed.spans[0]["error"] is error


def test_values_outside_their_lists_make_no_new_series() -> None:
    observed = Observed()
    for i in range(100):
        observed.telemetry.record(replace(CALL, method=f"m{i}", criticality=f"c{i}", status=f"s{i}"))
    only = labels(method=OTHER, status=OTHER, tier="DEEP", criticality=OTHER)
    assert observed.counts("terrace.requests") == observed.counts("terrace.request.duration") == {only: 100}
    assert {span["name"] for span in observed.spans} == {OTHER}


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, ParentBased(ALWAYS_OFF)])
def test_calls_that_are_not_sampled_are_counted_and_leave_no_span(sampler: Any) -> None:
    observed = Observed(sampler)
    observed.telemetry.record(CALL)
    observed.telemetry.record(replace(CALL, parent=UNSAMPLED))
    assert observed.tally() == Tally.of([Facts.of_call(CALL)] * 2)
    assert observed.spans == []


def test_a_span_joins_its_callers_trace() -> None:
    observed = Observed(ParentBased(ALWAYS_OFF))
    observed.telemetry.record(replace(CALL, parent=SAMPLED))
    (span,) = observed.spans
    assert (span["trace"], span["parent"]) == (TRACE, CALLER)


@pytest.mark.parametrize(
    "parent",
    [
        "00",
        SAMPLED.upper(),
        SAMPLED[:-1],
        SAMPLED + "-more",
        f"ff{SAMPLED[2:]}",
        f"00-{0:032x}-{CALLER:016x}-01",
        f"00-{TRACE:032x}-{0:016x}-01",
        "\u0660" * 55,
        "0" * 8000,
    ],
)
def test_a_malformed_parent_counts_as_none(parent: str, caplog: pytest.LogCaptureFixture) -> None:
    observed = Observed()
    observed.telemetry.record(replace(CALL, parent=parent))
    assert [span["parent"] for span in observed.spans] == [None]
    assert caplog.messages == []


def test_recording_never_raises_and_logs_that_seldom(caplog: pytest.LogCaptureFixture) -> None:
    observed = Observed()
    broken: Any = None
    for _ in range(3):
        observed.telemetry.record(replace(CALL, answer=replace(DEEP, skipped=broken)))
    observed.telemetry.record(CALL)
    assert [record.name for record in caplog.records] == ["server.telemetry.recorder"]
    assert observed.counts("terrace.rows.pool") == {labels(method="Recommend", tier="DEEP"): 40}


def test_parts_are_read_when_metrics_are_collected() -> None:
    observed = Observed()
    state = {"closed": 1, "open": 0}
    opened = 0

    def breakers() -> Iterator[tuple[float, dict[str, str]]]:
        return ((value, {"state": name}) for name, value in state.items())

    observed.telemetry.add_observable("terrace.breaker", "1", "State.", breakers)
    observed.telemetry.add_observable("terrace.breaker.opened", "1", "Times.", lambda: [(opened, {})], kind="counter")
    assert observed.counts("terrace.breaker") == Counter({labels(state="closed"): 1})
    state, opened = {"closed": 0, "open": 1}, 5
    assert observed.counts("terrace.breaker") == Counter({labels(state="open"): 1})
    assert observed.counts("terrace.breaker.opened") == {labels(): 5}


def test_a_part_that_cannot_be_read_hides_no_other(caplog: pytest.LogCaptureFixture) -> None:
    observed = Observed()
    observed.telemetry.add_observable("terrace.broken", "1", "Raises.", lambda: [(1 / 0, {})])
    observed.telemetry.add_observable("terrace.limit", "{call}", "Works.", lambda: [(3, {})])
    observed.telemetry.record(CALL)
    assert "terrace.limit" in observed.names()
    assert observed.tally() == Tally.of([Facts.of_call(CALL)])
    assert "terrace.broken" in caplog.text


def test_telemetry_that_goes_nowhere_reads_nothing() -> None:
    telemetry = Telemetry()
    telemetry.record(CALL)
    telemetry.add_observable("terrace.limit", "1", "Never read.", lambda: pytest.fail("read"))
