"""What can be demanded of a run: measures of its history, each a ratio or a time within that run, and bounds for them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from core.types import Tier
from terrace.v1 import recommendation_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from loadtests.history import History, Run

SETTLED_S = 3.0
"""How long a run must be as it was before to count as recovered."""
_STEP_S = 0.5
_SHORTEST_S = 1.0
_MIX_TOLERANCE = 0.02
_P99_TOLERANCE = 1.5
LATE_SHARE = 0.2
"""Of the deadline: a call that is sent later than this was not sent as planned."""
KEPT_UP = 0.99
"""Share of calls that must be sent as planned for a run to count."""


@dataclass(frozen=True)
class Measure:
    """A figure of a run.

    Attributes:
        says: what it is, for a table.

        of: finds it; NaN where the run has no such calls.

        unit: ``share``, ``times`` or ``s``.
    """

    says: str
    of: Callable[[Run], float]
    unit: str = "share"


@dataclass(frozen=True)
class Target:
    """A bound for a measure, and why it is that one."""

    measure: Measure
    bound: float
    is_floor: bool
    why: str


@dataclass(frozen=True)
class Verdict:
    """What a run made of a target."""

    target: Target
    value: float

    @property
    def met(self) -> bool:
        """Whether the value is good enough; NaN is not."""
        bound = self.target.bound
        return self.value >= bound if self.target.is_floor else self.value <= bound


def judge(run: Run, targets: Sequence[Target]) -> list[Verdict]:
    """Every target with what the run has for it."""
    return [Verdict(target, target.measure.of(run)) for target in targets]


def at_least(bound: float, measure: Measure, why: str) -> Target:
    """The measure must reach the bound."""
    return Target(measure, bound, True, why)


def at_most(bound: float, measure: Measure, why: str) -> Target:
    """The measure must not exceed the bound."""
    return Target(measure, bound, False, why)


def in_time(phase: str, *who: str, first_s: float = math.inf) -> Measure:
    """Share of all calls that were answered within the deadline, by whatever tier.

    Args:
        phase: of the run.
        who: criticalities; all where none is named.
        first_s: only calls of the first so many seconds of the phase.
    """

    def of(run: Run) -> float:
        span = run.span(phase)
        calls = run.history.between(span.start_s, min(span.end_s, span.start_s + first_s))
        return _mean(calls.of_criticality(*who).in_time(run.deadline_ms))

    part = "" if first_s == math.inf else f"first {first_s:g} s of "
    return Measure(f"{_calls(who)} answered in time, {part}{phase}", of)


def tier_share(phase: str, tier: Tier, *, skip_s: float = 0.0, known: bool | None = None) -> Measure:
    """Share of users' answers that are of a tier, without those lowered on purpose as an exercise.

    Args:
        phase: of the run.
        tier: of the answer.
        skip_s: first seconds of the phase to pass over.
        known: only users whom the store knows, or only others; None for all.
    """

    def of(run: Run) -> float:
        calls = run.during(phase, skip_s).of_criticality("user")
        calls = calls if known is None else calls.where(calls.known == known)
        return _tier_share(calls, tier)

    whom = {None: "users'", True: "known users'", False: "unknown users'"}[known]
    later = f" after {skip_s:g} s" if skip_s else ""
    return Measure(f"{tier.name} among {whom} answers, {phase}{later}", of)


def goodput(phase: str) -> Measure:
    """Answers in time a second, by whatever tier and for whomever, over capacity."""

    def of(run: Run) -> float:
        return float(run.during(phase).in_time(run.deadline_ms).sum() / run.span(phase).seconds / run.capacity)

    return Measure(f"answers in time over capacity, {phase}", of, "times")


def p99(phase: str, *who: str) -> Measure:
    """99th percentile of the time of calls that were not refused, over the deadline; a failed call took forever."""

    def of(run: Run) -> float:
        calls = run.during(phase).of_criticality(*who)
        return _quantile(calls.where(~calls.shed), 0.99) / run.deadline_ms

    return Measure(f"p99 of {_calls(who)} that were not refused over the deadline, {phase}", of, "times")


def median_against(phase: str, baseline: str, tier: Tier, *, skip_s: float = 0.0) -> Measure:
    """Median time of a tier's answers in a phase over the median time of the same tier's answers in another."""

    def of(run: Run) -> float:
        found, usual = run.during(phase, skip_s), run.during(baseline)
        return _quantile(found.where(found.tier == tier), 0.5) / _quantile(usual.where(usual.tier == tier), 0.5)

    return Measure(f"median time of {tier.name} answers after {skip_s:g} s, {phase} over {baseline}", of, "times")


def errors(phase: str) -> Measure:
    """Share of calls that were neither answered nor refused for overload."""

    def of(run: Run) -> float:
        calls = run.during(phase)
        return _mean(~calls.answered & ~calls.shed)

    return Measure(f"calls neither answered nor shed, {phase}", of)


def refused(phase: str, *who: str) -> Measure:
    """Share of calls that the server refused because it had too much to do."""
    return Measure(f"{_calls(who)} refused, {phase}", lambda run: _mean(run.during(phase).of_criticality(*who).shed))


def shedding_ends(phase: str) -> Measure:
    """Seconds of a phase after which no call is refused any more; infinite if one of its last second is."""

    def of(run: Run) -> float:
        span, calls = run.span(phase), run.during(phase)
        last_s = float(calls.meant_s[calls.shed].max(initial=span.start_s))
        return last_s - span.start_s if last_s < span.end_s - _SHORTEST_S else math.inf

    return Measure(f"until nobody is refused any more, {phase}", of, "s")


def preference(phase: str) -> Measure:
    """Users' share of answers in time, less that of the traffic that may be shed."""

    def of(run: Run) -> float:
        user, others = (
            _mean(run.during(phase).of_criticality(*who).in_time(run.deadline_ms))
            for who in (("user",), ("prefetch", "batch"))
        )
        return user - others

    return Measure(f"answered in time: users' share less the others', {phase}", of)


