"""What a process does before it calls itself ready: answer, measure, and repeat golden answers of the bundle."""

from __future__ import annotations

import math
from time import perf_counter
from typing import TYPE_CHECKING, Any

from candidate_gen.merge import merge
from core.manifest import BundleError
from core.query import Request, build_query
from core.types import Tier, UserEvent, UserState
from server.rungs.deadline import Deadline
from server.rungs.request_record import RequestRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from core.types import Recommendation
    from server.rungs.pipeline import Pipeline

LIMITS = (1, 20, 200)
MIN_OVERLAP = 0.8
"""Share of a golden answer that must come again; other processors round scores of near-ties differently."""
_MEASUREMENTS = 5


async def warm_up(pipeline: Pipeline, rounds: int) -> Mapping[Tier, float]:
    """Answer requests of users with popular histories, learn what answers cost, repeat golden answers.

    Args:
        pipeline: what will serve.
        rounds: requests of each size.

    Returns:
        Seconds that the quickest answer from each rung took.

    Raises:
        BundleError: a golden request is not answered as when the bundle was built.
    """
    bundle = pipeline.bundle
    request = Request(user_id="warm-up", limit=max(LIMITS), allow_repeats=True)
    popular = bundle.popularity.generate(build_query(bundle, request, UserState(), 0.0), max(LIMITS)).rows.tolist()
    ids = [bundle.catalogue.ids[row] for row in popular]
    took_s: dict[Tier, float] = {}
    for turn in range(rounds):
        for limit in LIMITS:
            await _ask(pipeline, [(item_id, "", 0.0) for item_id in ids[turn : turn + limit]], limit)
        for tier in (Tier.POPULARITY, Tier.CF, Tier.DEEP):
            begun_s = perf_counter()
            answer = await _ask(pipeline, [(item_id, "", 0.0) for item_id in ids[:50]], 20, tier)
            took_s[answer.tier] = min(perf_counter() - begun_s, took_s.get(answer.tier, math.inf))
    if ids:
        _measure(pipeline, ids)
    for golden in bundle.manifest.golden:
        await _repeat(pipeline, golden)
    return took_s


async def record_golden(pipeline: Pipeline, events: Sequence[tuple[str, str, float]], limit: int) -> dict[str, Any]:
    """One entry for ``Manifest.golden``: a history and the answer to it.

    Args:
        pipeline: of the bundle that is being built.
        events: (item id, event type, age in seconds), newest first.
        limit: items wanted.
    """
    answer = await _ask(pipeline, events, limit)
    ids = pipeline.bundle.catalogue.ids
    items = [ids[row] for row in answer.rows.tolist()]
    return {"events": [list(e) for e in events], "limit": limit, "tier": answer.tier.name, "items": items}


async def _ask(
    pipeline: Pipeline, events: Sequence[tuple[str, str, float]], limit: int, tier: Tier = Tier.DEEP
) -> Recommendation:
    now_s = pipeline.bundle.manifest.as_of_s
    state = UserState(tuple(UserEvent(item_id, kind, now_s - age_s) for item_id, kind, age_s in events))
    request = Request(user_id="warm-up", limit=limit, allow_repeats=True)
    return await pipeline.answer(request, state, RequestRecord(Deadline.never(), tier), now_s=now_s)


def _measure(pipeline: Pipeline, ids: Sequence[str]) -> None:
    """Fit the cost of scoring to the quickest of a few runs over one row and over many."""
    bundle = pipeline.bundle
    if bundle.scorer is None or pipeline.deep is None:
        return
    request = Request(user_id="warm-up", limit=len(ids), allow_repeats=True)
    state = UserState(tuple(UserEvent(item_id, "", 0.0) for item_id in ids))
    query = build_query(bundle, request, state, 0.0)
    sources = tuple(generator.name for generator in bundle.generators)
    candidates = [g.generate(query, bundle.limits[g.name]) for g in bundle.generators]
    pool = merge(candidates, query, sources, bundle.prior)
    took: list[tuple[int, float]] = []
    for part in (pool.take(slice(1)), pool):
        if not len(part):
            return
        bundle.scorer.score(query, part)
        runs = []
        for _ in range(_MEASUREMENTS):
            start_s = perf_counter()
            bundle.scorer.score(query, part)
            runs.append(perf_counter() - start_s)
        took.append((len(part), min(runs)))
    pipeline.deep.cost.seed(*took)


async def _repeat(pipeline: Pipeline, golden: Mapping[str, Any]) -> None:
    answer = await _ask(pipeline, [(i, kind, age_s) for i, kind, age_s in golden["events"]], golden["limit"])
    ids = pipeline.bundle.catalogue.ids
    same = len({ids[row] for row in answer.rows.tolist()} & set(golden["items"])) / max(len(golden["items"]), 1)
    if answer.tier.name != golden["tier"] or (golden["items"] and same < MIN_OVERLAP):
        raise BundleError(
            f"bundle {pipeline.bundle.version}: a golden request is answered from {answer.tier.name} with {same:.0%} of "
            f"its items, expected from {golden['tier']} with at least {MIN_OVERLAP:.0%}. Build the bundle again here"
        )
