"""`terrace release rollout` and `report`: a candidate held against what is live."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from core.release import ReleaseError
from core.release_values import percent
from terrace.cli.options import STORE_DATA, Namespace, StoreData, StoreUrl, StoreUrlFile
from terrace.cli.output import console
from terrace.cli.release_access import Where, versions_in, with_operations, with_store
from terrace.cli.release_options import By, Known, Version

if TYPE_CHECKING:
    from collections.abc import Iterable

    from core.release import Release
    from server.release.comparison import Comparison, Thresholds
    from server.release.operations import Operations, PromotionCheck
    from server.release.release_store import ReleaseStore
    from server.release.rollout import Decision

ROLLED_BACK, HELD, INTERRUPTED = 4, 5, 130
"""Exit codes: it was worse and is frozen; a person must look; stopped with Ctrl-C."""
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_is_duration = re.compile(r"(\d+(?:\.\d+)?)([smh])").fullmatch

Limits = Annotated[
    list[str] | None,
    typer.Option(
        "--threshold",
        help="Another threshold, as NAME=VALUE: errors, p99, deep, invalid, empty (worse is rolled back), scores, "
        "overlap, coverage (worse is held). May be given several times.",
        show_default=False,
    ),
]
MinCalls = Annotated[int, typer.Option(help="Calls of each version without which nothing passes.", min=1)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one line of JSON.")]


def rollout(
    version: Version,
    steps: Annotated[str, typer.Option(help="Per cent of the users, one step after the other; 100 promotes.")] = (
        "1,5,25,100"
    ),
    hold: Annotated[str, typer.Option(help="How long each step lasts at least, such as 90s, 10m or 2h.")] = "10m",
    shadow: Annotated[
        float, typer.Option(help="Share of the calls that it answers unseen first, 0 to 1; 0 for none.")
    ] = 0.02,
    min_calls: MinCalls = 1000,
    interval: Annotated[str, typer.Option(help="Time between two looks, 10s at most.")] = "5s",
    threshold: Limits = None,
    store_url: StoreUrl = None,
    store_url_file: StoreUrlFile = None,
    data: StoreData = STORE_DATA,
    namespace: Namespace = "default",
    bundles: Known = None,
    by: By = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each decision as one line of JSON.")] = False,
) -> None:
    """Stage a version and give it to more and more users while it is no worse; roll it back and freeze it if it is.

    Stopped with Ctrl-C, or killed, it leaves the share as it is; the same command goes on from there.
    """
    from server.release.rollout import Act, Plan, Rollout
    from server.release.rollout_run import LONGEST_INTERVAL_S, RolloutRun
    from server.release.rollout_store import RolloutStore

    interval_s = _duration("--interval", interval)
    if not 0 < interval_s <= LONGEST_INTERVAL_S:
        raise typer.BadParameter(f"--interval: above 0s and at most {LONGEST_INTERVAL_S:g}s")
    thresholds, hold_s = _thresholds(threshold), _duration("--hold", hold)
    told = _Teller(version, as_json=as_json)

    async def roll_out(operations: Operations, store: ReleaseStore) -> Decision:
        plan = Plan(version, _steps(steps), shadow, hold_s, min_calls, thresholds)
        run = RolloutRun(Rollout(plan), operations, RolloutStore(store), told.tell, interval_s=interval_s)
        return await run.run()

    where = Where(store_url, store_url_file, data, namespace)
    try:
        last = with_operations(roll_out, where, by, versions_in(bundles))
    except KeyboardInterrupt:
        told.stopped()
        raise typer.Exit(INTERRUPTED) from None
    raise typer.Exit({Act.WITHDRAW: ROLLED_BACK, Act.HELD: HELD}.get(last.act, 0))


def report(
    min_calls: MinCalls = 1000,
    threshold: Limits = None,
    store_url: StoreUrl = None,
    store_url_file: StoreUrlFile = None,
    data: StoreData = STORE_DATA,
    namespace: Namespace = "default",
    as_json: AsJson = False,
) -> None:
    """Compare the candidate with what is live, by all that servers have answered since they loaded it."""
    from server.release.comparison import compare_shadow, compare_users
    from server.release.rollout_store import RolloutStore
    from server.telemetry.version_counts import VersionCounts, add_up

    thresholds = _thresholds(threshold)

    async def compare(store: ReleaseStore, _: PromotionCheck) -> tuple[Release, dict[str, Comparison], int, int]:
        release = await store.read()
        if release is None or release.candidate is None:
            raise ReleaseError("there is no candidate to compare; stage one with `terrace release stage VERSION`")
        published = await RolloutStore(store).published()
        if not published:
            raise ReleaseError(
                "no server has told what it answered in the last 10 s. Do servers of this namespace run?"
            )
        counts = add_up(list(published.values()))
        candidate = counts.get(release.candidate, VersionCounts())
        live, shadowed = counts.get(release.live_version, VersionCounts()), candidate.shadowed
        found = {
            "users": compare_users(live, candidate, shadowed.overlaps, thresholds, min_calls),
            "shadow": compare_shadow(shadowed, thresholds, min_calls),
        }
        return release, found, shadowed.dropped, len(published)

    where = Where(store_url, store_url_file, data, namespace)
    release, found, dropped, replicas = with_store(compare, where)
    if as_json:
        parts = {name: comparison.to_dict() for name, comparison in found.items()}
        versions = {"live": release.live_version, "candidate": release.candidate}
        typer.echo(json.dumps({**versions, "replicas": replicas, "shadow_calls_dropped": dropped, **parts}))
        return
    console.print(escape(f"{release.candidate} against {release.live_version}, told by {replicas} replicas"))
    titles = {"users": "what users got", "shadow": f"shadow calls, of which {dropped} were dropped"}
    for name, comparison in found.items():
        console.print(escape(f"{titles[name]}: {comparison.verdict}"), highlight=False)
        console.print(comparison_table(comparison))


def comparison_table(comparison: Comparison) -> Table:
    """What was measured, and what follows."""
    table = Table("measure", "live", "candidate", "threshold", "verdict", "why", box=SIMPLE_HEAD)
    calls = (str(comparison.live_calls), str(comparison.candidate_calls))
    table.add_row("calls", *calls, "", "", "")
    for each in comparison.findings:
        values = (_shown(each.measure, value) for value in (each.live, each.candidate))
        table.add_row(each.measure, *values, f"{each.threshold:g}", each.verdict, escape(each.why))
    return table


class _Teller:
    """Says what a rollout decides; the same wait only once."""

    def __init__(self, version: str, *, as_json: bool) -> None:
        self._version, self._as_json = version, as_json
        self._said: tuple[object, ...] = ()
        self._release: Release | None = None

    def tell(self, decision: Decision, release: Release) -> None:
        """Print a decision."""
        self._release = release
        if self._as_json:
            comparison = decision.comparison.to_dict() if decision.comparison else None
            line = {"act": decision.act, "why": decision.why, "revision": release.revision, "comparison": comparison}
            typer.echo(json.dumps({"version": self._version, "share": release.candidate_share, **line}))
            return
        verdicts = tuple(each.verdict for each in decision.comparison.findings) if decision.comparison else ()
        said = (decision.act, release.revision, verdicts)
        if said == self._said:
            return
        self._said = said
        console.print(escape(self._line(decision, release)), highlight=False, soft_wrap=True)
        if decision.comparison is not None:
            console.print(comparison_table(decision.comparison))

    def stopped(self) -> None:
        """Say how it is left."""
        left = "it was not begun" if self._release is None else f"as revision {self._release.revision} left it"
        share = percent(self._release.candidate_share) if self._release else percent(0)
        console.print(
            escape(
                f"stopped: {self._version} stays at {share} of the users, {left}. The same command goes on from there; "
                "`terrace release rollback` takes it from them"
            ),
            soft_wrap=True,
        )

    def _line(self, decision: Decision, release: Release) -> str:
        from server.release.rollout import Act

        where = "live" if release.live_version == self._version else f"at {percent(release.candidate_share)}"
        words = {
            Act.SHADOW: f"{self._version} shadows {percent(decision.share)} of the calls",
            Act.SHARE: f"{self._version} at {percent(decision.share)}",
            Act.PROMOTE: f"{self._version} promoted; watched for another step",
            Act.WITHDRAW: f"{self._version} rolled back and frozen",
            Act.HELD: f"{self._version} {where}, held: a person must look. Go on with `terrace release share` or "
            "`promote`, with another --threshold, or roll it back",
        }
        return f"{words.get(decision.act, f'{self._version} {where}')}: {decision.why}"


def _shown(measure: str, value: float | None) -> str:
    if value is None:
        return ""
    if measure == "p99":
        return f"{value * 1000:.1f} ms"
    return f"{value:.3g}" if measure in {"scores", "coverage"} else percent(value)


def _steps(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) / 100 for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"--steps: {text!r} is not numbers with commas between, such as 1,5,25,100") from None


def _duration(option: str, text: str) -> float:
    found = _is_duration(text)
    if found is None:
        raise typer.BadParameter(f"{option}: {text!r} is no time such as 90s, 10m or 2h")
    return float(found[1]) * _SECONDS[found[2]]


def _thresholds(given: Iterable[str] | None) -> Thresholds:
    from server.release.comparison import Thresholds

    changes: dict[str, float] = {}
    for text in given or ():
        name, _, value = text.partition("=")
        try:
            changes[name] = float(value)
        except ValueError:
            raise typer.BadParameter(f"--threshold: {text!r} is not NAME=VALUE with a number") from None
    try:
        return Thresholds.of(changes)
    except ValueError as error:
        raise typer.BadParameter(f"--threshold: {error}") from None
