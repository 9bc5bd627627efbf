"""What a run of swaps was worth: from its calls and its moments to figures, and the targets that they miss."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from core.types import Tier
from loadtests.figures import latency
from loadtests.swap_callers import COLUMNS, IN_TIME_S, OK, PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SETTLE_S = 1.0
"""Longest time until every worker answers from the live version that a document names."""
MOST = {
    "failed_calls": 0,
    "mixed_answers": 0,
    "sigterm_failed_calls": 0,
    "sigterm_exit_code": 0,
    "p99_ratio": 1.5,
    "promote_s": SETTLE_S,
    "rollback_s": SETTLE_S,
}
"""Figure -> what it may be at most."""
_NAMES = {status.value[0]: status.name for status in grpc.StatusCode}
TIMES = frozenset({"p99_ratio", "promote_s", "rollback_s"})
"""Figures that say nothing where others used the machine; nothing excuses the rest."""


@dataclass(frozen=True)
class Change:
    """A change of the release document.

    Attributes:
        kind: ``promote`` or ``rollback``; ``first`` for the document that the run begins with.

        begun_s: when it was asked for, by the monotonic clock.

        done_s: when the document was written.

        live: the version that it makes live.
    """

    kind: str
    begun_s: float
    done_s: float
    live: str


@dataclass
class Moments:
    """What was done when; intervals are (begin, end) by the monotonic clock.

    Attributes:
        steady: nothing was done.

        replacing: from the command to stage until the workers without the version had left.

        sigterm: from the signal to one worker until another had taken its place.
    """

    changes: list[Change] = field(default_factory=list)
    steady: list[tuple[float, float]] = field(default_factory=list)
    replacing: list[tuple[float, float]] = field(default_factory=list)
    sigterm: list[tuple[float, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Calls:
    """Every call of a run; a column each, see ``loadtests.swap_callers.COLUMNS``.

    Attributes:
        versions: [n] the version that answered; empty where none did.

        cores: cores that the callers used.
    """

    meant_s: NDArray[np.float64]
    late_ms: NDArray[np.float64]
    took_ms: NDArray[np.float64]
    status: NDArray[np.float64]
    tier: NDArray[np.float64]
    mixed: NDArray[np.float64]
    versions: Sequence[str]
    cores: float

    @classmethod
    def load(cls, path: Path) -> Calls:
        """Read what ``loadtests.swap_callers`` wrote."""
        with np.load(path) as arrays:
            columns = {name: arrays[name] for name in COLUMNS}
            names = [*arrays["names"].tolist(), ""]
            versions = [names[code] for code in columns.pop("version").astype(int)]
            return cls(**columns, versions=versions, cores=float(arrays["cores"]))

    @property
    def failed(self) -> NDArray[np.bool_]:
        """[n] whether a call had no answer."""
        return np.not_equal(self.status, OK)

    @property
    def ended_s(self) -> NDArray[np.float64]:
        """[n] when the answer or failure came, by the monotonic clock."""
        return self.meant_s + self.took_ms / 1000

    def within(self, intervals: Sequence[tuple[float, float]]) -> NDArray[np.bool_]:
        """[n] whether a call was meant for one of the intervals."""
        found = np.zeros(len(self.meant_s), np.bool_)
        for begin_s, end_s in intervals:
            found |= (self.meant_s >= begin_s) & (self.meant_s < end_s)
        return found

    def of_another_version(self, changes: Sequence[Change]) -> NDArray[np.bool_]:
        """[n] whether an answer is of a version that no document allowed from ``SETTLE_S`` before the call to its end."""
        allowed = np.zeros(len(self.meant_s), np.bool_)
        versions = np.array(self.versions)
        ends = [*(change.done_s for change in changes[1:]), np.inf]
        for change, end_s in zip(changes, ends, strict=True):
            in_force = (self.ended_s >= change.begun_s) & (self.meant_s - SETTLE_S <= end_s)
            allowed |= in_force & (versions == change.live)
        return ~allowed & ~self.failed

    def settled_s(self, change: Change, until_s: float) -> float:
        """How long after a change an answer of another version than its live one came; 0 where none did."""
        late = (self.ended_s > change.done_s) & (self.ended_s < until_s) & ~self.failed
        late &= np.array(self.versions) != change.live
        return float((self.ended_s[late] - change.done_s).max(initial=0.0))

    def summary(self, part: NDArray[np.bool_]) -> dict[str, Any]:
        """Latencies of some calls, where a failed one takes a caller's patience; how many were late; who answered."""
        took_ms = np.where(self.failed, PATIENCE_S * 1000, self.took_ms)[part]
        counted = max(int(part.sum()), 1)
        return {
            "calls": int(part.sum()),
            **latency(took_ms.tolist()),
            "late_share": float((took_ms > IN_TIME_S * 1000).sum()) / counted,
            "sent_late_p99_ms": latency(self.late_ms[part].tolist())["p99_ms"],
            "tiers": {tier.name: int((self.tier[part] == tier).sum()) for tier in Tier},
        }


