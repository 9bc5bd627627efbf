"""Decides how a guarded rollout goes on: from the document, what replicas have answered and the time, to the next step.

What was reached can be read off the document, so that a rollout which was stopped goes on where it was. It holds the
step that it finds anew: a step is never passed on what was counted before.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from core.release import ReleaseArgumentError
from core.release_values import checked_share, checked_version, percent
from server.release.comparison import Comparison, Thresholds, Verdict, compare_shadow, compare_users
from server.telemetry.version_counts import VersionCounts

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from core.release import Release

RECENT_S = 30.0
"""Besides the whole step its last seconds are judged, so that hours without fault do not hide a fault that has begun."""
Published: TypeAlias = "Mapping[str, Mapping[str, VersionCounts]]"
"""Replica id -> version -> what it has answered."""


@dataclass(frozen=True)
class Plan:
    """What a rollout shall do.

    Attributes:
        version: to roll out.

        steps: shares of the users, growing, 0 < share <= 1; 1 promotes.

        shadow: share of the calls that it answers unseen before anybody sees it, and on; 0 for none.

        hold_s: how long each step lasts at least, seconds.

        min_calls: calls of each version without which no step is passed.

        thresholds: how much worse it may be.
    """

    version: str
    steps: tuple[float, ...] = (0.01, 0.05, 0.25, 1.0)
    shadow: float = 0.02
    hold_s: float = 600.0
    min_calls: int = 1000
    thresholds: Thresholds = field(default_factory=Thresholds)

    def __post_init__(self) -> None:
        """Refuse a plan that nobody could follow.

        Raises:
            ReleaseArgumentError: a part of it is out of range; the message says which.
        """
        checked_version(self.version)
        for share in (*self.steps, self.shadow):
            checked_share(share)
        if not self.steps or 0 in self.steps or list(self.steps) != sorted(set(self.steps)):
            raise ReleaseArgumentError("steps are shares above 0, each larger than the one before, such as 1,5,25,100")
        if self.hold_s < 0 or self.min_calls < 1:
            raise ReleaseArgumentError("a step holds 0 s or longer, and needs at least 1 call")


class Act(StrEnum):
    """What a rollout does next."""

    WAIT = "wait"
    SHADOW = "shadow"
    SHARE = "share"
    PROMOTE = "promote"
    WITHDRAW = "withdraw"
    HELD = "held"
    """Nothing more: a person must look."""
    DONE = "done"


@dataclass(frozen=True)
class Decision:
    """What to do next, and why.

    Attributes:
        act: what.

        why: in words.

        share: for ``SHADOW`` and ``SHARE``.

        comparison: what it was decided on; None where nothing was compared yet.
    """

    act: Act
    why: str
    share: float = 0.0
    comparison: Comparison | None = None


class Totals:
    """What all replicas have answered since the first look at each, whoever of them came and went."""

    def __init__(self) -> None:
        """Nothing was looked at."""
        self.counts: dict[str, VersionCounts] = {}
        self._last: dict[str, dict[str, VersionCounts]] = {}

    def add(self, published: Published) -> None:
        """Take in what replicas have answered until now."""
        for replica_id, by_version in published.items():
            known = self._last.setdefault(replica_id, dict(by_version))
            for version, now in by_version.items():
                before = known.get(version)
                begun_anew = before is None or now.answered.calls < before.answered.calls
                since = now if begun_anew or before is None else now - before
                self.counts[version] = self.counts.get(version, VersionCounts()) + since
                known[version] = now

    def of(self, version: str) -> VersionCounts:
        """Of one version."""
        return self.counts.get(version, VersionCounts())


class Rollout:
    """One rollout; knows no store and no clock.

    Attributes:
        plan: what it shall do.
    """

    def __init__(self, plan: Plan) -> None:
        """Nothing was seen yet."""
        self.plan = plan
        self._totals = Totals()
        self._phase: tuple[str, float, bool] | None = None
        self._since_s = 0.0
        self._marks: deque[tuple[float, dict[str, VersionCounts]]] = deque()
        self._start: dict[str, VersionCounts] = {}
        self._reference: VersionCounts | None = None

    def look(
        self, release: Release, replicas: Collection[str], not_ready: str | None, published: Published, now_s: float
    ) -> Decision:
        """Decide.

        Args:
            release: the document.
            replicas: ids of those that report.
            not_ready: why not all of them have loaded the version; None where they have.
            published: replica id -> version -> what it has answered.
            now_s: monotonic, seconds.
        """
        self._totals.add(published)
        self._mark(release, now_s)
        if release.live_version == self.plan.version:
            if self._reference is None:
                return Decision(Act.DONE, f"{self.plan.version} is live")
        elif not release.candidate_share and not release.shadow_share:
            return self._begin(not_ready)
        whole = self._compare(release, self._start)
        worse = self._worse(release, whole, now_s)
        if worse is not None:
            return worse
        why = not_ready or _silent(replicas, published) or self._early(now_s)
        if why is None and whole.verdict is Verdict.WAIT:
            why = f"too little to go by: {whole.words(Verdict.WAIT)}"
        if why is not None:
            return Decision(Act.WAIT, why, comparison=whole)
        if whole.verdict is Verdict.HOLD:
            return Decision(Act.HELD, whole.words(Verdict.HOLD), comparison=whole)
        return self._next(release, whole)

    def _begin(self, not_ready: str | None) -> Decision:
        if not_ready is not None:
            return Decision(Act.WAIT, not_ready)
        if self.plan.shadow:
            return Decision(Act.SHADOW, "loaded everywhere", self.plan.shadow)
        return Decision(Act.SHARE, "loaded everywhere", self.plan.steps[0])

    def _worse(self, release: Release, whole: Comparison, now_s: float) -> Decision | None:
        if whole.verdict is Verdict.BREACH:
            return Decision(Act.WITHDRAW, f"{whole.words(Verdict.BREACH)} (since the step began)", comparison=whole)
        if now_s - self._since_s <= RECENT_S:
            return None
        recent = self._compare(release, self._marks[0][1])
        if recent.verdict is not Verdict.BREACH:
            return None
        return Decision(Act.WITHDRAW, f"{recent.words(Verdict.BREACH)} (in the last {RECENT_S:g} s)", comparison=recent)

    def _early(self, now_s: float) -> str | None:
        held_s = now_s - self._since_s
        return None if held_s >= self.plan.hold_s else f"{held_s:.0f} of {self.plan.hold_s:g} s"

    def _next(self, release: Release, passed: Comparison) -> Decision:
        version, share = self.plan.version, release.candidate_share
        if release.live_version == version:
            return Decision(Act.DONE, f"{version} is live, and no worse than what was", comparison=passed)
        step = next((step for step in self.plan.steps if step > share), None)
        if step is None:
            return Decision(
                Act.DONE, f"{version} stays at {percent(share)}: there is no further step", comparison=passed
            )
        if step < 1:
            return Decision(Act.SHARE, "passed", step, passed)
        self._reference = self._totals.of(release.live_version) - self._start.get(release.live_version, VersionCounts())
        return Decision(Act.PROMOTE, "passed", comparison=passed)

    def _compare(self, release: Release, start: Mapping[str, VersionCounts]) -> Comparison:
        """Both versions since a moment; after the promotion against what the other one answered in the step before."""
        version, plan = self.plan.version, self.plan

        def since(name: str) -> VersionCounts:
            return self._totals.of(name) - start.get(name, VersionCounts())

        candidate, overlaps = since(version), self._totals.of(version).shadowed.overlaps
        if release.live_version == version:
            live = self._reference or VersionCounts()
        elif not release.candidate_share:
            return compare_shadow(candidate.shadowed, plan.thresholds, plan.min_calls)
        else:
            live = since(release.live_version)
        return compare_users(live, candidate, overlaps, plan.thresholds, plan.min_calls)

    def _mark(self, release: Release, now_s: float) -> None:
        """Remember what was counted at this moment, and where the step began."""
        phase = release.live_version, release.candidate_share, release.shadow_share > 0
        now = dict(self._totals.counts)
        if phase != self._phase:
            self._phase, self._since_s, self._start = phase, now_s, now
            self._marks.clear()
        self._marks.append((now_s, now))
        while len(self._marks) > 1 and self._marks[1][0] <= now_s - RECENT_S:
            self._marks.popleft()


def _silent(replicas: Collection[str], published: Published) -> str | None:
    """Which replicas have not told what they answered; None where all have."""
    silent = sorted(set(replicas) - published.keys())
    return f"nothing is known of what {', '.join(silent)} answered" if silent else None
