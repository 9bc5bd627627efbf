"""The sections of the page that are about what is inside: generators, model, changes, data, parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from offline.publish.html_report.charts import Curve, Mark, Row, curves, intervals
from offline.publish.html_report.parts import (
    Picture,
    Section,
    Table,
    count,
    difference_row,
    generator_look,
    measure,
    nice,
    plain,
    ranged,
    rung_legend,
    setting,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core.manifest import Manifest

_TOP_FEATURES = 20
_NOT_A_SETTING = frozenset({"limit", "importance", "ablation", "features"})
_CHANGED_METRICS = ("ndcg@10", "ndcg@20", "recall@20", "hit_rate@20")


def generators(figures: Mapping[str, Any]) -> Section:
    """What each way of finding candidates finds."""
    found = figures["generators"]
    depths = [name for name in next(iter(found.values())) if name.startswith("recall@")]
    lines = []
    for place, (name, values) in enumerate(entry for entry in found.items() if entry[0] != "union"):
        colour, shape = generator_look(place)
        points = tuple((float(d.partition("@")[2]), values[d]) for d in depths)
        lines.append(Curve(nice(name), points, colour, shape, values.get("limit")))
    union = found.get("union", {})
    if all(d in union for d in depths):
        points = tuple((float(d.partition("@")[2]), union[d]) for d in depths)
        lines.append(Curve(nice("union"), points, "series-union", "circle"))
    drawn = curves(
        lines, "candidates taken (logarithmic)", "recall", "recall of each generator by number of candidates"
    )
    pictures = [
        Picture(
            (drawn,),
            "Share of what people turned to that is among the first n candidates. Rings: how many the bundle takes.",
        )
    ]
    adds = [(name, values) for name, values in found.items() if name != "union" and "adds" in values]
    if adds:
        rows = []
        for name, values in adds:
            colour, shape = generator_look([n for n in found if n != "union"].index(name))
            spread = values.get("intervals", {}).get("adds", {"mean": values["adds"]})
            rows.append(
                Row(
                    nice(name),
                    (Mark(spread["mean"], spread.get("low"), spread.get("high"), colour, shape),),
                    plain(spread["mean"], 3),
                )
            )
        chart = intervals(rows, "recall of the pool that is lost without it", "what each generator adds to the pool")
        pictures.append(
            Picture((chart,), "What only this generator brings: recall of the pool that is lost without it.")
        )
    columns = ("generator", "taken", *depths, "adds to the pool", "NDCG@20 of its list")
    body = tuple(
        (nice(name), count(values["limit"]) if "limit" in values else "", *(plain(values.get(d), 3) for d in depths))
        + ((plain(values.get("adds"), 3), plain(values.get("ndcg@20"))) if name != "union" else ("", ""))
        for name, values in found.items()
    )
    size = (
        f" The pool holds {count(union['rows'])} candidates on average, and {union['recall']:.1%} of what people turned to."
        if union
        else ""
    )
    lead = f"The model can only put in order what the generators find.{size}"
    return Section("generators", "Where candidates come from", lead, tuple(pictures), (Table(columns, body),))


def model(manifest: Manifest, metric: str) -> Section:
    """What the model looks at, and what it would be without its parts."""
    if not manifest.model:
        return Section(
            "model", "What the model looks at", "", missing="This bundle has no model: its ladder ends at CF."
        )
    pictures: list[Picture] = []
    tables: list[Table] = []
    importance = manifest.model.get("importance") or []
    if importance:
        top = sorted(importance, key=lambda entry: -entry["drop"])
        rows = [
            Row(
                nice(e["feature"]),
                (Mark(e["drop"], e.get("low"), e.get("high"), "rung-DEEP", "diamond"),),
                plain(e["drop"]),
            )
            for e in top[:_TOP_FEATURES]
        ]
        chart = intervals(
            rows, f"loss of {measure(metric)} when shuffled", "importance of the model's features", zero=True
        )
        pictures.append(
            Picture((chart,), "How much worse the order becomes when one feature is shuffled among candidates.")
        )
        body = tuple(
            (nice(e["feature"]), ranged({"mean": e["drop"], "low": e["low"], "high": e["high"]}, signed=True))
            for e in top
        )
        tables.append(Table(("feature", f"loss of {measure(metric)}"), body, folded=f"All {len(top)} features"))
    ablation = manifest.model.get("ablation") or []
    if ablation:
        rows = [
            difference_row(
                f"without {nice(e['without'])}",
                {"mean": e["difference"], "low": e.get("low"), "high": e.get("high")},
                "rung-DEEP",
            )
            for e in ablation
        ]
        chart = intervals(rows, f"change of {measure(metric)}", "what the model loses without a part", zero=True)
        pictures.append(
            Picture((chart,), "The model trained again without a part. Left of the line: the part is worth having.")
        )
    missing = "" if pictures else "Feature importance was not measured in this build."
    return Section(
        "model",
        "What the model looks at",
        "Measured on the validation window, not on the test.",
        tuple(pictures),
        tuple(tables),
        missing=missing,
    )


def change(found: Mapping[str, Any] | None) -> Section:
    """What changed against another bundle."""
    title = "What changed"
    if found is None:
        return Section("change", title, "", missing="There was no earlier bundle to compare with.")
    metric = found["metric"]
    lead = f"{found['new']} against {found['old']}. {found['how'][:1].upper()}{found['how'][1:]}."
    pictures: tuple[Picture, ...] = ()
    tables = []
    if found["rungs"]:
        rows = [
            difference_row(rung, _as_interval(values[metric]), f"rung-{rung}")
            for rung, values in found["rungs"].items()
            if metric in values
        ]
        chart = intervals(rows, f"change of {measure(metric)}", f"change of {metric} against {found['old']}", zero=True)
        pictures = (Picture((chart,), f"{found['new']} minus {found['old']}. Right of the line: better than before."),)
        names = [name for name in _CHANGED_METRICS if all(name in values for values in found["rungs"].values())]
        body = tuple(
            (
                rung,
                measure(name),
                plain(values[name]["old"]),
                plain(values[name]["new"]),
                ranged(_as_interval(values[name]), signed=True),
            )
            for rung, values in found["rungs"].items()
            for name in names
        )
        tables.append(Table(("rung", "metric", "before", "now", "difference"), body, words=2))
    recall = tuple(
        (nice(name), figure, plain(values[figure]["old"], 3), plain(values[figure]["new"], 3))
        for name, values in found["generators"].items()
        for figure in values
        if figure in {"recall", "recall@100", "recall@500", "adds"}
    )
    if recall:
        tables.append(
            Table(("generator", "figure", "before", "now"), recall, words=2, folded="Generators before and now")
        )
    changed = tuple((entry["what"], setting(entry["old"]), setting(entry["new"])) for entry in found["parameters"])
    tables.append(
        Table(
            ("what", "before", "now"),
            changed or (("nothing", "", ""),),
            words=3,
            folded=f"Data and parameters: {len(changed)} changed",
        )
    )
    legend = rung_legend(list(found["rungs"])) if pictures else ()
    return Section("change", title, lead, pictures, tuple(tables), legend)


def _as_interval(entry: Mapping[str, float]) -> dict[str, float]:
    return {"mean": entry["difference"], "low": entry["low"], "high": entry["high"]}


def data(manifest: Manifest) -> Section:
    """The data report."""
    found = manifest.data
    if not found:
        return Section("data", "The data", "", missing="This bundle keeps no data report.")
    source = f"{found['events_from']}, {found['items_from']}" if found.get("items_from") else found["events_from"]
    facts = (
        ("read from", source),
        ("events", f"{count(found['events'])} of {count(found['rows_read'])} rows"),
        ("people", count(found["users"])),
        ("items", f"{count(found['items'])}, of which {count(found['items_with_events'])} with events"),
        ("time", f"{found['first_event']} to {found['last_event']}" if found["first_event"] else "none"),
        ("sessions", f"{count(found['sessions'])} from {found['sessions_from']}"),
        *(("warning", warning) for warning in found.get("warnings", ())),
    )
    types = tuple(
        (entry["name"], count(entry["events"]), f"{entry['weight']:g}", "yes" if entry["seen"] else "no")
        for entry in found.get("event_types", ())
    )
    tables = [
        Table(("", ""), facts, words=2),
        Table(("event type", "events", "weight", "hides the item afterwards"), types),
    ]
    findings = tuple(
        (entry["what"], f"{entry['done']}: {entry['why']}", entry["example"], count(entry["count"]))
        for entry in found.get("findings", ())
    )
    if findings:
        tables.append(Table(("found", "what was done, and why", "for example", "how many"), findings, words=3))
    return Section("data", "The data", "What was read, and what was not taken as it is.", (), tuple(tables))


def parameters(manifest: Manifest) -> Section:
    """Everything that was chosen or set."""
    parts = {
        **manifest.generators,
        "CF scorer": manifest.cf,
        "model": manifest.model,
        "event weights": manifest.event_weights,
    }
    rows = tuple(
        (nice(part), name.replace("_", " "), setting(value))
        for part, settings in parts.items()
        for name, value in settings.items()
        if name not in _NOT_A_SETTING and value != ""
    )
    limits = tuple((nice(name), count(values["limit"])) for name, values in manifest.generators.items())
    return Section(
        "parameters",
        "Parameters",
        "Chosen on the validation window where there was a choice.",
        (),
        (
            Table(("generator", "candidates taken"), limits),
            Table(("part", "parameter", "value"), rows, words=3, folded="All parameters"),
        ),
    )
