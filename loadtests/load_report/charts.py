"""The charts of a load run over its seconds, each one SVG."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from loadtests.load_report.series import OUTCOMES, outcomes
from offline.publish.html_report.svg import Scale, group, line, number, path, picture, spread, tag, text, ticks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from loadtests.history import History, Run
    from loadtests.load_report.series import Series

WIDTH, LEFT, RIGHT, TOP = 960.0, 56.0, 104.0, 40.0
NAMES = {"user": "calls for users", "other": "prefetch and batch", "all": "all calls"}
_MIN_PHASE = 34.0
_LABEL_SHARE, _LETTER = 0.14, 10.0


def latency(run: Run, series: Series, top: float = TOP, height: float = 210.0) -> Markup:
    """Median and p99 of the answers of each second, and the deadline."""
    return _alone(run, series, _latency(run, series, top, height), top + height, "latency of answers by second")


def shares(run: Run, series: Series, kind: str, top: float = TOP, height: float = 170.0) -> Markup:
    """What became of the calls of each second, as shares."""
    title = f"what became of {NAMES[kind]} by second"
    return _alone(run, series, _shares(run, series, kind, top, height), top + height, title)


def rates(run: Run, series: Series, top: float = TOP, height: float = 170.0) -> Markup:
    """Calls a second: offered, answered in time, refused, and the capacity."""
    return _alone(run, series, _rates(run, series, top, height), top + height, "calls a second")


def standalone(run: Run, series: Series) -> str:
    """What became of users' calls above, latency below, as one SVG file that follows light and dark."""
    top, high, low = 78.0, 170.0, 150.0
    second = top + high + 62
    bottom = second + low
    legend = [
        group(
            [tag("rect", x=LEFT + 118 * i, y=30, width=12, height=12, class_="band", rx=2),
             text(LEFT + 118 * i + 18, 41, name, "tick")],
            class_=_colour(name),
        )
        for i, name in enumerate(n for n in OUTCOMES if series.outcomes["user"][n].any())
    ]  # fmt: skip
    parts = [
        text(LEFT, 18, "Who answers users, second by second", "head"),
        *legend,
        *_shares(run, series, "user", top, high),
        text(LEFT, second - 34, "How long answers take (ms), second by second", "head"),
        *_latency(run, series, second, low),
        _seconds(_x(series), len(series), bottom),
    ]
    style = (files("loadtests.load_report") / "templates" / "picture.css").read_text(encoding="utf-8")
    drawn = picture(WIDTH, bottom + 46, f"tier share and latency of {run.scenario}", [
        tag("style", Markup(style)),  # noqa: S704 - our own file
        tag("rect", x=0, y=0, width=WIDTH, height=bottom + 46, class_="paper"),
        *parts,
    ])  # fmt: skip
    return str(drawn).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)


def tier_counts(calls: History) -> dict[str, int]:
    """How many calls each outcome has, answered in time or not; outcomes that never are left out of no run."""
    found = outcomes(calls, np.inf)
    return {name: int((found == name).sum()) for name in OUTCOMES if name != "PRECOMPUTED"}


def _x(series: Series) -> Scale:
    return Scale(0, len(series), LEFT, WIDTH - RIGHT)


def _alone(run: Run, series: Series, parts: Sequence[Markup], bottom: float, title: str) -> Markup:
    return picture(WIDTH, bottom + 44, f"{run.scenario}: {title}", [*parts, _seconds(_x(series), len(series), bottom)])


def _latency(run: Run, series: Series, top: float, height: float) -> list[Markup]:
    x, bottom = _x(series), top + height
    # A failed second must not flatten the others: the axis ends at twice the deadline.
    highest = min(np.nanmax([*series.p99_ms, run.deadline_ms]) * 1.05, 2 * run.deadline_ms)
    shown = ticks(0, highest, 5)
    y = Scale(0, shown[-1], bottom, top)
    parts = [*_back(run, series, top, bottom), *_left(y, shown, [number(v) for v in shown])]
    parts.append(line(LEFT, y(run.deadline_ms), WIDTH - RIGHT, y(run.deadline_ms), "limit"))
    ends = {"limit": y(run.deadline_ms)}
    for values, kind in ((series.p99_ms, "p99"), (series.p50_ms, "p50")):
        parts += [path(piece, f"curve {kind}") for piece in _runs(values, x, y)]
        known = values[~np.isnan(values)]
        if len(known):
            ends[kind] = y(float(known[-1]))
    places = spread(list(ends.values()), 15, top, bottom)
    for kind, at in zip(ends, places, strict=True):
        said = "deadline" if kind == "limit" else kind
        parts.append(text(WIDTH - RIGHT + 8, at + 4, said, f"end-label {kind}-label"))
    return parts


