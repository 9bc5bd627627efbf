"""The section of the page on what a deadline buys, without and with precomputed lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.types import Tier
from offline.publish.compare import main_metric, top_rung
from offline.publish.html_report.charts import by_deadline
from offline.publish.html_report.parts import Picture, Section, Table, measure, percent, plain, rung_legend

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup

    Curve = Sequence[Mapping[str, Any]]

PHONE = 430.0
_READY = 0.99


def deadlines(figures: Mapping[str, Any]) -> Section:
    """Quality against the time that a caller gives."""
    title, anchor = "What a deadline buys", "deadlines"
    curve: Curve = figures.get("latency") or []
    if len(curve) < 2:
        return Section(anchor, title, "", missing="Not measured in this build.")
    metric = main_metric(figures)
    names = _rungs_of(curve)
    pictures = [
        Picture(
            _drawn(curve, metric),
            f"Measured with a clock on {curve[0].get('cases')} of the cases. Dashed: each rung without a deadline, on the same "
            "ones. Dotted: of DEEP answers, the share of candidates that the model scored.",
            wide=True,
        )
    ]
    tables = [_table(curve, metric, "The figures")]
    # Bundles from before there were lists have no such curve.
    if listed := figures.get("latency_with_lists"):
        described = "The same where everybody has a precomputed list of the night before"
        pictures.append(Picture(_drawn(listed, metric), f"{described}.", wide=True))
        tables.append(_table(listed, metric, described))
        names = _rungs_of([*curve, *listed])
    return Section(
        anchor,
        title,
        "The same cases under real deadlines, one at a time, on the machine that built this bundle. Too little time costs quality, never an "
        f"answer: each request keeps the best rung it has reached. {_climbs(curve, top_rung(figures))}",
        tuple(pictures),
        tuple(tables),
        rung_legend(names),
    )


def _climbs(curve: Curve, top: str) -> str:
    """From which deadline on the highest rung answers."""
    ready = next((entry["deadline_ms"] for entry in curve if entry["tiers"].get(top, 0.0) >= _READY), None)
    if ready is not None:
        return f"From {ready:g} ms on, practically every answer comes from {top}."
    share = percent(curve[-1]["tiers"].get(top, 0.0))
    return (
        f"With {curve[-1]['deadline_ms']:g} ms, {share} of the answers come from {top}; people without any history stay on "
        f"{_rungs_of(curve)[0]}."
    )


def _rungs_of(curve: Curve) -> list[str]:
    """The rungs that answered anything, lowest first."""
    return [tier.name for tier in Tier if any(entry["tiers"].get(tier.name) for entry in curve)]


def _drawn(curve: Curve, metric: str) -> tuple[Markup, ...]:
    """The curve, for wide pages and for phones."""
    return tuple(
        by_deadline(
            [entry["deadline_ms"] for entry in curve],
            [entry[metric] for entry in curve],
            shares={name: [entry["tiers"].get(name, 0.0) for entry in curve] for name in _rungs_of(curve)},
            scored=[entry.get("scored_share") for entry in curve],
            # Bundles from before there was such a figure are drawn without the dashed lines.
            levels=curve[0].get("unhurried", {}),
            metric=measure(metric),
            ribbon=[(entry["interval"]["low"], entry["interval"]["high"]) for entry in curve if "interval" in entry],
            width=width,
        )
        for width in (960.0, PHONE)
    )


def _table(curve: Curve, metric: str, folded: str) -> Table:
    names = _rungs_of(curve)
    rows = tuple(
        (
            f"{entry['deadline_ms']:g}",
            plain(entry[metric]),
            *(percent(entry["tiers"].get(name, 0.0)) for name in names),
            percent(entry.get("scored_share")),
            plain(entry.get("p50_ms"), 1),
            plain(entry.get("p99_ms"), 1),
        )
        for entry in curve
    )
    return Table(
        ("deadline, ms", measure(metric), *names, "pool scored", "median, ms", "p99, ms"),
        rows,
        "share of answers by rung; of DEEP answers, the share of the pool that the model scored; time an answer took",
        words=0,
        folded=folded,
    )
