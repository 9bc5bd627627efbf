"""The few things charts are drawn with: scales that map values to places, ticks, and escaped SVG elements.

Charts are inline SVG whose colours are the page's CSS variables, so that one drawing serves light, dark and paper.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from ``low`` to ``high`` on places from ``start`` to ``end``; evenly, or by their logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value; values outside are put at the nearer end."""
        value = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def ticks(low: float, high: float, at_most: int = 5) -> list[float]:
    """Round values from at or below ``low`` to at or above ``high``, in steps of 1, 2 or 5 times a power of ten."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / at_most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def number(value: float) -> str:
    """A tick as it is written: no more digits than it needs."""
    return f"{value:.6g}".replace("-", "\N{MINUS SIGN}")


def tag(name: str, *children: str, **attributes: float | str) -> Markup:
    """An element; ``_`` at the end of an attribute's name falls away and inside it becomes ``-``."""
    described = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _short(value)) for key, value in attributes.items()
    )
    inside = Markup("").join(escape(child) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), described, inside)  # noqa: S704 - names are ours


def group(children: Iterable[Markup], **attributes: float | str) -> Markup:
    """Elements together."""
    return tag("g", *children, **attributes)


def picture(width: float, height: float, title: str, children: Iterable[Markup], kind: str = "") -> Markup:
    """A whole drawing that grows and shrinks with its place; ``title`` says in words what it shows."""
    return tag(
        "svg",
        tag("title", title),
        *children,
        viewBox=f"0 0 {_short(width)} {_short(height)}",
        role="img",
        class_=f"chart {kind}".strip(),
        style=f"--w:{_short(width)}px",
    )


def text(x: float, y: float, words: str, class_: str = "", anchor: str = "start") -> Markup:
    """Words at a place; ``anchor`` is start, middle or end."""
    return tag("text", words, x=x, y=y, class_=class_, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: Sequence[tuple[float, float]], class_: str, *, closed: bool = False) -> Markup:
    """Straight lines through points."""
    steps = "L".join(f"{_short(x)} {_short(y)}" for x, y in points)
    return tag("path", d=f"M{steps}{'Z' if closed else ''}", class_=class_)


def mark(x: float, y: float, shape: str, class_: str, size: float = 4.5) -> Markup:
    """A point; its shape says the same as its colour: ``circle``, ``square``, ``diamond``, ``triangle``."""
    if shape == "square":
        s = size * 0.9
        return tag("rect", x=x - s, y=y - s, width=2 * s, height=2 * s, class_=class_)
    if shape == "diamond":
        s = size * 1.25
        return path([(x, y - s), (x + s, y), (x, y + s), (x - s, y)], class_, closed=True)
    if shape == "triangle":
        s = size * 1.1
        return path([(x, y - s), (x + s, y + s * 0.8), (x - s, y + s * 0.8)], class_, closed=True)
    return tag("circle", cx=x, cy=y, r=size, class_=class_)


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places moved as little as needed to be ``gap`` apart, kept in order between ``low`` and ``high``; for labels."""
    order = sorted(range(len(places)), key=lambda i: (places[i], i))
    found = [places[i] for i in order]
    for i in range(len(found)):
        found[i] = max(found[i], low if i == 0 else found[i - 1] + gap)
    for i in reversed(range(len(found))):
        found[i] = min(found[i], high if i == len(found) - 1 else found[i + 1] - gap)
    moved = [0.0] * len(places)
    for place, i in zip(found, order, strict=True):
        moved[i] = place
    return moved


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
