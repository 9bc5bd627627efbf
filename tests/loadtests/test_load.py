"""A scenario for a few seconds: real server, store and callers on a tiny bundle, figures without meaning."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from core.types import Tier
from loadtests import load
from loadtests.history import CRITICALITIES, Run
from loadtests.plan import MIXED, Phase, Span
from loadtests.scenarios import Scenario
from loadtests.targets import at_least, in_time, judge, tier_share
from loadtests.workspace import Workspace
from terrace.v1 import recommendation_pb2 as pb
from tests.loadtests.toy_runs import calls, overload, run

if TYPE_CHECKING:
    from pathlib import Path

    from loadtests.workspace import SyntheticData


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SyntheticData:
    return Workspace(tmp_path_factory.mktemp("bench")).synthetic(3_000, 1_000)


@pytest.mark.slow
def test_a_run_through_faults_has_a_history_that_shows_them(made: SyntheticData, tmp_path: Path) -> None:
    phases = (
        Phase("before", 0.3, seconds=9, short=2, cold=0.5),
        Phase("gone", 0.3, seconds=9, short=2, fault="store_gone"),
        Phase("back", 0.3, seconds=9, short=4),
        Phase("hung", 0.3, seconds=9, short=3, fault="model_hangs"),
    )
    targets = (at_least(0.0, in_time("before"), "any"), at_least(0.0, tier_share("back", Tier.DEEP, skip_s=3), "any"))
    scenario = Scenario("tiny", "Does it run?", MIXED, phases, targets)

    found = load.play(scenario, made, tmp_path, short=True)

    assert found.capacity > 0
    assert [span.seconds for span in found.spans] == [2, 2, 4, 3]
    for span in found.spans:
        assert len(found.during(span.name)) == pytest.approx(span.rate * span.seconds, rel=0.35)
    assert set(found.history.who.tolist()) == set(range(len(CRITICALITIES)))
    assert 0.3 < found.during("before").known.mean() < 0.7
    assert found.during("gone").known.all()
    gone, hung = found.during("gone", skip_s=0.5), found.during("hung", skip_s=0.5)
    assert not (gone.tier == Tier.DEEP).any()
    store = {pb.REASON_STORE_FAILED, pb.REASON_STORE_LATE, pb.REASON_BREAKER_OPEN}
    others = {pb.REASON_NO_TIME, pb.REASON_OVERLOADED, pb.REASON_EXERCISED}
    assert set(gone.reason[gone.answered].tolist()) <= store | others
    assert not (hung.tier == Tier.DEEP).any()
    assert all(verdict.met for verdict in judge(found, targets))
    found.save(tmp_path / "tiny.npz")
    assert len(Run.load(tmp_path / "tiny.npz").history) == len(found.history)


def test_no_scenario_of_another_name_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load.main(["--short", "stedy"])
    assert "no scenario is called stedy" in capsys.readouterr().err


def test_the_exit_code_is_of_the_worst_run_and_a_late_caller_makes_it_invalid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phases = (Phase("2x", 2.0, seconds=10, short=10),)
    easy = Scenario("easy", "?", MIXED, phases, (at_least(0.5, in_time("2x"), "half are shed"),))
    hard = Scenario("hard", "?", MIXED, phases, (at_least(0.6, in_time("2x"), "more than there is"),))
    monkeypatch.setattr(load, "SCENARIOS", {"easy": easy, "hard": hard, "late": easy, "busy": easy})
    late = run(calls(0, 10, 97), calls(0, 10, 3, late_ms=10.1), spans=(Span("2x", 0, 10, 100),))
    busy = replace(overload(), conditions={**overload().conditions, "machine_trouble": "others"})
    for name, found in {"easy": overload(), "hard": overload(), "late": late, "busy": busy}.items():
        replace(found, scenario=name).save(tmp_path / f"{name}.npz")
    again = ["--again", "--out", str(tmp_path)]

    codes = [load.main([*names, *again]) for names in (["easy"], ["hard"], ["late"], ["busy"], ["hard", "easy"])]

    assert codes == [0, load.MISSED, load.INVALID, load.INVALID, load.MISSED]
    assert sys.modules.get("gevent") is None  # Locust stays in the process that calls
