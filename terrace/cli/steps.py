"""The steps of a build that several commands share: read, draft, measure, judge, publish, report."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from core.manifest import MANIFEST_NAME, BundleError, newest_bundle
from terrace.cli.options import dataset
from terrace.cli.output import errors, print_warning, show_progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from offline.build.builder import Builder
    from offline.progress import Progress
    from offline.publish.compare import Measured
    from offline.publish.gate import Verdict
    from server.signature import PrivateKey

GateMode = Literal["refuse", "mark", "off"]


@dataclass(frozen=True)
class Source:
    """What to build from and how, as the options name it."""

    events: str
    items: str | None = None
    column_map: Sequence[str] = ()
    weight: Sequence[str] = ()
    engine: str = "duckdb"
    split: str = "time"
    horizon_days: float = 30.0
    seed: int = 0
    deep: bool = True
    target_types: Sequence[str] = ()
    test: str | None = None
    train_minutes: float = 30.0
    checkpoints: Path | None = None
    ablate: bool = False


@contextmanager
def builder(source: Source, report_to: Console = errors) -> Iterator[tuple[Builder, Progress]]:
    """A builder over the input, after the data report; its warnings follow when the context ends."""
    from offline.build.builder import Builder, Training
    from offline.build.fit import World
    from offline.read.data_report import render
    from offline.split.windows import TIMED_SPLITS, SplitKind

    split = SplitKind(source.split)
    with (
        dataset(
            source.events,
            source.items,
            source.column_map,
            source.weight,
            source.engine,
            source.test,
            needs_time=split in TIMED_SPLITS,
        ) as (data, backend),
        tempfile.TemporaryDirectory(prefix="terrace-build-") as scratch,
    ):
        report_to.print(render(data.report))
        with show_progress() as progress:
            world = World.read(data, backend, Path(scratch), source.target_types)
            made = Builder(
                world,
                split,
                source.horizon_days,
                seed=source.seed,
                deep=source.deep,
                progress=progress,
                training=Training(source.train_minutes, source.checkpoints, source.ablate),
            )
            yield made, progress
        for warning in made.warnings:
            print_warning(warning)


def measure(made: Builder, progress: Progress) -> Measured:
    """Fit at the last window's cut, and ask the serving code that window's cases; no figures where there are none."""
    from offline.evaluate.evaluation import evaluate
    from offline.evaluate.per_user import PerUser
    from offline.publish.compare import Measured
    from terrace.cli.served import InProcess

    place_lists(made, progress)
    folder = made.world.scratch / "evaluated"
    folder.mkdir()
    manifest = made.draft(folder, made.plan.test.cut, version="not published")
    kept: list[PerUser] = []
    data = made.world.data

    def keep(cases: Any, values: Any) -> None:
        kept.append(PerUser.of(cases, data.user_ids, data.catalogue.ids, values))

    with InProcess(folder) as served:
        figures = evaluate(made, served, keep=keep, progress=progress)
    if figures.get("list_ages"):
        figures["list_ages"]["validation"] = made.list_ages_of_validation
        figures["list_ages"]["above_cf"] = made.precomputed_above_cf
    if not figures:
        print_warning("nobody turned to anything new in the last window, so there is nothing to measure")
    measured = replace(manifest, metrics=figures, rungs=tuple(figures.get("order", ())))
    return Measured(measured, kept[0] if kept else None)


def place_lists(made: Builder, progress: Progress) -> None:
    """Choose on the validation window where precomputed lists stand on the ladder of every draft to come; once.

    What ``offline.evaluate.list_ages`` found there is kept in ``Builder.list_ages_of_validation``.
    """
    from offline.evaluate.list_ages import MAX_CHOICE_CASES, NIGHT_H, above_cf, active_moments, list_ages
    from terrace.cli.served import InProcess

    if made.precomputed_above_cf is not None:
        return
    found = None
    moments = active_moments(made.world, made.plan.valid, MAX_CHOICE_CASES)
    if moments is not None:
        folder = made.world.scratch / "validation"
        folder.mkdir()
        if made.draft_for_choices(folder) is not None:
            with InProcess(folder) as served:
                found = list_ages(served, made.world, moments, ages_h=(NIGHT_H,), progress=progress)
        shutil.rmtree(folder)
    made.precomputed_above_cf, made.list_ages_of_validation = above_cf(found), found


def find_bundle(name: str, bundles: Path) -> Path:
    """The bundle that a path or a version names.

    Raises:
        BundleError: there is none.
    """
    for folder in (Path(name), bundles / name):
        if (folder / MANIFEST_NAME).is_file():
            return folder
    raise BundleError(f"{name}: neither a bundle folder nor a version in {bundles}. `ls {bundles}` shows what there is")


def load_previous(name: str, bundles: Path) -> Measured | None:
    """The bundle to hold a new one against: the one that is named, else the newest of the folder, if any.

    Raises:
        BundleError: the named one cannot be read.
    """
    from offline.publish.compare import Measured

    if name:
        return Measured.load(find_bundle(name, bundles))
    if not any(bundles.glob(f"*/{MANIFEST_NAME}")):
        return None
    try:
        return Measured.load(newest_bundle(bundles))
    except BundleError as error:
        print_warning(f"no comparison with the previous bundle: {error}")
        return None


def gate_entry(verdict: Verdict, mode: GateMode) -> dict[str, Any]:
    """What the manifest says of the gate."""
    if mode == "off":
        return {}
    action = "publish" if verdict.passed else "refuse" if mode == "refuse" else "mark"
    return {**verdict.as_dict(), "action": action}


def release(
    made: Builder,
    bundles: Path,
    measured: Measured | None,
    gate: dict[str, Any],
    progress: Progress,
    previous: Measured | None = None,
    signer: PrivateKey | None = None,
) -> Path:
    """Fit on everything, record golden answers, write the report, sign, publish."""
    from offline.bundle_folder import drafting, publish, seal, version_at
    from offline.evaluate.per_user import FILE_NAME
    from offline.publish.compare import Measured
    from offline.publish.html_report import FILE_NAME as REPORT_NAME
    from terrace.cli.served import InProcess

    place_lists(made, progress)
    version = version_at(time.time())
    with drafting(bundles, version) as draft:
        manifest = replace(made.draft(draft, made.plan.release, version=version), gate=gate)
        with InProcess(draft) as served:
            manifest = replace(manifest, golden=served.golden())
        per_user = None
        if measured is not None:
            manifest = replace(manifest, metrics=measured.figures, rungs=measured.manifest.rungs)
            per_user = measured.per_user
        if per_user is not None:
            per_user.save(draft / FILE_NAME)
        page = report(Measured(manifest, per_user), previous, made.warnings)
        (draft / REPORT_NAME).write_text(page, encoding="utf-8")
        seal(draft, manifest)
        if signer is not None:
            signer.sign(draft)
        return publish(draft, bundles, version)


def release_earlier(made: Builder, bundles: Path, measured: Measured) -> Path:
    """Publish what was measured: a bundle with the same choices that knows nothing of the last window."""
    from offline.bundle_folder import drafting, publish, seal, version_at
    from terrace.cli.served import InProcess

    version = version_at(time.time())
    with drafting(bundles, version) as draft:
        manifest = replace(made.draft(draft, made.plan.test.cut, version=version), metrics=measured.figures)
        with InProcess(draft) as served:
            manifest = replace(manifest, golden=served.golden(), rungs=measured.manifest.rungs)
        seal(draft, manifest)
        return publish(draft, bundles, version)


def report(measured: Measured, previous: Measured | None, warnings: Sequence[str], title: str = "") -> str:
    """The HTML page of a bundle or an evaluation."""
    from offline.publish.compare import compare
    from offline.publish.html_report import render

    change = compare(previous, measured) if previous is not None else None
    return render(measured.manifest, change=change, warnings=warnings, title=title)


def writable(path: Path | None) -> Path | None:
    """The path of a report, after a look whether it can be written; a build takes too long to find out afterwards."""
    if path is None:
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
    except OSError as error:
        raise typer.BadParameter(f"--report {path}: cannot be written: {error.strerror}") from None
    return path
