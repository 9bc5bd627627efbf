"""The section of the page on how precomputed lists age."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from offline.publish.compare import main_metric
from offline.publish.html_report.charts import intervals
from offline.publish.html_report.parts import (
    Picture,
    Section,
    Table,
    count,
    difference_row,
    measure,
    percent,
    ranged,
    rung_legend,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_HOURS_A_DAY = 24.0


def precomputed_lists(figures: Mapping[str, Any]) -> Section:
    """What lists of some hours ago are worth beside the rungs that look at the present."""
    title, anchor = "How precomputed lists age", "list-ages"
    found = figures.get("list_ages")
    if not found or not found["ages"]:
        missing = "Not measured: there is no deep rung to make lists, or events have no times."
        return Section(anchor, title, "", missing=missing)
    metric, ages = main_metric(figures), found["ages"]
    rows = [
        difference_row(f"{_age(age)}: {pair.partition(' - ')[2]}", step[metric], f"rung-{pair.partition(' - ')[2]}")
        for age in ages
        for pair, step in age["differences"].items()
    ]
    drawn = intervals(rows, f"difference in {measure(metric)}", f"lists less other rungs, {metric}, by age", zero=True)
    where = "above" if found.get("above_cf", True) else "below"
    return Section(
        anchor,
        title,
        "Lists that DEEP made some time before a request, as they are served then: without what the person has had since. "
        f"Asked at moments when {count(found['cases'])} people were active, since nothing ages while nobody does anything. "
        f"On the ladder of this bundle PRECOMPUTED stands {where} CF, which the window before this one decided.",
        (
            Picture(
                (drawn,),
                f"{measure(metric)} of the list less that of CF, and less that of DEEP, at the moment of the request, person "
                "by person. Right of the line: the list is better.",
            ),
        ),
        (_table(ages, metric),),
        rung_legend(list(ages[0]["rungs"])),
    )


def _age(age: Mapping[str, Any]) -> str:
    hours = age["hours"]
    return f"{hours / _HOURS_A_DAY:g} days" if hours > _HOURS_A_DAY else f"{hours:g} h"


def _table(ages: list[Mapping[str, Any]], metric: str) -> Table:
    rungs, pairs = list(ages[0]["rungs"]), list(ages[0]["differences"])
    rows = tuple(
        (
            _age(age),
            people,
            count(part["cases"]),
            *(ranged(part["rungs"][name][metric]) for name in rungs),
            *(ranged(part["differences"][pair][metric], signed=True) for pair in pairs),
        )
        for age in ages
        for people, part in (
            (f"{percent(age['covered'])} who had one", age),
            (f"{percent(age['active_since'])} of them, active since", age["after_activity"]),
        )
        if part is not None
    )
    return Table(
        ("list made before", "people", "number", *rungs, *pairs),
        rows,
        f"{measure(metric)}: mean, and under it the 95 % interval",
        words=2,
    )
