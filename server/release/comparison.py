"""A candidate held against what is live, measure by measure: the one place with what makes a version worse."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from core.release_values import percent
from server.release.bounds import (
    ALPHA,
    bounded_quantiles,
    chance_of,
    distinct_of,
    quantile,
    stability_index,
    upper_mean,
    upper_share,
)
from server.telemetry.version_counts import BUCKETS, TIMES_PER_OCTAVE, edge_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from server.telemetry.version_counts import Counts, ShadowCounts, VersionCounts

_TAIL = 0.99


class Verdict(StrEnum):
    """What a measure says of a candidate, the gravest last."""

    NOT_MEASURED = "not measured"
    """There is nothing that it could be seen by, on either side."""
    PASS = "pass"  # noqa: S105 - no password
    WAIT = "wait"
    """Too few calls to say."""
    HOLD = "hold"
    """Different enough that a person should look before more users get it."""
    BREACH = "breach"
    """Worse: it must be taken from its users."""


GRAVITY = {verdict: i for i, verdict in enumerate(Verdict)}


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How much worse than what is live a candidate may be.

    Attributes:
        errors: failed calls, share of calls above the live one's; more is a breach.

        p99: 99th percentile of durations, part of the live one's above it; more is a breach.

        deep: answers that could have been ``DEEP`` and were not, share above the live one's; more is a breach.

        invalid: share of answers with scores that are not finite, where it is also above the live one's; more is a breach.

        empty: lists without an item, share above the live one's; more is a breach.

        scores: population stability index of the scores; more is a hold.

        overlap: share of the items of both first lists that are in both; less is a hold.

        coverage: part of the live one's that fewer items are shown, at equal numbers of lists; more is a hold.
    """

    errors: float = 0.001
    p99: float = 0.10
    deep: float = 0.01
    invalid: float = 0.0
    empty: float = 0.001
    scores: float = 0.2
    overlap: float = 0.3
    coverage: float = 0.3

    @classmethod
    def of(cls, changes: Mapping[str, float]) -> Self:
        """The usual ones but for some.

        Raises:
            ValueError: there is none of such a name, or it is below 0.
        """
        known = [each.name for each in fields(cls)]
        for name, value in changes.items():
            if name not in known:
                raise ValueError(f"there is no threshold {name!r}; there are {', '.join(known)}")
            if not value >= 0:
                raise ValueError(f"the threshold {name} is {value}, it must be 0 or more")
        return replace(cls(), **changes)


@dataclass(frozen=True, slots=True)
class Finding:
    """One measure of both versions.

    Attributes:
        measure: its name, that of its threshold.

        live: what it is for the live version; None where nothing is known, or it is of both together.

        candidate: the same for the candidate.

        threshold: how much worse the candidate may be.

        verdict: what follows.

        why: in words.
    """

    measure: str
    live: float | None
    candidate: float | None
    threshold: float
    verdict: Verdict
    why: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """All measures of one window.

    Attributes:
        live_calls: calls that it saw of the live version.

        candidate_calls: the same of the candidate.
    """

    live_calls: int
    candidate_calls: int
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """The gravest of all; a wait where nothing was measured."""
        gravest = max((finding.verdict for finding in self.findings), key=GRAVITY.__getitem__)
        return Verdict.WAIT if gravest is Verdict.NOT_MEASURED else gravest

    def words(self, verdict: Verdict) -> str:
        """Why the measures with a verdict have it."""
        return "; ".join(f"{each.measure}: {each.why}" for each in self.findings if each.verdict is verdict)

    def to_dict(self) -> dict[str, Any]:
        """The comparison, for JSON."""
        return {"verdict": self.verdict, **asdict(self)}


def compare_users(
    live: VersionCounts, candidate: VersionCounts, overlaps: Mapping[int, int], thresholds: Thresholds, min_calls: int
) -> Comparison:
    """Both versions by what their users got.

    Args:
        live: its calls of a window.
        candidate: its calls of the same window.
        overlaps: of all calls that the candidate shadowed; per cent -> calls.
        thresholds: how much worse the candidate may be.
        min_calls: calls of each version without which nothing passes.
    """
    return _compare(live.answered, candidate.answered, overlaps, thresholds, min_calls, timed=True)


def compare_shadow(shadow: ShadowCounts, thresholds: Thresholds, min_calls: int) -> Comparison:
    """Both versions by the same calls, of which users saw the live one's answers only; its times say nothing."""
    return _compare(shadow.shown, shadow.unseen, shadow.overlaps, thresholds, min_calls, timed=False)


def _compare(
    live: Counts,
    candidate: Counts,
    overlaps: Mapping[int, int],
    thresholds: Thresholds,
    min_calls: int,
    *,
    timed: bool,
) -> Comparison:
    def share(measure: str, counted: Callable[[Counts], tuple[int, int]]) -> Finding:
        return _share(measure, counted(live), counted(candidate), getattr(thresholds, measure), min_calls)

    findings: Iterable[Finding] = (
        share("errors", lambda counts: (counts.failed, counts.calls)),
        _p99(live, candidate, thresholds.p99, min_calls, timed=timed),
        share("deep", lambda counts: (counts.may_be_deep - counts.deep, counts.may_be_deep)),
        _invalid(live, candidate, thresholds.invalid, min_calls),
        share("empty", lambda counts: (counts.empty, counts.calls)),
        _scores(live, candidate, thresholds.scores, min_calls),
        _overlap(overlaps, thresholds.overlap, min_calls),
        _coverage(live, candidate, thresholds.coverage, min_calls),
    )
    return Comparison(live.calls, candidate.calls, tuple(findings))


