"""From figures to the sections of the page that are about the rungs and the people who are answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from offline.publish.compare import main_metric
from offline.publish.html_report.charts import Mark, Row, intervals
from offline.publish.html_report.parts import (
    Picture,
    Section,
    Table,
    count,
    difference_row,
    generator_look,
    measure,
    nice,
    percent,
    plain,
    ranged,
    rung_legend,
    rung_mark,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_METRICS = ("ndcg", "recall", "hit_rate", "precision", "map", "mrr")
_BEYOND = {
    "coverage": ("catalogue shown", percent),
    "gini": ("inequality (Gini)", plain),
    "diversity_category": ("variety of categories", plain),
    "diversity_vector": ("variety of texts", plain),
    "novelty": ("novelty, bits", lambda value: plain(value, 2)),
    "serendipity": ("serendipity", plain),
    "popularity_bias": ("popularity bias", lambda value: plain(value, 2)),
    "reached": ("rung reached", percent),
}


def rungs(
    figures: Mapping[str, Any], anchor: str = "rungs", title: str = "What each rung is worth", lead: str = ""
) -> Section:
    """Every rung with its intervals, and each minus the one below."""
    metric = main_metric(figures)
    found = figures["rungs"]
    chart = intervals(
        [
            Row(rung, (rung_mark(rung, values[metric]),), plain(values[metric]["mean"]))
            for rung, values in found.items()
        ],
        f"{measure(metric)}, higher is better",
        f"{metric} of each rung with 95 % intervals",
    )
    pictures = [
        Picture((chart,), f"{measure(metric)} and 95 % intervals over {count(figures['split']['cases'])} people.")
    ]
    if figures["differences"]:
        rows = [
            difference_row(pair, values[metric], f"rung-{pair.partition(' ')[0]}")
            for pair, values in figures["differences"].items()
        ]
        drawn = intervals(rows, f"difference in {measure(metric)}", f"paired differences in {metric}", zero=True)
        pictures.append(
            Picture(
                (drawn,),
                "Each rung minus the one below, person by person. Right of the line: the step is worth taking.",
            )
        )
    return Section(
        anchor,
        title,
        lead
        or "A request climbs as high as its time allows. These are the lists of each rung without a deadline, to the same people. "
        f"{measure(metric)} is 1 when everything a person then turned to stands at the top of the list, and 0 when none of it is in the list.",
        tuple(pictures),
        (*_rung_tables(found), _difference_table(figures["differences"])),
        rung_legend(list(found)),
    )


def _rung_tables(found: Mapping[str, Any]) -> list[Table]:
    first = next(iter(found.values()))
    lengths = sorted({int(name.partition("@")[2]) for name in first if "@" in name}, reverse=True)
    tables = []
    for place, k in enumerate(lengths):
        names = [f"{name}@{k}" for name in _METRICS if f"{name}@{k}" in first]
        rows = tuple((rung, *(ranged(values[name]) for name in names)) for rung, values in found.items())
        folded = f"Lists of {k}: every metric" if place else ""
        tables.append(
            Table(("rung", *map(measure, names)), rows, "mean, and under it the 95 % interval", folded=folded)
        )
    beyond = [name for name in _BEYOND if any(name in values for values in found.values())]
    rows = tuple((rung, *(_BEYOND[name][1](values.get(name)) for name in beyond)) for rung, values in found.items())
    tables.insert(1, Table(("rung", *(_BEYOND[name][0] for name in beyond)), rows, "beyond hits, for lists of 20"))
    return tables


def _difference_table(differences: Mapping[str, Any]) -> Table:
    names = list(next(iter(differences.values()), {}))
    rows = tuple((pair, *(ranged(values[name], signed=True) for name in names)) for pair, values in differences.items())
    return Table(
        ("paired difference", *map(measure, names)),
        rows,
        "mean, and under it the 95 % interval",
        folded="Differences in every metric",
    )


def segments(figures: Mapping[str, Any]) -> Section:
    """For whom it works, and for which items."""
    found = figures.get("segments") or {}
    metric = main_metric(figures)
    names = {"activity": "by how much a person did before", "item_age": "by the age of the item they turned to"}
    pictures, tables = [], []
    for key, described in names.items():
        parts = found.get(key)
        if not parts:
            continue
        rows = [
            Row(
                part["name"],
                tuple(rung_mark(r, v[metric]) for r, v in part["rungs"].items()),
                note=f"n = {count(part['cases'])}",
            )
            for part in parts
        ]
        pictures.append(
            Picture(
                (intervals(rows, measure(metric), f"{measure(metric)} {described}"),), f"{measure(metric)} {described}."
            )
        )
        shown = list(next(iter(parts[0]["rungs"].values())))
        tables.append(
            Table(
                ("segment", "rung", "people", *map(measure, shown)),
                tuple(
                    (part["name"], rung, count(part["cases"]), *(ranged(values[name]) for name in shown))
                    for part in parts
                    for rung, values in part["rungs"].items()
                ),
                words=2,
                folded=f"The figures {described}",
            )
        )
    missing = "" if pictures else "Not measured in this build."
    lead = (
        "Averages hide who is served badly: the same lists, for newcomers and regulars, for fresh items and old ones."
    )
    return Section(
        "segments",
        "For whom it works",
        lead,
        tuple(pictures),
        tuple(tables),
        rung_legend(list(figures["rungs"])),
        missing,
    )


def repeats(figures: Mapping[str, Any]) -> Section:
    """The same window where items that a person had may come back."""
    found = figures.get("repeats")
    if not found:
        return Section("repeats", "With repeats allowed", "", missing="Nobody came back to an item in the last window.")
    lead = "On surfaces that offer again what a person had before (a weekly shop, a replay), the case is another: here items that the person had count too."
    return rungs(found, "repeats", "With repeats allowed", lead)


def cold(figures: Mapping[str, Any]) -> Section:
    """New items and new people."""
    items, users = figures.get("cold_items"), figures.get("cold_users")
    pictures: list[Picture] = []
    tables: list[Table] = []
    if items:
        depth = next(iter(next(iter(items["generators"].values()))))
        days = items.get("days", 30)
        sides = [(items, "among all items")] + (
            [(items["among"], "among new items only")] if items.get("among") else []
        )
        for part, described in sides:
            drawn = intervals(
                _by_finder(part, depth), f"{depth} of new items, {described}", f"{depth} of new items {described}"
            )
            pictures.append(
                Picture(
                    (drawn,),
                    f"Share of the new items people turned to that is found {described}; new: first seen within {days} days, or never yet.",
                )
            )
    if users:
        metric = main_metric(figures)
        known = _known_of_users(users)
        rows = [
            Row(
                described,
                tuple(rung_mark(rung, values[metric]) for rung, values in found.items()),
                note=f"n = {count(people)}",
            )
            for described, people, found in known
        ]
        drawn = intervals(rows, measure(metric), f"{metric} by what is known of a new person")
        pictures.append(
            Picture((drawn,), f"{measure(metric)} by what is known of a new person, on what they turned to afterwards.")
        )
        tables.append(_known_table(known, list(users["popularity"])))
    missing = "" if pictures or tables else "No new items and no new people in the last window."
    new_items = f"{count(items['cases'])} people turned to one of {count(items['items'])} new items. " if items else ""
    lead = f"What works for things and people without a past. {new_items}" + (
        f"{count(users['cases'])} people had done nothing before." if users else ""
    )
    return Section(
        "cold-start", "Cold start", lead, tuple(pictures), tuple(tables), rung_legend(list(figures["rungs"])), missing
    )


def _by_finder(part: Mapping[str, Any], depth: str) -> list[Row]:
    rows = []
    for place, (name, values) in enumerate(part["generators"].items()):
        colour, shape = generator_look(place)
        value = values[depth]
        rows.append(
            Row(nice(name), (Mark(value["mean"], value["low"], value["high"], colour, shape),), plain(value["mean"], 3))
        )
    rows += [Row(rung, (rung_mark(rung, v[depth]),), plain(v[depth]["mean"], 3)) for rung, v in part["rungs"].items()]
    return rows


def _known_of_users(users: Mapping[str, Any]) -> list[tuple[str, int, Mapping[str, Any]]]:
    """What is known, of how many people, and the figures of each rung."""
    found: list[tuple[str, int, Mapping[str, Any]]] = [("nothing", users["cases"], {"POPULARITY": users["popularity"]})]
    category = users.get("category")
    if category:
        found += [
            (described, category["cases"], {"POPULARITY": category[key]})
            for key, described in (("without", "no category"), ("with", "a category"))
        ]
    for entry in users.get("picks") or []:
        described = f"{entry['picks']} item{'s' if entry['picks'] > 1 else ''}"
        found.append((described, entry["cases"], entry["rungs"]))
    return found


def _known_table(known: Sequence[tuple[str, int, Mapping[str, Any]]], names: Sequence[str]) -> Table:
    rows = tuple(
        (described, rung, count(people), *(ranged(values[name]) for name in names))
        for described, people, found in known
        for rung, values in found.items()
    )
    return Table(
        ("what is known", "rung", "people", *map(measure, names)), rows, words=2, folded="New people: the figures"
    )