def figures(calls: Calls, moments: Moments) -> dict[str, Any]:
    """What is to be known of a run."""
    steady, replacing = calls.within(moments.steady), calls.within(moments.replacing)
    stopping = calls.within(moments.sigterm)
    summaries = {"steady": calls.summary(steady), "replacing": calls.summary(replacing)}
    pairs = zip(moments.steady, moments.replacing, strict=True)
    by_swap = [[calls.summary(calls.within([part]))["p99_ms"] for part in pair] for pair in pairs]
    settled: dict[str, list[float]] = {"promote": [], "rollback": []}
    ends = [*(change.begun_s for change in moments.changes[1:]), np.inf]
    for change, end_s in zip(moments.changes, ends, strict=True):
        if change.kind in settled:
            settled[change.kind].append(calls.settled_s(change, end_s))
    codes, counts = np.unique(calls.status[calls.failed].astype(int), return_counts=True)
    mixed = calls.mixed.astype(np.bool_) | calls.of_another_version(moments.changes)
    return {
        "swaps": len(moments.replacing),
        "calls": len(calls.meant_s),
        "failed_calls": int(calls.failed.sum()),
        "failed_statuses": {_NAMES[code]: count for code, count in zip(codes.tolist(), counts.tolist(), strict=True)},
        "mixed_answers": int(mixed.sum()),
        "mixed_items": int(calls.mixed.sum()),
        "p99_ratio": summaries["replacing"]["p99_ms"] / summaries["steady"]["p99_ms"],
        "p99_ratio_of_each_swap": [after / before for before, after in by_swap],
        "promote_s": max(settled["promote"]),
        "rollback_s": max(settled["rollback"]),
        "promotes_s": settled["promote"],
        "rollbacks_s": settled["rollback"],
        "replaced_in_s": [end_s - begin_s for begin_s, end_s in moments.replacing],
        "sigterm_calls": int(stopping.sum()),
        "sigterm_failed_calls": int((calls.failed & stopping).sum()),
        **summaries,
        "caller_cores": calls.cores,
    }


def missed(found: Mapping[str, Any], trouble: str) -> list[str]:
    """The targets that figures miss, a line each.

    Args:
        found: figures, those of ``MOST`` among them.
        trouble: why times say nothing; empty where they do.
    """
    judged = {name: most for name, most in MOST.items() if not (trouble and name in TIMES)}
    return [
        f"{name} is {found[name]:.4g}, at most {most:g}" for name, most in judged.items() if not found[name] <= most
    ]


def slope(values: Sequence[float]) -> float:
    """How much a figure grows from one swap to the next, by least squares."""
    return float(np.polyfit(np.arange(len(values)), values, 1)[0]) if len(values) > 1 else 0.0