def _share(
    measure: str, live: tuple[int, int], candidate: tuple[int, int], threshold: float, min_calls: int
) -> Finding:
    """A share of bad calls: a breach where so many cannot be chance even if the live one's share were its upper bound."""
    (live_bad, live_total), (bad, total) = live, candidate
    found = Finding(measure, _ratio(live_bad, live_total), _ratio(bad, total), threshold, Verdict.PASS)
    if not live_total and not total:
        return replace(found, verdict=Verdict.NOT_MEASURED)
    if live_total and total and chance_of(bad, total, upper_share(live_bad, live_total) + threshold) < ALPHA:
        why = f"{percent(bad / total)} of {total}, live {percent(live_bad / live_total)} of {live_total}"
        return replace(found, verdict=Verdict.BREACH, why=f"{why}, {percent(threshold)} more allowed")
    return _unless_few(found, live_total, total, min_calls)


def _p99(live: Counts, candidate: Counts, threshold: float, min_calls: int, *, timed: bool) -> Finding:
    values = [quantile(each.durations, _TAIL) for each in (live, candidate)]
    seconds = [None if value is None else edge_of(value, TIMES_PER_OCTAVE) for value in values]
    found = Finding("p99", seconds[0], seconds[1], threshold, Verdict.PASS)
    if not timed:
        return Finding("p99", None, None, threshold, Verdict.NOT_MEASURED)
    highest, lowest = bounded_quantiles(live.durations, candidate.durations, _TAIL)
    if highest is None:
        return replace(found, verdict=Verdict.WAIT, why=f"{live.calls} live calls are too few for a percentile")
    few = _unless_few(found, live.calls, candidate.calls, min_calls)
    if few.verdict is Verdict.WAIT or lowest is None:
        return few
    at_most, at_least = edge_of(highest + 1, TIMES_PER_OCTAVE), edge_of(lowest, TIMES_PER_OCTAVE)
    if at_least <= (1 + threshold) * at_most:
        return found
    why = f"at least {at_least * 1000:.1f} ms, live at most {at_most * 1000:.1f} ms, {percent(threshold)} more allowed"
    return replace(found, verdict=Verdict.BREACH, why=why)


def _invalid(live: Counts, candidate: Counts, threshold: float, min_calls: int) -> Finding:
    """No bound for chance: a sound model has none."""
    before, after = _ratio(live.invalid, live.calls), _ratio(candidate.invalid, candidate.calls)
    found = Finding("invalid", before, after, threshold, Verdict.PASS)
    if after is not None and after > threshold and after > (before or 0.0):
        why = f"{candidate.invalid} of {candidate.calls} answers had scores that are not finite"
        return replace(found, verdict=Verdict.BREACH, why=why)
    return _unless_few(found, live.calls, candidate.calls, min_calls)


def _scores(live: Counts, candidate: Counts, threshold: float, min_calls: int) -> Finding:
    scored = [sum(each.scores.values()) for each in (live, candidate)]
    if not scored[0] and live.calls >= min_calls:
        return Finding("scores", None, None, threshold, Verdict.NOT_MEASURED)
    if not all(scored):
        return _unless_few(Finding("scores", None, None, threshold, Verdict.PASS), scored[0], scored[1], min_calls)
    index, noise = stability_index(live.scores, candidate.scores)
    found = Finding("scores", None, index, threshold, Verdict.PASS)
    few = _unless_few(found, scored[0], scored[1], min_calls)
    if few.verdict is Verdict.WAIT or index - noise <= threshold:
        return few
    return replace(found, verdict=Verdict.HOLD, why=f"stability index {index:.2f}, {threshold:g} allowed")


def _overlap(overlaps: Mapping[int, int], threshold: float, min_calls: int) -> Finding:
    total = sum(overlaps.values())
    if not total:
        return Finding("overlap", None, None, threshold, Verdict.NOT_MEASURED)
    mean, at_most = (value / 100 for value in upper_mean(overlaps))
    found = Finding("overlap", None, mean, threshold, Verdict.PASS)
    if total < min_calls:
        return replace(found, verdict=Verdict.WAIT, why=f"{total} of {min_calls} shadow calls")
    if at_most >= threshold:
        return found
    why = f"{percent(mean)} of the items are in both lists, {percent(threshold)} expected"
    return replace(found, verdict=Verdict.HOLD, why=why)


def _coverage(live: Counts, candidate: Counts, threshold: float, min_calls: int) -> Finding:
    items = [sum(each.shown.values()) for each in (live, candidate)]
    draws = min(*items, BUCKETS)
    if not draws:
        return _unless_few(
            Finding("coverage", None, None, threshold, Verdict.PASS), live.calls, candidate.calls, min_calls
        )
    before, after = distinct_of(live.shown, draws), distinct_of(candidate.shown, draws)
    found = Finding("coverage", before, after, threshold, Verdict.PASS)
    few = _unless_few(found, live.calls, candidate.calls, min_calls)
    if few.verdict is Verdict.WAIT or after >= (1 - threshold) * before:
        return few
    why = f"{after:.0f} kinds of items among {draws} shown, live {before:.0f}, {percent(threshold)} fewer allowed"
    return replace(found, verdict=Verdict.HOLD, why=why)


def _ratio(part: int, total: int) -> float | None:
    return part / total if total else None


def _unless_few(found: Finding, live: int, candidate: int, min_calls: int) -> Finding:
    """No data is no pass."""
    if live >= min_calls and candidate >= min_calls:
        return found
    words = [
        f"{n} of {min_calls} {who}" for n, who in ((live, "live"), (candidate, "of the candidate")) if n < min_calls
    ]
    return replace(found, verdict=Verdict.WAIT, why=", ".join(words))
