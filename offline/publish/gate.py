"""May a bundle be published? Each rung has to earn its place, and the whole must not be worse than what it replaces.

The rules, on the main metric (NDCG of the longest lists) of the test window:

1. CF is above POPULARITY, and DEEP above CF: the mean of the paired difference per user is above zero. With fewer than
   ``ENOUGH_CASES`` cases a mean below zero may be chance, so then only an interval wholly below zero fails.
2. The best rung is not worse than the best rung of the previous bundle: the 95 % interval of the difference is not wholly
   below zero. Per user where both answered the same cases, else between the two means.

What cannot be judged (nothing measured, no deep rung because there was nothing to learn from, another kind of split)
passes with a note that says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from offline.publish.compare import compare, difference, main_metric, top_rung

if TYPE_CHECKING:
    from collections.abc import Mapping

    from offline.publish.compare import Measured

ENOUGH_CASES = 100
STEPS = (("CF", "POPULARITY"), ("DEEP", "CF"))
_MEND = {
    "CF": "Look at the generators' recall in the report: co-occurrence needs users with several events, and a horizon "
    "(--horizon-days) in which they come back",
    "DEEP": "Look at feature importance and warnings of the training; more data, or --no-deep, publishes a ladder that ends at CF",
    "previous": "Run `terrace compare` on the two: did the data, the parameters or the window change?",
}
_ANYWAY = "--gate mark publishes it with a mark, --gate off without one"


@dataclass(frozen=True, slots=True)
class Check:
    """One rule applied.

    Attributes:
        name: what was held against what.

        passed: None where it could not be judged.

        message: with both values.

        mend: what to do; empty unless it failed.
    """

    name: str
    passed: bool | None
    message: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """All rules applied to one bundle."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether no rule failed."""
        return all(check.passed is not False for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The rules that failed."""
        return tuple(check for check in self.checks if check.passed is False)

    def as_dict(self) -> dict[str, Any]:
        """For the manifest and for JSON."""
        return {
            "passed": self.passed,
            "checks": [{"name": c.name, "passed": c.passed, "message": c.message, "mend": c.mend} for c in self.checks],
        }


def check(new: Measured | None, previous: Measured | None) -> Verdict:
    """Apply every rule to a bundle that may replace ``previous``; None was not measured."""
    if new is None or not new.figures:
        return Verdict((Check("figures", None, "Nothing was measured, so nothing can be judged."),))
    checks = [_step(new.figures, high, low) for high, low in STEPS]
    if previous is not None:
        checks.append(_against(new, previous))
    return Verdict(tuple(checks))


def _step(figures: Mapping[str, Any], high: str, low: str) -> Check:
    name, metric = f"{high} above {low}", main_metric(figures)
    found = figures["differences"].get(f"{high} - {low}", {}).get(metric)
    if found is None:
        return Check(name, None, f"There is no {high} rung: the ladder ends below it, as the build's warnings say.")
    values = {rung: figures["rungs"][rung][metric]["mean"] for rung in (high, low)}
    message = (
        f"{metric} of {high} is {values[high]:.4f}, of {low} {values[low]:.4f}: "
        f"{found['mean']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}]"
    )
    cases = int(figures["split"]["cases"])
    if found["mean"] > 0:
        return Check(name, passed=True, message=message if found["low"] > 0 else f"{message}, which may be chance")
    if found["high"] >= 0 and cases < ENOUGH_CASES:
        return Check(name, None, f"{message}, on {cases} cases: too few to judge")
    return Check(name, passed=False, message=message, mend=f"{_MEND[high]}; {_ANYWAY}.")


def _against(new: Measured, previous: Measured) -> Check:
    name = f"as good as {previous.manifest.version}"
    found = compare(previous, new)
    if not found["comparable"]:
        return Check(name, None, f"{found['how'][0].upper()}{found['how'][1:]}.")
    metric = found["metric"]
    tops = top_rung(previous.figures), top_rung(new.figures)
    values = [one.figures["rungs"][top][metric]["mean"] for one, top in zip((previous, new), tops, strict=True)]
    apart = difference(previous, new, metric, tops)
    message = (
        f"{metric} of {tops[1]} is {values[1]:.4f}, of {tops[0]} in {previous.manifest.version} {values[0]:.4f}: "
        f"{apart['difference']:+.4f} [{apart['low']:+.4f}, {apart['high']:+.4f}], {found['how']}"
    )
    if apart["high"] < 0:
        return Check(
            name, passed=False, message=message, mend=f"{_MEND['previous']} {_ANYWAY[0].upper()}{_ANYWAY[1:]}."
        )
    return Check(name, passed=True, message=message)
