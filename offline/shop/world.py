"""Draws the world of the generated shop: its items as a person sees them, and the truth behind them."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from offline.shop.goods import BRANDS, COLOURS, DEPARTMENTS, LINES
from offline.shop.truth import DAY_S, Truth

if TYPE_CHECKING:
    from numpy.typing import NDArray

STYLES = 12
KINDS = tuple(kind for kinds in DEPARTMENTS.values() for kind in kinds)
_DEPARTMENT_OF = tuple(name for name, kinds in DEPARTMENTS.items() for _ in kinds)
_NOUNS = [kind.noun for kind in KINDS]
_BRANDS_PER_DEPARTMENT = len(BRANDS) // len(DEPARTMENTS)


def draw_world(users: int, items: int, days: int, start_s: int, seed: int) -> tuple[Truth, pa.Table]:
    """The truth, and the items' file (row i is item i of the truth)."""
    rng = np.random.default_rng([seed, 0])
    kind = np.sort(np.concatenate([np.arange(len(KINDS)), rng.integers(0, len(KINDS), items - len(KINDS))]))
    first = np.searchsorted(kind, np.arange(len(KINDS) + 1))
    department = np.array([list(DEPARTMENTS).index(name) for name in _DEPARTMENT_OF])
    brand = department[kind] * _BRANDS_PER_DEPARTMENT + rng.integers(0, _BRANDS_PER_DEPARTMENT, items)
    brand_style = rng.dirichlet(np.full(STYLES, 0.25), len(BRANDS))
    style = 0.5 * brand_style[brand] + 0.48 * rng.dirichlet(np.full(STYLES, 0.15), items) + 0.02 / STYLES
    brand_level = rng.normal(0, 0.3, len(BRANDS))
    dearness = brand_level[brand] + rng.normal(0, 0.2, items)
    end_s = start_s + days * DAY_S
    launched, ended, trend_at, width = _lives(rng, first, items, start_s, end_s)
    truth = Truth(
        start_s=start_s,
        end_s=end_s,
        taste=rng.dirichlet(np.full(STYLES, 0.15), users),
        interest=_interests(rng, users, department),
        thrift=rng.gamma(2, 0.3, users),
        joined_s=start_s + (end_s - start_s) * np.maximum(rng.uniform(-1.2, 0.9, users), 0),
        style=style,
        kind=kind,
        first=first,
        appeal=rng.lognormal(0, 0.9, items),
        dearness=dearness,
        launched_s=launched,
        ended_s=ended,
        trend_at_s=trend_at,
        trend_width_s=width,
        accessory=_accessories(rng, kind, first, style),
        goes_with=_goes_with(),
        lasts_s=np.array([entry.lasts_days * DAY_S for entry in KINDS], np.float64),
        peak_s=np.array([_moment(start_s, entry.peak_day) if entry.peak_day else 0 for entry in KINDS], np.float64),
    )
    return truth, _shelf(rng, truth, brand)


def _goes_with() -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(_NOUNS.index(noun) for noun in kind.goes_with.split(",") if noun) for kind in KINDS)


def _moment(start_s: int, day_of_year: int) -> float:
    year = dt.datetime.fromtimestamp(start_s, dt.UTC).year
    return dt.datetime(year, 1, 1, tzinfo=dt.UTC).timestamp() + day_of_year * DAY_S


def _interests(rng: np.random.Generator, users: int, department: NDArray[np.int64]) -> NDArray[np.float64]:
    """A user cares for one to three departments, and there for some kinds."""
    of_department = rng.dirichlet(np.full(len(DEPARTMENTS), 0.4), users)[:, department]
    interest = of_department * rng.gamma(0.6, 1, (users, len(KINDS))) * rng.lognormal(0, 0.4, len(KINDS)) + 1e-4
    return np.asarray(interest / interest.sum(axis=1, keepdims=True))