def recovery(phase: str, baseline: str) -> Measure:
    """Seconds of a phase until mix of tiers and p99 are as in the baseline; infinite if they never are.

    They must be so for ``SETTLED_S``, or, where the phase ends before, until its end and for a second at least. As in the baseline: the share of DEEP no more than 0.02 below, p99 no more than half above.
    """

    def of(run: Run) -> float:
        before, span = run.during(baseline), run.span(phase)
        deep = _tier_share(before, Tier.DEEP) - _MIX_TOLERANCE
        slowest_ms = _quantile(before, 0.99) * _P99_TOLERANCE
        for start_s in np.arange(span.start_s, span.end_s - _SHORTEST_S + 1e-9, _STEP_S).tolist():
            calls = run.history.between(start_s, min(start_s + SETTLED_S, span.end_s))
            if _tier_share(calls, Tier.DEEP) >= deep and _quantile(calls, 0.99) <= slowest_ms:
                return float(start_s - span.start_s)
        return float("inf")

    return Measure(f"until {phase} is as {baseline} for {SETTLED_S:g} s", of, "s")


def reason_after(phase: str, reason: str, share: float = 0.9) -> Measure:
    """Seconds of a phase until, in one second, ``share`` of the answers that are not DEEP give this reason for it."""
    code = pb.Reason.Value(f"REASON_{reason}")

    def of(run: Run) -> float:
        span = run.span(phase)
        for start_s in np.arange(span.start_s, span.end_s - 1 + 1e-9, _STEP_S).tolist():
            calls = run.history.between(start_s, start_s + 1)
            lower = calls.where(calls.answered & (calls.tier < Tier.DEEP))
            if len(lower) and _mean(lower.reason == code) >= share:
                return float(start_s - span.start_s)
        return float("inf")

    return Measure(f"until {share:.0%} of skips say {reason}, {phase}", of, "s")


def sent_as_planned(run: Run) -> dict[str, float]:
    """For each phase the share of calls that were sent when they were meant to be."""
    latest_ms = LATE_SHARE * run.deadline_ms
    return {span.name: _mean(run.during(span.name).late_ms <= latest_ms) for span in run.spans}


def invalid(run: Run) -> str:
    """Why the run says nothing of the server: the callers did not keep up, or the machine was not ours; empty if it does."""
    shares = sent_as_planned(run)
    if all(share >= KEPT_UP for share in shares.values()):
        return str(run.conditions.get("machine_trouble", ""))
    said = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    return f"the callers could not send as planned: {said}, at least {KEPT_UP:.0%} must be"


def _calls(who: tuple[str, ...]) -> str:
    return f"{' and '.join(who) or 'all'} calls"


def _mean(mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> float:
    return float(mask.mean()) if len(mask) else float("nan")


def _tier_share(calls: History, tier: Tier) -> float:
    """Of answers; those lowered on purpose do not count."""
    counted = calls.answered & (calls.reason != pb.REASON_EXERCISED)
    return _mean(calls.tier[counted] == tier)


def _quantile(calls: History, part: float) -> float:
    """Of the calls' times, ms; what was not answered took forever."""
    if not len(calls):
        return float("nan")
    return float(np.quantile(np.where(calls.answered, calls.took_ms, np.inf), part, method="higher"))
