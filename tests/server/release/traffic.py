"""Replicas that count what a release document gives their users, with faults on order."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from random import Random
from statistics import NormalDist
from typing import TYPE_CHECKING

from server.telemetry.version_counts import (
    SCORES_PER_OCTAVE,
    TIMES_PER_OCTAVE,
    Counts,
    ShadowCounts,
    VersionCounts,
    bin_of,
)

if TYPE_CHECKING:
    from core.release import Release


@dataclass(frozen=True)
class Behaviour:
    """How a version answers."""

    failed: float = 0.002
    from_below: float = 0.04
    invalid: float = 0.0
    empty: float = 0.003
    typical_s: float = 0.006
    typical_score: float = 0.05
    kinds: int = 400
    overlap: int = 70


@dataclass
class Traffic:
    """So many calls a second to all replicas together, answered as the document says.

    Attributes:
        sample: calls of a replica and turn that histograms are made of, so that many rollouts can be simulated.

        published: replica id -> version -> what it has answered.
    """

    behaviours: dict[str, Behaviour]
    rate: float = 400.0
    replicas: tuple[str, ...] = ("web-1", "web-2")
    seed: int = 1
    sample: int = 60
    published: dict[str, dict[str, VersionCounts]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)
        for replica in self.replicas:
            self.published[replica] = {version: VersionCounts() for version in self.behaviours}

    def go_on(self, release: Release, seconds: float) -> None:
        """Answer for some seconds."""
        for replica in self.replicas:
            calls = round(self.rate * seconds / len(self.replicas))
            for_candidate = round(calls * release.candidate_share)
            shadowed = round(calls * (1 - release.candidate_share) * release.shadow_share)
            mine = self.published[replica] = dict(self.published[replica])
            live, candidate = release.live_version, release.candidate
            mine[live] += VersionCounts(answered=self._answers(live, calls - for_candidate))
            if candidate is not None:
                shadow = ShadowCounts(
                    shown=self._answers(live, shadowed),
                    unseen=self._answers(candidate, shadowed),
                    overlaps=Counter({self.behaviours[candidate].overlap: shadowed}),
                )
                mine[candidate] += VersionCounts(self._answers(candidate, for_candidate), shadow)

    def _answers(self, version: str, calls: int) -> Counts:
        """So many calls."""
        how, random = self.behaviours[version], self._random
        few = min(calls, self.sample)

        def some(share: float) -> int:
            return _some(random, calls, share)

        failed = some(how.failed)
        times, scores = (
            _spread(how.typical_s, 0.5, TIMES_PER_OCTAVE),
            _spread(how.typical_score, 1.0, SCORES_PER_OCTAVE),
        )
        from_below = some(how.from_below)
        return Counts(
            calls=calls,
            failed=failed,
            may_be_deep=calls - failed,
            deep=max(calls - failed - from_below, 0),
            invalid=some(how.invalid),
            empty=some(how.empty),
            durations=Counter(random.choices(times, k=few)),
            scores=Counter(random.choices(scores, k=few)),
            shown=Counter(random.choices(range(how.kinds), k=few)),
        )


def _some(random: Random, calls: int, share: float) -> int:
    """Of so many calls, those of a share: a binomial variable, from one such call to the next."""
    if not share:
        return 0
    found, at = -1, 0
    while at <= calls:
        found += 1
        at += 1 + int(math.log(1 - random.random()) / math.log1p(-share))
    return found


@cache
def _spread(typical: float, sigma: float, per_octave: int) -> tuple[int, ...]:
    """Bins of numbers that are spread about a typical one, log-normally, each as probable as the others."""
    normal = NormalDist(math.log(typical), sigma)
    return tuple(bin_of(math.exp(normal.inv_cdf((i + 0.5) / 2_000)), per_octave) for i in range(2_000))
