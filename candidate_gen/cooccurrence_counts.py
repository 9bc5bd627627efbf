"""How often users go from one item to another: the counting behind ``cooccurrence``, as Ibis expressions.

Runs on whatever engine holds the events, in parts of bounded size, and needs ibis, so only builds import it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import ibis
import numpy as np

from candidate_gen.exact import fixed, floating, half_life_decay

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from candidate_gen.cooccurrence_params import Params
    from candidate_gen.registry import BuildInputs
    from core.types import Rows, Scores

_PAIRS_PER_PART = 16_000_000
"""Pairs that the engine has to hold at one time: about 1 GB in DuckDB."""


def nearest(inputs: BuildInputs, params: Params) -> tuple[Rows, Rows, Scores]:
    """The pairs that are kept: source, target and normalised weight [m], at most ``params.neighbours`` a source.

    Work and memory grow with events x ``max_basket`` x ``window`` at worst: no user and no session, however long, makes
    more pairs than that. Left items are taken in parts, one at a time, so that the pairs in memory stay bounded.
    """
    entries = inputs.keep(_entries(inputs.events, params, inputs.as_of_s))
    counts = inputs.keep(_counts(entries, params, inputs.as_of_s))
    reach = int(params.same_basket > 0) + params.window * (1 + int(params.backward > 0))
    pairs_at_most = reach * int(entries["size"].sum().to_pyarrow().as_py() or 0)
    parts = max(1, math.ceil(pairs_at_most / _PAIRS_PER_PART))
    # Kept, since a search for parameters asks for the same sums with other powers and numbers of neighbours.
    sums = (inputs.keep(_summed(_pairs(entries, params, parts, part), params)) for part in range(parts))
    found = [_normalised(summed, counts, params).to_pyarrow() for summed in sums]
    sources, targets, weights = (
        np.concatenate([table[name].to_numpy() for table in found]) for name in ("source", "target", "weight")
    )
    return sources.astype(np.int32), targets.astype(np.int32), weights.astype(np.float32)


def _entries(events: ibis.Table, params: Params, as_of_s: float) -> ibis.Table:
    """One row per (user, basket, item), where the baskets of a user are numbered by ``step``.

    Columns: user, step, item, size (items in the basket), time (of the basket), share (size ** -basket_power / 2),
    new (the user's first basket with this item), late (share x time decay: what the later item of a pair brings).
    """
    positive = events.filter(events.weight > 0)
    if params.unit == "event":
        placed = positive.select(
            "user", "item", "time", step=_numbered(group_by="user", order_by="seq"), size=ibis.literal(1, "int64")
        )
    else:
        once = positive.group_by("user", "session", "item").agg(time=positive.time.min(), seq=positive.seq.min())
        basket = ibis.window(group_by=["user", "session"])
        numbered = once.mutate(
            time=once.time.min().over(basket),
            start=once.seq.min().over(basket),
            size=ibis.least(once.count().over(basket), params.max_basket),
            place=_numbered(group_by=["user", "session"], order_by=[once.seq.desc(), once.item]),
        )
        opened = numbered.filter(numbered.place < params.max_basket).drop("place", "seq", "session")
        step = ibis.dense_rank().over(ibis.window(group_by="user", order_by="start"))
        placed = opened.mutate(step=step).drop("start")
    if params.first_only:
        new = placed.step == placed.step.min().over(ibis.window(group_by=["user", "item"]))
    else:
        new = ibis.literal(value=True)
    share = placed["size"].cast("float64") ** (-params.basket_power / 2)
    late = share * half_life_decay(placed.time, as_of_s, params.half_life_days)
    return placed.mutate(share=share, new=new, late=late)


def _numbered(**window: object) -> ir.IntegerValue:
    return ibis.row_number().over(ibis.window(**window))


def _counts(entries: ibis.Table, params: Params, as_of_s: float) -> ibis.Table:
    """How popular each item is, for damping: item, popularity (decayed entries, with a floor)."""
    decay = half_life_decay(entries.time, as_of_s, params.count_half_life_days)
    valued = entries.select("item", value=fixed(ibis.literal(1.0) * decay))
    floor = 1.0 if params.count_half_life_days is None else 0.1
    total = floating(valued["value"].sum())
    return valued.group_by("item").agg(popularity=ibis.greatest(total, floor))


def _pairs(entries: ibis.Table, params: Params, parts: int, part: int) -> ibis.Table:
    """Every pair whose source is in the part: user, source, target, value (fixed-point weight)."""
    sources = entries.filter(entries.item % parts == part)
    later = entries.filter(entries.new).select("user", "step", target="item", target_weight="late")
    earlier = entries.select("user", "step", target="item", target_weight="share")
    kinds = []
    first_gap = 0 if params.same_basket else 1
    if first_gap <= params.window:
        ahead = sources.select("user", "step", source="item", source_weight="share")
        kinds.append(_joined(ahead, later, range(first_gap, params.window + 1), params, factor=1.0))
    if params.window and params.backward:
        behind = sources.filter(sources.new).select("user", "step", source="item", source_weight="late")
        kinds.append(_joined(behind, earlier, range(-params.window, 0), params, factor=params.backward))
    return ibis.union(*kinds) if len(kinds) > 1 else kinds[0]


def _joined(sources: ibis.Table, targets: ibis.Table, gaps: range, params: Params, factor: float) -> ibis.Table:
    """Pairs of one user whose baskets lie ``gaps`` apart; a gap of 0 is the same basket."""
    spread = sources.mutate(gap=ibis.range(gaps.start, gaps.stop).unnest())
    spread = spread.mutate(step=spread.step + spread.gap)
    pairs = spread.join(targets, ["user", "step"])
    pairs = pairs.filter(pairs.source != pairs.target)
    nearness = pairs.gap.abs().cast("float64") ** -params.gap_power
    nearness = (pairs.gap == 0).ifelse(params.same_basket, factor * nearness)
    return pairs.select("user", "source", "target", value=fixed(nearness * pairs.source_weight * pairs.target_weight))


def _summed(pairs: ibis.Table, params: Params) -> ibis.Table:
    """One row per pair: source, target, value, of pairs that enough users made."""
    if params.min_users == 2:  # two users are there if the least is not the greatest; counting them is slower
        summed = pairs.group_by("source", "target").agg(
            value=pairs["value"].sum(), least=pairs["user"].min(), greatest=pairs["user"].max()
        )
        summed = summed.filter(summed.least != summed.greatest)
    elif params.min_users > 2:
        by_user = pairs.group_by("user", "source", "target").agg(value=pairs["value"].sum().cast("int64"))
        summed = by_user.group_by("source", "target").agg(value=by_user["value"].sum(), users=by_user.count())
        summed = summed.filter(summed.users >= params.min_users)
    else:
        summed = pairs.group_by("source", "target").agg(value=pairs["value"].sum())
    summed = summed.select("source", "target", value=summed["value"].cast("int64"))
    return summed.filter(summed["value"] > 0)


def _normalised(summed: ibis.Table, counts: ibis.Table, params: Params) -> ibis.Table:
    """The nearest targets of every source: source, target, weight."""
    total = floating(summed["value"].sum().over(ibis.window(group_by="source")))
    shared = summed.mutate(total=total).join(counts, summed.target == counts.item)
    weight = (
        floating(shared["value"])
        / (shared.total + params.shrink) ** params.source_power
        / shared.popularity**params.target_power
    )
    weighted = shared.select("source", "target", weight=weight)
    place = _numbered(group_by="source", order_by=[weighted.weight.desc(), weighted.target])
    ranked = weighted.mutate(place=place)
    return ranked.filter(ranked.place < params.neighbours).drop("place")
