"""What a section of the report is made of, and how figures are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.types import Tier
from offline.publish.html_report.charts import SHAPES, Mark, Row

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup

MINUS = "\N{MINUS SIGN}"
LONGEST_LIST = 8
RUNG_SHAPES = {Tier.POPULARITY.name: "circle", Tier.CF.name: "square", Tier.PRECOMPUTED.name: "triangle"}
NAMES = {"co_occurrence": "co-occurrence", "ann": "nearest vectors", "union": "all together"}
METRICS = {"ndcg": "NDCG", "map": "MAP", "mrr": "MRR", "hit_rate": "hit rate"}


@dataclass(frozen=True, slots=True)
class Picture:
    """A chart with what it shows written under it; two drawings where phones get their own."""

    drawings: tuple[Markup, ...]
    caption: str
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Text cells under named columns; the first ``words`` columns are words, the others figures."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    words: int = 1
    folded: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """One section of the page.

    Attributes:
        lead: what is shown, for somebody who has not read the others.

        legend: colours and shapes to explain: (class, shape, name).

        missing: described in place of figures where there are none.
    """

    anchor: str
    title: str
    lead: str
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    legend: tuple[tuple[str, str, str], ...] = ()
    missing: str = ""


def nice(name: str) -> str:
    """A generator or feature as people say it: ``score_ann`` -> ``score of nearest vectors``."""
    for prefix, described in (("score_", "score of"), ("known_", "known to")):
        if name.startswith(prefix):
            return f"{described} {nice(name.removeprefix(prefix))}"
    return NAMES.get(name, name if name.isupper() else name.replace("_", " "))


def measure(name: str) -> str:
    """A metric as people write it: ``hit_rate@20`` -> ``hit rate@20``."""
    kind, at, k = name.partition("@")
    return f"{METRICS.get(kind, kind)}{at}{k}"


def plain(value: float | None, digits: int = 4) -> str:
    """A figure; a dash for none."""
    return "\N{EN DASH}" if value is None else f"{value:.{digits}f}".replace("-", MINUS)


def percent(value: float | None) -> str:
    """A share; a dash for none."""
    return "\N{EN DASH}" if value is None else f"{value:.1%}".replace("-", MINUS)


def ranged(value: Mapping[str, Any] | None, *, signed: bool = False) -> str:
    """A mean, and on a line of its own the interval."""
    if value is None:
        return "\N{EN DASH}"
    mean, low, high = (f"{value[name]:{'+' if signed else ''}.4f}" for name in ("mean", "low", "high"))
    return f"{mean}\n{low} to {high}".replace("-", MINUS)


def count(value: float) -> str:
    """A number of things."""
    return f"{value:,.0f}"


def setting(value: object) -> str:
    """A parameter as a person reads it."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "\N{EN DASH}"}[value]
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", MINUS)
    if isinstance(value, dict):
        return ", ".join(f"{name} {setting(entry)}" for name, entry in list(value.items())[:LONGEST_LIST])
    if isinstance(value, list | tuple):
        if len(value) > LONGEST_LIST:
            return f"{len(value)} values"
        return ", ".join(map(setting, value))
    return str(value)


def rung_mark(rung: str, value: Mapping[str, Any]) -> Mark:
    """A rung's mean and interval in its colour and shape."""
    return Mark(value["mean"], value.get("low"), value.get("high"), f"rung-{rung}", RUNG_SHAPES.get(rung, "diamond"))


def rung_legend(rungs: Sequence[str]) -> tuple[tuple[str, str, str], ...]:
    """The colours of some rungs."""
    return tuple((f"rung-{rung}", RUNG_SHAPES.get(rung, "diamond"), rung) for rung in rungs)


def generator_look(place: int) -> tuple[str, str]:
    """Colour class and shape of the n-th generator."""
    return f"series-{place % 6}", SHAPES[place % len(SHAPES)]


def difference_row(label: str, value: Mapping[str, Any], colour: str = "plain", shape: str = "diamond") -> Row:
    """A difference on a line of its own."""
    return Row(
        label,
        (Mark(value["mean"], value.get("low"), value.get("high"), colour, shape),),
        f"{value['mean']:+.4f}".replace("-", MINUS),
    )
