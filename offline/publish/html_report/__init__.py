"""The report of a build as one HTML page: nothing is fetched, nothing runs, and the same figures give the same bytes."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from offline.publish.compare import main_metric, top_rung
from offline.publish.html_report import bundle_sections, rung_sections
from offline.publish.html_report.baseline_section import plain_methods
from offline.publish.html_report.deadline_section import deadlines
from offline.publish.html_report.list_section import precomputed_lists
from offline.publish.html_report.parts import count, measure, nice, percent, plain
from offline.publish.html_report.svg import mark, tag

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from core.manifest import Manifest
    from offline.publish.html_report.parts import Section

FILE_NAME = "report.html"


def render(
    manifest: Manifest,
    *,
    change: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
    about_change: bool = False,
    title: str = "",
    beside: Mapping[str, Any] | None = None,
) -> str:
    """The page.

    Args:
        manifest: of the bundle, with its figures and the gate's verdict.
        change: what ``offline.publish.compare.compare`` found against another bundle; None without one.
        warnings: what the build did not do as asked.
        about_change: lead with the comparison, for a page that is about two bundles.
        title: of the page; the bundle's version by default.
        beside: ``baselines`` and ``targets`` of a public data set; None for a build.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = files(__name__) / "templates"
    environment = Environment(
        loader=FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["nice"] = nice
    figures = manifest.metrics
    page = environment.get_template("page.html.j2")
    return (
        page.render(
            manifest=manifest,
            # Our own file: escaping would break its quotes.
            style=Markup((folder / "style.css").read_text(encoding="utf-8")),  # noqa: S704
            title=f"{change['new']} against {change['old']}"
            if about_change and change
            else title or f"Bundle {manifest.version}",
            about=_about(figures),
            verdict=_verdict(manifest),
            tiles=_tiles(figures) if figures else (),
            sections=_sections(manifest, change, beside, about_change=about_change),
            examples=figures.get("examples") or (),
            warnings=warnings,
            symbol=lambda colour, shape: tag(
                "svg", mark(7, 7, shape, f"dot {colour}", 4.6), viewBox="0 0 14 14", class_="symbol", aria_hidden="true"
            ),
        )
        + "\n"
    )


def _sections(
    manifest: Manifest, change: Mapping[str, Any] | None, beside: Mapping[str, Any] | None, *, about_change: bool
) -> list[Section]:
    figures = manifest.metrics
    found = []
    if figures:
        found = [
            rung_sections.rungs(figures),
            deadlines(figures),
            precomputed_lists(figures),
            bundle_sections.generators(figures),
            rung_sections.segments(figures),
            rung_sections.repeats(figures),
            rung_sections.cold(figures),
            bundle_sections.model(manifest, main_metric(figures)),
        ]
    if beside is not None:
        found.insert(0, plain_methods(figures, beside))
    changed = bundle_sections.change(change)
    found = [changed, *found] if about_change else [*found, changed]
    return [*found, bundle_sections.data(manifest), bundle_sections.parameters(manifest)]


def _about(figures: Mapping[str, Any]) -> str:
    if not figures:
        return "Nothing was measured: there were no cases in the last window, or the build was asked not to."
    split = figures["split"]
    windows = {
        "time": "everything in the {days:.3g} days before the end of the data",
        "last-event": "the last event of each person",
        "share": "a fifth of each person's events",
        "given": "a given test set",
    }
    window = windows.get(split.get("kind"), "the last window").format(days=split.get("horizon_days") or 0)
    kind = "items new to them" if split.get("new_only", True) else "items, had before or not"
    return (
        f"Measured on {window}: {count(split['cases'])} people, {kind}. The bundle that was measured knew nothing of that window; "
        "every list came out of the code that serves."
    )


def _verdict(manifest: Manifest) -> dict[str, Any]:
    """The first thing on the page: may this be served?"""
    gate = manifest.gate
    words = {True: "passed", False: "failed", None: "not judged"}
    found: dict[str, Any] = {
        "state": "open",
        "headline": "Not judged",
        "text": "The gate was off.",
        "mend": "",
        "checks": [{**entry, "word": words[entry["passed"]]} for entry in gate.get("checks", ())],
    }
    failed = [entry for entry in found["checks"] if entry["passed"] is False]
    passed = [entry for entry in found["checks"] if entry["passed"]]
    if failed:
        name, done = failed[0]["name"], "Published with a mark" if gate.get("action") == "mark" else "Refused"
        headline = f"{done}: not {name}"
        return found | {
            "state": "failed",
            "headline": headline,
            "text": failed[0]["message"],
            "mend": failed[0]["mend"],
        }
    if passed:
        return found | {"state": "passed", "headline": "Passed", "text": f"{'; '.join(e['name'] for e in passed)}."}
    return found | ({"text": " ".join(entry["message"] for entry in found["checks"])} if gate else {})


def _tiles(figures: Mapping[str, Any]) -> list[dict[str, str]]:
    """Four figures for people who read no others."""
    top, metric = top_rung(figures), main_metric(figures)
    rungs = figures["rungs"]
    best, base = rungs[top], next(iter(rungs.values()))
    k = metric.partition("@")[2]
    hit = f"hit_rate@{k}"
    gains = [
        f"{best[metric]['mean'] / values[metric]['mean'] - 1:+.0%} against {rung}"
        for rung, values in reversed(rungs.items())
        if rung != top and values[metric]["mean"] > 0
    ]
    union = figures["generators"].get("union", {})
    tiles = [
        {
            "value": f"{best[hit]['mean']:.0%}",
            "text": f"of people find something they then turn to among {k} items",
            "beside": f"{base[hit]['mean']:.0%} with popularity alone",
        },
        {
            "value": plain(best[metric]["mean"], 3),
            "text": f"quality of the order, {measure(metric)} of {top}",
            "beside": ", ".join(gains),
        },
        {
            "value": percent(best.get("coverage")),
            "text": "of the catalogue is shown to somebody",
            "beside": f"{percent(base.get('coverage'))} with popularity alone",
        },
    ]
    if union:
        tiles.append(
            {
                "value": f"{union['recall']:.0%}",
                "text": "of what people turn to is among the candidates",
                "beside": f"{count(union['rows'])} candidates on average",
            }
        )
    return tiles