def _lives(
    rng: np.random.Generator, first: NDArray[np.int64], items: int, start_s: int, end_s: int
) -> tuple[NDArray[np.float64], ...]:
    """When items are launched, end, and are in fashion: a third is new in the period, a tenth ends, half has no fashion."""
    span = end_s - start_s
    new = rng.random(items) < 0.3
    launched = np.where(new, start_s + span * rng.random(items), start_s - 730 * DAY_S * rng.random(items))
    ended = np.where(rng.random(items) < 0.1, start_s + span * rng.uniform(0.3, 1, items), np.inf)
    ended = np.where(ended > launched + 7 * DAY_S, ended, np.inf)
    steady = rng.random(items) < 0.5
    steady[first[:-1]] = True
    launched[first[:-1]] = start_s - 365 * DAY_S
    ended[first[:-1]] = np.inf
    width = np.where(steady, np.inf, DAY_S * rng.lognormal(np.log(25), 0.5, items))
    new[first[:-1]] = False
    at = np.where(new, launched + 14 * DAY_S, start_s + span * rng.uniform(-0.1, 1.1, items))
    return np.floor(launched), np.floor(ended), at, width


def _accessories(
    rng: np.random.Generator, kind: NDArray[np.int64], first: NDArray[np.int64], style: NDArray[np.float64]
) -> NDArray[np.int64]:
    """For each item of a kind that something goes with: of eight such items the one nearest in style."""
    accessory = np.full(len(kind), -1)
    for source, others in enumerate(_goes_with()):
        if not others:
            continue
        rows = np.arange(first[source], first[source + 1])
        to = np.array(others)[rng.integers(0, len(others), len(rows))]
        tried = rng.integers(first[to][:, None], first[to + 1][:, None], (len(rows), 8))
        near = np.einsum("ms,mcs->mc", style[rows], style[tried])
        accessory[rows] = tried[np.arange(len(rows)), near.argmax(axis=1)]
    return accessory


def _shelf(rng: np.random.Generator, truth: Truth, brand: NDArray[np.int64]) -> pa.Table:
    """Ids, titles, descriptions, categories, prices and stock. Colour and material follow the item's style."""
    items = len(truth.kind)
    main = truth.style.argmax(axis=1)
    shade = _by_style(rng, main, len(COLOURS), 3)
    price = np.array([kind.price for kind in KINDS])[truth.kind] * np.exp(truth.dearness)
    price = np.maximum(np.where(price < 20, np.round(price * 2) / 2, np.round(price)) - 0.05, 0.95)
    line = rng.integers(0, len(LINES), items)
    material = _by_style(rng, main, 3, 1)
    titles, descriptions, categories, ids, colours = [], [], [], [], []
    times: dict[str, int] = {}
    for row in range(items):
        kind, department = KINDS[truth.kind[row]], _DEPARTMENT_OF[truth.kind[row]]
        of = kind.materials.split(",")[material[row]]
        sizes = kind.sizes.split(",")
        colour = None if kind.sizes else COLOURS[shade[row]]
        name = f"{of[0].upper()}{of[1:]} {kind.noun}, {colour or sizes[shade[row] % len(sizes)]}"
        full = f"{BRANDS[brand[row]]} {LINES[line[row]]} {name[0].lower() if of[0].islower() else name[0]}{name[1:]}"
        times[full] = times.get(full, 0) + 1
        titles.append(full if times[full] == 1 else f"{full}, no. {times[full]}")
        descriptions.append(f"{name}. {kind.says} Made for {BRANDS[brand[row]]}.")
        categories.append([department, kind.shelf])
        colours.append(colour)
        ids.append(f"{department[:3].upper()}-{row:06}")
    return pa.table(
        {
            "item_id": pa.array(ids),
            "title": pa.array(titles),
            "description": pa.array(descriptions),
            "categories": pa.array(categories, pa.list_(pa.string())),
            "price": pa.array(price.round(2)),
            "available": pa.array(truth.ended_s > truth.end_s),
            "created_at": pa.array(truth.launched_s.astype(np.int64), pa.timestamp("s", "UTC")),
            "brand": pa.array([BRANDS[b] for b in brand]),
            "colour": pa.array(colours, pa.string()),
        }
    )


def _by_style(rng: np.random.Generator, main: NDArray[np.int64], choices: int, liked: int) -> NDArray[np.int64]:
    """[n] one of ``choices`` each; three in four are among the ``liked`` ones of the item's main style."""
    likes = np.array([rng.permutation(choices)[:liked] for _ in range(STYLES)])
    usual = likes[main, rng.integers(0, liked, len(main))]
    return np.where(rng.random(len(main)) < 0.75, usual, rng.integers(0, choices, len(main)))
