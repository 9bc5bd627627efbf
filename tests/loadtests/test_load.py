"""A scenario for a few seconds: real server, store and callers on a tiny bundle, figures without meaning."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from core.types import Tier
from loadtests import load
from loadtests.history import CRITICALITIES, Run
from loadtests.place import Place
from loadtests.plan import MIXED, Phase
from loadtests.scenarios import Scenario
from loadtests.targets import at_least, in_time, judge, tier_share
from terrace.v1 import recommendation_pb2 as pb

if TYPE_CHECKING:
    from pathlib import Path

    from loadtests.place import Made

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Place(tmp_path_factory.mktemp("bench")).made(3_000, 1_000)


def test_a_run_through_faults_has_a_history_that_shows_them(made: Made, tmp_path: Path) -> None:
    phases = (
        Phase("before", 0.3, seconds=9, short=2, cold=0.5),
        Phase("gone", 0.3, seconds=9, short=2, fault="store_gone"),
        Phase("back", 0.3, seconds=9, short=4),
        Phase("hung", 0.3, seconds=9, short=3, fault="model_hangs"),
    )
    targets = (at_least(0.0, in_time("before"), "any"), at_least(0.0, tier_share("back", Tier.DEEP, skip_s=3), "any"))
    scenario = Scenario("tiny", "Does it run?", MIXED, phases, targets)

    run = load.play(scenario, made, tmp_path, short=True)

    assert run.capacity > 0
    assert [span.seconds for span in run.spans] == [2, 2, 4, 3]
    for span in run.spans:
        assert len(run.during(span.name)) == pytest.approx(span.rate * span.seconds, rel=0.35)
    assert set(run.history.who.tolist()) == set(range(len(CRITICALITIES)))
    assert 0.3 < run.during("before").known.mean() < 0.7
    assert run.during("gone").known.all()
    gone, hung = run.during("gone", skip_s=0.5), run.during("hung", skip_s=0.5)
    assert not (gone.tier == Tier.DEEP).any()
    store = {pb.REASON_STORE_FAILED, pb.REASON_STORE_LATE, pb.REASON_BREAKER_OPEN}
    others = {pb.REASON_NO_TIME, pb.REASON_OVERLOADED, pb.REASON_EXERCISED}
    assert set(gone.reason[gone.answered].tolist()) <= store | others
    assert not (hung.tier == Tier.DEEP).any()
    assert all(verdict.met for verdict in judge(run, targets))
    run.save(tmp_path / "tiny.npz")
    assert len(Run.load(tmp_path / "tiny.npz").history) == len(run.history)


def test_no_scenario_of_another_name_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load.main(["--short", "stedy"])
    assert "no scenario is called stedy" in capsys.readouterr().err


def test_the_exit_code_says_whether_targets_are_met(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phases = (Phase("p", 0.2, seconds=2, short=2),)
    easy = Scenario("easy", "?", MIXED, phases, (at_least(0.0, in_time("p"), "any"),))
    hard = Scenario("hard", "?", MIXED, phases, (at_least(1.1, in_time("p"), "none"),))
    monkeypatch.setattr(load, "SCENARIOS", {"easy": easy, "hard": hard})
    easy_run = load.play(easy, made, tmp_path, short=True)
    for name in ("easy", "hard"):
        easy_run.save(tmp_path / f"{name}.npz")
    again = ["--again", "--out", str(tmp_path)]
    codes = {name: load.main([name, *again]) for name in ("easy", "hard")}
    if codes["easy"] == load.INVALID:
        pytest.skip("the machine was too busy for the callers")
    assert codes == {"easy": 0, "hard": load.MISSED}
    assert sys.modules.get("gevent") is None  # Locust stays in the process that calls
