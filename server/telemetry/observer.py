"""Counts the answers of each bundle version of a worker, so that a candidate can be compared with what is live."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from core.types import Reason, Tier
from server.telemetry.version_counts import (
    BUCKETS,
    SCORES_PER_OCTAVE,
    SHOWN,
    TIMES_PER_OCTAVE,
    VersionCounts,
    bin_of,
    write_counts,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from core.types import Recommendation
    from server.telemetry.recorder import Call
    from server.telemetry.version_counts import Counts

_KEPT_BELOW = frozenset({Reason.OVERLOADED, Reason.EXERCISED, Reason.FORCED, Reason.NOT_ASKED, Reason.NOT_NEEDED})
"""Why an answer is not ``DEEP`` that is no doing of its version."""
_BUCKET = BUCKETS - 1


class Observer:
    """Counts by version since the process began; belongs to one event loop.

    Attributes:
        counts: by version, those that are loaded.
    """

    def __init__(self, versions: Iterable[str]) -> None:
        """Nothing was answered yet."""
        self.counts: Mapping[str, VersionCounts] = {version: VersionCounts() for version in versions}

    def observe(self, call: Call) -> None:
        """Count a call that has ended; a few microseconds. One that ended before a version was chosen is nobody's."""
        found = self.counts.get(call.bundle_version)
        if found is None:
            return
        counts = found.answered
        counts.calls += 1
        counts.durations[bin_of(call.duration_s, TIMES_PER_OCTAVE)] += 1
        if call.answer is not None:
            count_answer(counts, call.answer)
        elif call.status == "INTERNAL" or (call.status == "CANCELLED" and call.duration_s * 1000 >= call.deadline_ms):
            counts.failed += 1

    def to_dict(self) -> dict[str, Any]:
        """The counts, for JSON."""
        return write_counts(self.counts)


def count_answer(counts: Counts, answer: Recommendation) -> None:
    """Count what is in an answer."""
    if answer.tier is Tier.DEEP:
        counts.may_be_deep += 1
        counts.deep += 1
        score = float(answer.scores[0]) if len(answer.scores) else math.nan
        if math.isfinite(score):
            counts.scores[bin_of(score, SCORES_PER_OCTAVE)] += 1
    elif answer.skipped.get(Tier.DEEP) not in _KEPT_BELOW:
        counts.may_be_deep += 1
    if answer.skipped and Reason.INVALID_SCORES in answer.skipped.values():
        counts.invalid += 1
    if not len(answer.rows):
        counts.empty += 1
        return
    shown = counts.shown
    for bucket in (answer.rows[:SHOWN] & _BUCKET).tolist():
        shown[bucket] += 1
