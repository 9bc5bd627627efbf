"""How a guarded rollout goes on, with simulated replicas and a clock of the test's own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from core.release import Release, ReleaseArgumentError
from server.release.comparison import Thresholds, Verdict
from server.release.rollout import Act, Decision, Plan, Rollout
from tests.server.release.traffic import Behaviour, Traffic

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL_S = 5.0
STAGED = Release.of("v1").stage("v2")
USUAL = Behaviour()
PLAN = Plan("v2", hold_s=60.0)
HOUR_S = 3600.0


class Simulation:
    """A rollout of v2 beside v1, and the decisions it makes."""

    def __init__(self, v2: Behaviour = USUAL, plan: Plan = PLAN, release: Release = STAGED, **traffic: object) -> None:
        self.traffic = Traffic({"v1": USUAL, "v2": v2}, **traffic)  # type: ignore[arg-type]
        self.rollout = Rollout(plan)
        self.release = release
        self.now_s = 1e6
        self.decisions: list[Decision] = []

    def look(self, not_ready: str | None = None) -> Decision:
        """Let an interval pass, decide, and do it."""
        self.now_s += INTERVAL_S
        self.traffic.go_on(self.release, INTERVAL_S)
        published = self.traffic.published
        decision = self.rollout.look(self.release, list(published), not_ready, published, self.now_s)
        self.decisions.append(decision)
        match decision.act:
            case Act.SHADOW:
                self.release = self.release.with_shadow(decision.share)
            case Act.SHARE:
                self.release = self.release.with_share(decision.share)
            case Act.PROMOTE:
                self.release = self.release.promote()
            case Act.WITHDRAW:
                self.release = self.release.withdraw("v2", decision.why)
        return decision

    def run(self, until: Callable[[Decision], bool] = lambda _: False, longest_s: float = HOUR_S) -> Decision:
        """Look until it ends, or something holds."""
        end_s = self.now_s + longest_s
        while self.now_s < end_s:
            decision = self.look()
            if decision.act in {Act.WITHDRAW, Act.HELD, Act.DONE} or until(decision):
                return decision
        return self.decisions[-1]

    @property
    def acts(self) -> list[tuple[Act, float]]:
        return [(each.act, each.share) for each in self.decisions if each.act is not Act.WAIT]


def test_a_version_that_is_no_worse_goes_through_all_steps_and_is_promoted() -> None:
    found = Simulation()
    found.run()

    steps = [(Act.SHARE, share) for share in (0.01, 0.05, 0.25)]
    assert found.acts == [(Act.SHADOW, 0.02), *steps, (Act.PROMOTE, 0.0), (Act.DONE, 0.0)]
    assert found.release.live_version == "v2"
    assert len(found.decisions) * INTERVAL_S >= 5 * PLAN.hold_s


WORSE = {
    "errors": replace(USUAL, failed=0.05),
    "p99": replace(USUAL, typical_s=0.012),
    "deep": replace(USUAL, from_below=0.2),
    "invalid": replace(USUAL, invalid=0.02),
    "empty": replace(USUAL, empty=0.1),
}


@pytest.mark.parametrize("measure", WORSE)
def test_a_version_that_turns_worse_is_withdrawn_within_a_minute(measure: str) -> None:
    found = Simulation(plan=replace(PLAN, shadow=0.0, steps=(0.25, 1.0), hold_s=HOUR_S), rate=2_000, sample=2_500)
    found.run(longest_s=600)
    assert found.release.candidate_share == 0.25
    found.traffic.behaviours["v2"] = WORSE[measure]
    begun_s = found.now_s
    last = found.run()

    assert last.act is Act.WITHDRAW
    assert found.now_s - begun_s <= 45  # and replicas take a few seconds to tell and to follow
    assert last.why.startswith(f"{measure}: ")
    assert found.release.frozen == {"v2": last.why}
    assert (found.release.live_version, found.release.candidate_share) == ("v1", 0.0)


@pytest.mark.parametrize("measure", [measure for measure in WORSE if measure != "p99"])
def test_a_version_that_is_worse_unseen_is_withdrawn_before_a_user_sees_it(measure: str) -> None:
    found = Simulation(WORSE[measure], rate=4_000)
    last = found.run()

    assert (found.acts, last.why.startswith(f"{measure}: ")) == ([(Act.SHADOW, 0.02), (Act.WITHDRAW, 0.0)], True)


DIFFERENT = {
    "scores": replace(USUAL, typical_score=0.2),
    "overlap": replace(USUAL, overlap=10),
    "coverage": replace(USUAL, kinds=50),
}


@pytest.mark.parametrize("measure", DIFFERENT)
def test_a_version_that_is_only_different_is_held_for_a_person_to_look(measure: str) -> None:
    found = Simulation(DIFFERENT[measure])
    last = found.run()

    assert (found.acts, last.why.startswith(f"{measure}: ")) == ([(Act.SHADOW, 0.02), (Act.HELD, 0.0)], True)
    assert found.release.frozen == {}


def test_a_version_that_turns_worse_after_its_promotion_is_withdrawn() -> None:
    found = Simulation()
    found.run(lambda decision: decision.act is Act.PROMOTE)
    found.traffic.behaviours["v2"] = replace(USUAL, failed=0.1)
    last = found.run()

    assert last.act is Act.WITHDRAW
    assert (found.release.live_version, set(found.release.frozen)) == ("v1", {"v2"})


def test_no_data_is_no_pass() -> None:
    found = Simulation(rate=4, plan=replace(PLAN, shadow=0.0))
    last = found.run(longest_s=600)

    assert found.acts == [(Act.SHARE, 0.01)]
    assert "of 1000 of the candidate" in last.why


def test_a_replica_that_tells_nothing_keeps_the_rollout_from_going_on() -> None:
    found = Simulation()
    found.run(lambda decision: decision.act is Act.SHARE)
    silent = found.rollout.look(
        found.release, ["web-1", "web-2", "web-3"], None, found.traffic.published, found.now_s + 1e3
    )

    assert (silent.act, "web-3" in silent.why) == (Act.WAIT, True)


def test_it_does_not_begin_before_all_replicas_have_loaded_the_version() -> None:
    found = Simulation()

    assert found.look("1 of 2 ready") == Decision(Act.WAIT, "1 of 2 ready")
    assert found.look().act is Act.SHADOW


def test_a_rollout_that_was_stopped_goes_on_from_the_step_it_had_reached_and_holds_it_anew() -> None:
    found = Simulation(release=STAGED.with_share(0.05))
    found.run(lambda decision: decision.act is Act.SHARE)

    assert found.acts == [(Act.SHARE, 0.25)]
    assert len(found.decisions) * INTERVAL_S > PLAN.hold_s


def test_what_was_answered_before_the_rollout_began_counts_for_nothing() -> None:
    found = Simulation(replace(USUAL, failed=0.5), plan=replace(PLAN, shadow=0.0))
    found.traffic.go_on(STAGED.with_share(0.5), HOUR_S)
    found.traffic.behaviours["v2"] = USUAL

    assert found.run().act is Act.DONE


def test_a_replica_that_begins_anew_takes_nothing_away() -> None:
    found = Simulation(plan=replace(PLAN, shadow=0.0))
    found.run(lambda decision: decision.act is Act.SHARE)
    fresh = Traffic({"v1": USUAL, "v2": USUAL}).published["web-1"]
    found.traffic.published["web-1"] = fresh

    assert found.run().act is Act.DONE
    assert all(each.comparison is None or each.comparison.live_calls >= 0 for each in found.decisions)


def test_steps_that_do_not_end_with_all_users_end_without_a_promotion() -> None:
    found = Simulation(plan=replace(PLAN, steps=(0.05, 0.5)))
    last = found.run()

    assert (last.act, found.release.candidate_share) == (Act.DONE, 0.5)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": ()},
        {"steps": (0.5, 0.1)},
        {"steps": (0.1, 0.1)},
        {"steps": (0.0, 1.0)},
        {"steps": (1.5,)},
        {"shadow": -0.1},
        {"hold_s": -1.0},
        {"min_calls": 0},
        {"version": "a b"},
    ],
)
def test_a_plan_that_nobody_can_follow_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ReleaseArgumentError):
        replace(PLAN, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("changes", [{"speed": 1.0}, {"errors": -1.0}, {"p99": float("nan")}])
def test_a_threshold_that_is_none_is_refused_by_name(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        Thresholds.of(changes)


@pytest.mark.parametrize("count", [pytest.param(8, id="short"), pytest.param(200, id="long", marks=pytest.mark.slow)])
def test_versions_that_are_alike_raise_no_false_alarm(count: int) -> None:
    """None in 200 rollouts means less than one in 66 at 95 % confidence."""
    found = [Simulation(plan=replace(PLAN, hold_s=120.0), seed=seed) for seed in range(count)]
    for each in found:
        each.run()

    assert [each.decisions[-1].why for each in found if each.release.live_version != "v2"] == []


def test_a_comparison_names_its_gravest_finding() -> None:
    found = Simulation(replace(USUAL, failed=0.05, overlap=5), rate=4_000)
    last = found.run()

    assert last.comparison is not None
    assert last.comparison.verdict is Verdict.BREACH
    assert last.comparison.to_dict()["verdict"] == "breach"
