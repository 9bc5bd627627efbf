"""The charts of the report, each from plain figures to one SVG."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from offline.publish.html_report.svg import Scale, group, line, mark, number, path, picture, spread, tag, text, ticks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup

SHAPES = ("circle", "square", "diamond", "triangle")
WIDTH = 460.0
ROW = 30.0
LETTER, CAPITAL = 7.2, 9.0
"""Widths at the size of labels, in the widest of the usual fonts."""
_BAND_ROOM = 0.07
"""Half the height of a label inside a band, as a share of all answers."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One mean with its interval.

    Attributes:
        colour: a CSS class that sets the colour.

        low: None where there is no interval.
    """

    mean: float
    low: float | None = None
    high: float | None = None
    colour: str = "plain"
    shape: str = "circle"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of an interval chart: a label, what is written at its end, and its marks from top to bottom."""

    label: str
    marks: tuple[Mark, ...]
    text: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a line chart; ``ring`` is an x at which a ring is drawn on it."""

    label: str
    points: tuple[tuple[float, float], ...]
    colour: str
    shape: str
    ring: float | None = None


def intervals(
    rows: Sequence[Row], axis: str, title: str, *, zero: bool = False, left: float = 0.0, right: float = 64.0
) -> Markup:
    """Points with their intervals on one axis, a line of the chart each.

    Args:
        rows: from top to bottom.
        axis: what the axis shows, with its unit.
        title: what the chart shows, for those who do not see it.
        zero: draw the line at zero and keep it in view.
        left: room for labels; as much as they need by default.
        right: room for what is written at the end of a row.
    """
    longest = max((max(_wide(row.label), 0.85 * _wide(row.note)) for row in rows), default=0.0)
    left = left or min(max(longest + 14, 60.0), 190.0)
    right = right if any(row.text for row in rows) else 14.0
    ends = [v for row in rows for m in row.marks for v in (m.mean, m.low, m.high) if v is not None]
    shown = ticks(min([*ends, *([0.0] if zero else [])]), max([*ends, *([0.0] if zero else [])]), 4)
    x = Scale(shown[0], shown[-1], left, WIDTH - right)
    heights = [max(ROW + (6 if row.note else 0), 13.0 * len(row.marks) + 12) for row in rows]
    bottom = 8 + sum(heights)
    parts = [_axis_below(x, shown, 8, bottom, axis)]
    if zero:
        parts.append(line(x(0), 8, x(0), bottom, "zero"))
    y = 8.0
    for row, height in zip(rows, heights, strict=True):
        middle = y + height / 2
        parts.append(text(left - 10, middle + (0 if row.note else 4), _cut(row.label, left - 10), "label", "end"))
        if row.note:
            parts.append(text(left - 10, middle + 13, row.note, "note", "end"))
        for i, m in enumerate(row.marks):
            at = middle + 13.0 * (i - (len(row.marks) - 1) / 2)
            parts.append(_whisker(x, at, m))
        if row.text:
            parts.append(text(WIDTH - right + 8, middle + 4, row.text, "value"))
        y += height
    return picture(WIDTH, bottom + 44, title, parts)


def curves(found: Sequence[Curve], x_axis: str, y_axis: str, title: str) -> Markup:
    """Lines over a logarithmic x axis, labelled at their ends."""
    left, right, top, bottom = 44.0, max(len(c.label) for c in found) * 6.4 + 20, 12.0, 270.0
    xs = sorted({x for curve in found for x, _ in curve.points})
    shown = ticks(0, max(y for curve in found for _, y in curve.points), 5)
    x = Scale(xs[0], xs[-1] if xs[-1] > xs[0] else xs[0] + 1, left + 6, WIDTH - right, log=xs[0] > 0)
    y = Scale(shown[0], shown[-1], bottom, top)
    parts = [_axis_left(y, shown, left, WIDTH - right, y_axis)]
    parts += [tag("text", number(v), x=x(v), y=bottom + 18, class_="tick", text_anchor="middle") for v in xs]
    parts.append(text((left + WIDTH - right) / 2, bottom + 38, x_axis, "axis-name", "middle"))
    labels = spread([y(curve.points[-1][1]) for curve in found], 15, top + 4, bottom)
    for curve, at in zip(found, labels, strict=True):
        places = [(x(a), y(b)) for a, b in curve.points]
        drawn = [path(places, f"curve {curve.colour}"), *(mark(a, b, curve.shape, "dot", 3.6) for a, b in places)]
        if curve.ring is not None and xs[0] <= curve.ring <= xs[-1]:
            drawn.append(tag("circle", cx=x(curve.ring), cy=y(_between(curve.points, curve.ring)), r=7, class_="ring"))
        end = places[-1]
        drawn.append(line(end[0] + 5, end[1], end[0] + 11, at, "lead"))
        drawn.append(text(end[0] + 14, at + 4, curve.label, "end-label"))
        parts.append(group(drawn, class_=f"series {curve.colour}"))
    return picture(WIDTH, bottom + 46, title, parts)


def by_deadline(
    deadlines: Sequence[float],
    quality: Sequence[float],
    *,
    shares: Mapping[str, Sequence[float]],
    scored: Sequence[float | None],
    levels: Mapping[str, float],
    metric: str,
    ribbon: Sequence[tuple[float, float]] = (),
    width: float = 960.0,
) -> Markup:
    """What a deadline buys: quality above, which rung answered below, on one axis of milliseconds.

    Args:
        deadlines: [d] milliseconds, increasing.
        quality: [d] mean of ``metric``.
        shares: rung, lowest first -> [d] share of answers.
        scored: [d] share of the pool that the model scored.
        levels: rung -> its ``metric`` without a deadline.
        metric: the name of what is measured.
        ribbon: [d] 95 % intervals of ``quality``; empty where there are none.
        width: of the drawing; small ones are for phones.
    """
    small = width < 700
    left, right, top, middle, gap, low = 52.0, 24.0 if small else 120.0, 26.0, 236.0, 34.0, 132.0
    edge, under = width - right, middle + gap
    bottom = under + low
    x = Scale(deadlines[0], deadlines[-1], left + 10, edge - 6, log=True)
    shown = ticks(0, max([*quality, *levels.values(), *(high for _, high in ribbon)]), 5)
    y = Scale(shown[0], shown[-1], middle, top)
    parts = [_axis_left(y, shown, left, edge, metric)]
    heights = spread([y(level) for level in levels.values()], 16, top, middle)
    for n, ((rung, level), at) in enumerate(zip(levels.items(), heights, strict=True)):
        words = f"{rung} {level:.3f}"
        # On a phone there is no room beside the lines: the lowest is named under its line, the others above theirs.
        above = y(level) + (14 if n == 0 else -5)
        name = text(left + 4, above, words, "end-label") if small else text(edge + 8, at + 4, words, "end-label")
        parts.append(group([line(left, y(level), edge, y(level), "level"), name], class_=f"series rung-{rung}"))
    places = [(x(d), y(q)) for d, q in zip(deadlines, quality, strict=True)]
    if ribbon:
        upper = [(x(d), y(high)) for d, (_, high) in zip(deadlines, ribbon, strict=True)]
        lower = [(x(d), y(low)) for d, (low, _) in zip(deadlines, ribbon, strict=True)]
        parts.insert(1, path([*upper, *reversed(lower)], "ribbon", closed=True))
    parts.append(path(places, "curve main-curve"))
    parts += [mark(a, b, "circle", "main-dot", 4) for a, b in places]
    share = Scale(0, 1, bottom, under)
    base = [0.0] * len(deadlines)
    for rung, values in shares.items():
        roof = [b + v for b, v in zip(base, values, strict=True)]
        outline = [(x(d), share(v)) for d, v in zip(deadlines, roof, strict=True)]
        floor = [(x(d), share(v)) for d, v in zip(reversed(deadlines), reversed(base), strict=True)]
        parts.append(group([path(outline + floor, "band", closed=True)], class_=f"series rung-{rung}"))
        parts += _band_label(rung, [x(d) for d in deadlines], base, roof, share)
        base = roof
    parts += [
        group(
            [text(left - 8, share(v) + 4, f"{v:.0%}", "tick", "end"), line(left, share(v), left + 6, share(v), "grid")]
        )
        for v in (0.0, 0.5, 1.0)
    ]
    seen = [(d, s) for d, s in zip(deadlines, scored, strict=True) if s is not None]
    if len(seen) > 1:
        parts.append(path([(x(d), share(s)) for d, s in seen], "scored"))
    parts += _ticks_that_fit(deadlines, x, bottom)
    parts.append(text(left, top - 12, f"{metric} of the answers that came in time", "axis-name"))
    parts.append(text(left, under - 9, "share of answers by rung", "axis-name"))
    parts.append(
        text(
            (left + edge) / 2, bottom + 40, "deadline of the request, milliseconds (logarithmic)", "axis-name", "middle"
        )
    )
    title = f"{metric} and share of answers by rung, by deadline in milliseconds"
    return picture(width, bottom + 50, title, parts, "small-only" if small else "wide-only")


def _ticks_that_fit(values: Sequence[float], x: Scale, bottom: float) -> list[Markup]:
    parts, last = [], -1e9
    for value in values:
        parts.append(line(x(value), bottom, x(value), bottom + 5, "tick-mark"))
        if x(value) - last >= 26:
            parts.append(text(x(value), bottom + 20, number(value), "tick", "middle"))
            last = x(value)
    return parts


def _band_label(
    rung: str, places: Sequence[float], floor: Sequence[float], roof: Sequence[float], share: Scale
) -> list[Markup]:
    """The rung's name where its band is widest, if it fits inside; the legend has it anyway."""
    thick = [high - low for low, high in zip(floor, roof, strict=True)]
    widest = [n for n, value in enumerate(thick) if value >= 0.95 * max(thick)]
    half = _wide(rung) / 2 + 4
    at = min(max(places[widest[len(widest) // 2]], places[0] + half), places[-1] - half)
    middle = (_height(places, floor, at) + _height(places, roof, at)) / 2
    inside = all(
        _height(places, floor, edge) + _BAND_ROOM <= middle <= _height(places, roof, edge) - _BAND_ROOM
        for edge in (at - half, at, at + half)
    )
    return [text(at, share(middle) + 4, rung, "band-label", "middle")] if inside else []


def _height(places: Sequence[float], values: Sequence[float], place: float) -> float:
    """A polyline's height at a place."""
    for (a, low), (b, high) in pairwise(zip(places, values, strict=True)):
        if a <= place <= b:
            return low + (high - low) * (place - a) / (b - a)
    return values[-1]


def _axis_below(x: Scale, shown: Sequence[float], top: float, bottom: float, name: str) -> Markup:
    parts = [line(x(v), top, x(v), bottom, "grid") for v in shown]
    parts += [text(x(v), bottom + 17, number(v), "tick", "middle") for v in shown]
    # Long names are kept inside the drawing.
    middle = min(max((x.start + x.end) / 2, len(name) * 3.2), WIDTH - len(name) * 3.2)
    parts.append(text(middle, bottom + 36, name, "axis-name", "middle"))
    return group(parts)


def _axis_left(y: Scale, shown: Sequence[float], left: float, right: float, name: str) -> Markup:
    parts = [line(left, y(v), right, y(v), "grid") for v in shown]
    parts += [text(left - 8, y(v) + 4, number(v), "tick", "end") for v in shown]
    return group([tag("desc", name), *parts])


def _whisker(x: Scale, y: float, m: Mark) -> Markup:
    parts = []
    if m.low is not None and m.high is not None:
        parts.append(line(x(m.low), y, x(m.high), y, "whisker"))
    parts.append(mark(x(m.mean), y, m.shape, "dot"))
    return group(parts, class_=f"series {m.colour}")


def _between(points: Sequence[tuple[float, float]], x: float) -> float:
    """The curve's height at ``x``, as it is drawn: straight over the logarithm of x."""
    for (a, low), (b, high) in pairwise(points):
        if a <= x <= b:
            return Scale(a, b, low, high, log=a > 0)(x)
    return points[-1][1]


def _wide(words: str) -> float:
    return sum(CAPITAL if letter.isupper() else LETTER for letter in words)


def _cut(words: str, room: float) -> str:
    if _wide(words) <= room:
        return words
    while words and _wide(words) > room - CAPITAL:
        words = words[:-1]
    return f"{words}\N{HORIZONTAL ELLIPSIS}"
