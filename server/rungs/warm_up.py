"""What a process does before it calls itself ready: answer, measure, and repeat golden answers of the bundle."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from candidate_gen.merge import merge
from core.manifest import BundleError, GoldenError
from core.query import Request, build_query
from core.types import Reason, Tier, UserEvent, UserState
from server.rungs.deadline import Deadline
from server.rungs.request_record import RequestRecord
from server.rungs.stop_flag import StopFlag

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from core.types import Recommendation
    from server.rungs.pipeline import Pipeline

LIMITS = (1, 20, 200)
MIN_OVERLAP = 0.8
"""Share of a golden answer that must come again; other processors round scores of near-ties differently."""
_MEASUREMENTS = 5
_ATTEMPTS = 3
"""How often a golden request is asked that is late: a machine that is busy just now says nothing of the bundle."""
_PATIENCE = 20.0
"""Longest wait for one answer, or one run of the model, in longest runs of the model (``score_timeout_ms``). Warm-up has no
deadline, so that all rows are scored however busy the machine is; but a model that hangs must not keep the lower rungs from
serving."""
_log = logging.getLogger(__name__)


class GoldenDeepError(GoldenError):
    """The deep rung does not answer as it did when the bundle was built; the rungs below may."""


class Costs(NamedTuple):
    """What the quickest answers took, nobody else being there.

    Attributes:
        answer_s: seconds, by rung.

        thread_s: seconds that the one from the deep rung kept its thread busy; where there is none, all of one from CF;
            None where nothing was measured.
    """

    answer_s: Mapping[Tier, float]
    thread_s: float | None


async def warm_up(pipeline: Pipeline, rounds: int) -> Costs:
    """Answer requests of users with popular histories, learn what answers cost, repeat golden answers.

    Args:
        pipeline: what will serve.
        rounds: requests of each size.

    Raises:
        GoldenDeepError: a golden request is not answered from the deep rung as when the bundle was built.
        GoldenError: one is not answered from a lower rung as when the bundle was built.
        BundleError: a golden request cannot be read.
    """
    bundle = pipeline.bundle
    request = Request(user_id="warm-up", limit=max(LIMITS), allow_repeats=True)
    popular = pipeline.floor.generate(build_query(bundle, request, UserState(), 0.0), max(LIMITS)).rows.tolist()
    ids = [bundle.catalogue.ids[row] for row in popular]
    took_s: dict[Tier, float] = {}
    thread_s = math.inf
    try:
        for turn in range(rounds):
            for limit in LIMITS:
                await _ask_in_time(pipeline, [(item_id, "", 0.0) for item_id in ids[turn : turn + limit]], limit)
            for tier in (Tier.POPULARITY, Tier.CF, Tier.DEEP):
                begun_s = perf_counter()
                answer = await _ask_in_time(pipeline, [(item_id, "", 0.0) for item_id in ids[:50]], 20, tier)
                took_s[answer.tier] = min(perf_counter() - begun_s, took_s.get(answer.tier, math.inf))
                if answer.tier is Tier.DEEP:
                    thread_s = min((answer.stage_ms["retrieve"] + answer.stage_ms["score"]) / 1000, thread_s)
        _measure(pipeline, ids)
    except Exception:  # noqa: BLE001 - a plug-in or the model; golden requests say whether the rung can be used
        _log.exception("the cost of answers could not be measured")
    _close_breakers(pipeline)
    await repeat_golden(pipeline)
    _close_breakers(pipeline)
    if Tier.DEEP in took_s:
        return Costs(took_s, thread_s)
    if pipeline.deep is None and Tier.CF in took_s:
        # Calls that may climb so high end on the rung below, and take what that takes.
        return Costs(took_s | {Tier.DEEP: took_s[Tier.CF]}, took_s[Tier.CF])
    return Costs(took_s, None)


async def repeat_golden(pipeline: Pipeline) -> list[Recommendation]:
    """Ask the bundle's golden requests again, each of the rung that answered it, and compare.

    Returns:
        An answer for each that is as it was. Requests of disabled rungs are left out, and those that were late each time.

    Raises:
        GoldenDeepError: a golden request is not answered from the deep rung as when the bundle was built.
        GoldenError: one is not answered from a lower rung as when the bundle was built.
        BundleError: a golden request cannot be read.
    """
    bundle = pipeline.bundle
    # The rungs below first: a bundle that they are wrong in is not used at all.
    golden = sorted(map(_Golden.of, bundle.manifest.golden), key=lambda each: each.tier)
    answers = [await _repeat(pipeline, each) for each in golden if each.tier not in bundle.disabled]
    return [answer for answer in answers if answer is not None]


def _close_breakers(pipeline: Pipeline) -> None:
    """What failed before anybody was served must not keep a golden request or a caller from a rung."""
    for breaker in pipeline.breakers.values():
        if breaker.opened:
            _log.warning("%s failed in warm-up", breaker.name)
        breaker.start_over()


class _Golden(NamedTuple):
    """A request with the answer it had when the bundle was built."""

    events: tuple[tuple[str, str, float], ...]
    limit: int
    tier: Tier
    items: frozenset[str]

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> _Golden:
        try:
            events = tuple((str(item_id), str(kind), float(age_s)) for item_id, kind, age_s in entry["events"])
            return cls(events, int(entry["limit"]), Tier[entry["tier"]], frozenset(entry["items"]))
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"manifest.json: a golden request is not readable ({error}). Build again") from error


async def record_golden(
    pipeline: Pipeline, events: Sequence[tuple[str, str, float]], limit: int, tier: Tier = Tier.DEEP
) -> dict[str, Any]:
    """One entry for ``Manifest.golden``: a history and the answer to it.

    Args:
        pipeline: of the bundle that is being built.
        events: (item id, event type, age in seconds), newest first.
        limit: items wanted.
        tier: the highest rung that may answer.
    """
    answer = await _ask(pipeline, events, limit, tier)
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


async def _ask_in_time(
    pipeline: Pipeline, events: Sequence[tuple[str, str, float]], limit: int, tier: Tier = Tier.DEEP
) -> Recommendation:
    """``_ask``; raises ``TimeoutError`` when there is no answer for so long that something must hang."""
    async with asyncio.timeout(_longest_s(pipeline)):
        return await _ask(pipeline, events, limit, tier)


def _longest_s(pipeline: Pipeline) -> float | None:
    return None if pipeline.deep is None else _PATIENCE * pipeline.deep.budget.longest_run_s


def _measure(pipeline: Pipeline, ids: Sequence[str]) -> None:
    """Fit the cost of scoring to the quickest of a few runs over one row and over many."""
    bundle = pipeline.bundle
    if bundle.scorer is None or pipeline.deep is None or not ids:
        return
    request = Request(user_id="warm-up", limit=len(ids), allow_repeats=True)
    state = UserState(tuple(UserEvent(item_id, "", 0.0) for item_id in ids))
    query = build_query(bundle, request, state, 0.0)
    sources = tuple(generator.name for generator in bundle.generators)
    candidates = [g.generate(query, bundle.limits[g.name]) for g in bundle.generators]
    pool = merge(candidates, query, sources, bundle.prior)
    took: list[tuple[int, float]] = []
    stop = StopFlag()
    timer = threading.Timer(_PATIENCE * pipeline.deep.budget.longest_run_s, stop.stop)
    timer.start()
    try:
        for part in (pool.take(slice(1)), pool):
            if not len(part):
                return
            bundle.scorer.score(query, part, stop)
            runs = []
            for _ in range(_MEASUREMENTS):
                start_s = perf_counter()
                bundle.scorer.score(query, part, stop)
                runs.append(perf_counter() - start_s)
            took.append((len(part), min(runs)))
    finally:
        timer.cancel()
    pipeline.deep.cost.seed(*took)


async def _repeat(pipeline: Pipeline, golden: _Golden) -> Recommendation | None:
    """Ask a golden request again, of the rung that answered it; None where it was late each time."""
    version = pipeline.bundle.version
    for _ in range(_ATTEMPTS):
        try:
            answer = await _ask_in_time(pipeline, golden.events, golden.limit, golden.tier)
        except TimeoutError:
            continue
        if answer.skipped.get(golden.tier) is not Reason.LATE:
            break
    else:
        _log.warning("bundle %s: a golden request was late %d times and is not checked", version, _ATTEMPTS)
        return None
    ids = pipeline.bundle.catalogue.ids
    same = len({ids[row] for row in answer.rows.tolist()} & golden.items) / max(len(golden.items), 1)
    if answer.tier is golden.tier and (same >= MIN_OVERLAP or not golden.items):
        return answer
    why = f" ({answer.skipped[golden.tier]})" if golden.tier in answer.skipped else ""
    error = GoldenDeepError if golden.tier is Tier.DEEP else GoldenError
    raise error(
        f"bundle {version}: a golden request is answered from {answer.tier.name}{why} with {same:.0%} of its items, "
        f"expected from {golden.tier.name} with at least {MIN_OVERLAP:.0%}. Build the bundle again here"
    )
