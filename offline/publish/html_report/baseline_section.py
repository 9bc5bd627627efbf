"""The section that shows the rungs beside plain methods on the same cases, and against targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from offline.publish.compare import main_metric
from offline.publish.html_report.charts import Mark, Row, intervals
from offline.publish.html_report.parts import Picture, Section, Table, measure, plain, ranged, rung_legend, rung_mark

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHOWN = ("ndcg@20", "recall@20", "ndcg@10", "hit_rate@10", "recall@500")
_MET = {True: "yes", False: "no", None: "cannot be said"}


def plain_methods(figures: Mapping[str, Any], beside: Mapping[str, Any]) -> Section:
    """Baselines, rungs and targets."""
    metric = main_metric(figures)
    pictures, tables = [], []
    kinds = {"new": (figures, "items new to the person"), "repeats": (figures.get("repeats"), "repeats allowed")}
    for kind, (found, described) in kinds.items():
        baselines = beside["baselines"].get(kind)
        if not baselines or not found:
            continue
        rows = [
            Row(name, (Mark(v[metric]["mean"], v[metric]["low"], v[metric]["high"]),), plain(v[metric]["mean"]))
            for name, v in baselines.items()
        ]
        rows += [Row(r, (rung_mark(r, v[metric]),), plain(v[metric]["mean"])) for r, v in found["rungs"].items()]
        drawn = intervals(rows, measure(metric), f"{metric} of plain methods and rungs, {described}")
        pictures.append(
            Picture((drawn,), f"{measure(metric)}, {described}. Grey: plain methods on exactly the same cases.")
        )
        everything = {**baselines, **found["rungs"]}
        names = [name for name in _SHOWN if any(name in values for values in everything.values())]
        body = tuple((row, *(ranged(values.get(name)) for name in names)) for row, values in everything.items())
        tables.append(Table(("method", *map(measure, names)), body, described, folded=f"The figures, {described}"))
    body = tuple(
        (
            entry["target"],
            _MET[entry["met"]] + (", the interval reaches below" if entry["chance"] else ""),
            plain(entry["bound"]),
            plain(entry["value"]),
        )
        for entry in beside["targets"]
    )
    tables.insert(0, Table(("target", "met", "at least", "reached"), body, words=2))
    lead = "What a rung is worth shows beside methods that take an afternoon to write, on exactly the same cases."
    return Section(
        "beside", "Beside plain methods", lead, tuple(pictures), tuple(tables), rung_legend(list(figures["rungs"]))
    )