def _shares(run: Run, series: Series, kind: str, top: float, height: float) -> list[Markup]:
    x, bottom = _x(series), top + height
    y = Scale(0, 1, bottom, top)
    total = np.maximum(series.calls[kind], 1)
    base = np.zeros(len(series))
    parts = [*_back(run, series, top, bottom)]
    for name in OUTCOMES:
        counts = series.outcomes[kind][name]
        if not counts.any():
            continue
        roof = base + counts / total
        parts.append(group([path(_steps(base, roof, x, y), "band", closed=True)], class_=_colour(name)))
        parts += _band_label(name, base, roof, x, y)
        base = roof
    scale = [text(LEFT - 8, y(v) + 4, f"{v:.0%}", "tick", "end") for v in (0, 0.5, 1)]
    return [*parts, *scale, *_fault_edges(run, x, top, bottom)]


def _band_label(name: str, base: NDArray[np.float64], roof: NDArray[np.float64], x: Scale, y: Scale) -> list[Markup]:
    """The name in the longest stretch of seconds where the band is thick enough for it, if that is long enough."""
    thick = np.concatenate([[False], roof - base >= _LABEL_SHARE, [False]])
    edges = np.flatnonzero(np.diff(thick.astype(np.int8)))
    if not len(edges):
        return []
    start, end = max(edges.reshape(-1, 2).tolist(), key=lambda stretch: stretch[1] - stretch[0])
    if x(end) - x(start) < _LETTER * len(name):
        return []
    # As high as the middle of the stretch's thinnest second, so that it stays inside.
    thinnest = start + int(np.argmin((roof - base)[start:end]))
    return [text(x((start + end) / 2), y((base[thinnest] + roof[thinnest]) / 2) + 4, name, "band-label", "middle")]


def _rates(run: Run, series: Series, top: float, height: float) -> list[Markup]:
    x, bottom = _x(series), top + height
    found = series.outcomes["all"]
    in_time = sum(found[name] for name in OUTCOMES if name not in {"shed", "failed"})
    lines = {"offered": series.calls["all"], "in time": in_time, "shed": found["shed"]}
    shown = ticks(0, float(max(*(np.max(v) for v in lines.values()), run.capacity)), 5)
    y = Scale(0, shown[-1], bottom, top)
    parts = [*_back(run, series, top, bottom), *_left(y, shown, [number(v) for v in shown])]
    parts.append(line(LEFT, y(run.capacity), WIDTH - RIGHT, y(run.capacity), "limit"))
    parts.append(text(WIDTH - RIGHT + 8, y(run.capacity) + 4, "capacity", "end-label limit-label"))
    for name, values in lines.items():
        if name == "shed" and not np.any(values):
            continue
        parts.append(path(_runs(np.asarray(values, float), x, y)[0], f"curve {name.replace(' ', '-')}"))
    return parts


def _back(run: Run, series: Series, top: float, bottom: float) -> list[Markup]:
    """Phases by name, with faults shaded."""
    x = _x(series)
    parts = []
    for span in run.spans:
        left, right = x(span.start_s), x(span.end_s)
        if span.fault:
            parts.append(tag("rect", x=left, y=top, width=right - left, height=bottom - top, class_="fault"))
        parts.append(line(left, top - 16, left, bottom, "phase"))
        if right - left >= _MIN_PHASE:
            load = f" {span.rate / run.capacity:.2g}x" if not span.name.endswith("x") else ""
            parts.append(text(left + 5, top - 6, f"{span.name}{load}", "tick"))
    return parts


def _fault_edges(run: Run, x: Scale, top: float, bottom: float) -> list[Markup]:
    """Where something is broken, over bands that hide the shade."""
    return [
        tag("rect", x=x(s.start_s), y=top, width=x(s.end_s) - x(s.start_s), height=bottom - top, class_="fault-edge")
        for s in run.spans
        if s.fault
    ]


def _left(y: Scale, shown: Sequence[float], words: Sequence[str]) -> list[Markup]:
    found = []
    for value, said in zip(shown, words, strict=True):
        found += [
            line(LEFT, y(value), WIDTH - RIGHT, y(value), "grid"),
            text(LEFT - 8, y(value) + 4, said, "tick", "end"),
        ]
    return found


def _seconds(x: Scale, seconds: int, bottom: float) -> Markup:
    shown = [value for value in ticks(0, seconds, 10) if value <= seconds]
    parts = [text(x(v), bottom + 18, number(v), "tick", "middle") for v in shown]
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, bottom + 36, "seconds", "axis-name", "middle"))
    return group(parts)


def _steps(base: NDArray[np.float64], roof: NDArray[np.float64], x: Scale, y: Scale) -> list[tuple[float, float]]:
    """The outline of a band with a flat piece for every second."""
    above = [(x(at), y(v)) for second, v in enumerate(roof.tolist()) for at in (second, second + 1)]
    below = [(x(at), y(v)) for second, v in enumerate(base.tolist()) for at in (second, second + 1)]
    return above + below[::-1]


def _runs(values: NDArray[np.float64], x: Scale, y: Scale) -> list[list[tuple[float, float]]]:
    """Pieces of a line between seconds without a value."""
    found: list[list[tuple[float, float]]] = [[]]
    for second, value in enumerate(values.tolist()):
        if np.isnan(value):
            found.append([])
        else:
            found[-1].append((x(second + 0.5), y(value)))
    return [piece for piece in found if piece]


def _colour(name: str) -> str:
    return f"outcome-{name}" if name in {"shed", "failed"} else f"rung-{name}"
