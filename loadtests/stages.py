"""The stages of a DEEP request one by one in one thread, without gRPC, event loop and thread pool."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import uvloop

from candidate_gen.merge import merge
from core.query import Request, build_query
from loadtests.users import NAMESPACE, SEEN_TYPES
from ranking.explain import explain
from ranking.select import select
from server.edge import checks
from server.loader import load_bundle
from server.store.user_store import RedisUserStore
from terrace.v1 import recommendation_pb2 as pb

if TYPE_CHECKING:
    from core.bundle import Bundle
    from core.types import UserState
    from loadtests.workspace import Workspace

_ASKED = 1_000


class Watch:
    """Adds up CPU time by stage."""

    def __init__(self) -> None:
        self.total_s: defaultdict[str, float] = defaultdict(float)
        self._mark_s = time.thread_time()

    def start(self) -> None:
        """From here."""
        self._mark_s = time.thread_time()

    def ended(self, stage: str) -> None:
        """To here."""
        now_s = time.thread_time()
        self.total_s[stage] += now_s - self._mark_s
        self._mark_s = time.thread_time()


def run(workspace: Workspace) -> dict[str, Any]:
    """CPU milliseconds of each stage for one request, the mean over many users."""
    data = workspace.benchmark_data()
    bundle = load_bundle(data.bundle)
    with data.store() as url:
        states, store_ms = uvloop.run(_read(url, data.users.ids))
    watch = Watch()
    turns = 0
    for measured in (False, True):  # the first pass warms up
        watch = Watch()
        turns = 0
        while turns < _ASKED:
            for user_id, state in zip(data.users.ids, states, strict=True):
                _answer(bundle, user_id, state, watch)
                turns += 1
        del measured
    found = {name: seconds / turns * 1000 for name, seconds in watch.total_s.items()}
    return {"stages_ms": {"read_user": store_ms, **found, "sum": store_ms + sum(found.values()) - found["features"]}}


async def _read(url: str, user_ids: list[str]) -> tuple[list[UserState], float]:
    store = RedisUserStore(url, NAMESPACE, SEEN_TYPES)
    states = [await store.read(user_id) for user_id in user_ids]
    start_s = time.thread_time()
    for user_id in user_ids:
        await store.read(user_id)
    cost_ms = (time.thread_time() - start_s) / len(user_ids) * 1000
    await store.close()
    await asyncio.sleep(0)
    return states, cost_ms


def _answer(bundle: Bundle, user_id: str, state: UserState, watch: Watch) -> None:
    raw = pb.RecommendRequest(user_id=user_id, limit=20).SerializeToString()
    watch.start()
    request: Request = checks.recommend(pb.RecommendRequest.FromString(raw), {}, time.time)
    watch.ended("check")
    query = build_query(bundle, request, state, time.time())
    watch.ended("build_query")
    query.blocked()
    watch.ended("blocked")
    if query.user_vector is None or bundle.scorer is None:
        raise RuntimeError("the bundle has no deep rung, or a user no history")
    query.user_vector()
    watch.ended("user_tower")
    candidates = []
    for generator in bundle.generators:
        candidates.append(generator.generate(query, bundle.limits[generator.name]))
        watch.ended(f"generate_{generator.name}")
    sources = tuple(g.name for g in bundle.generators)
    pool = merge(candidates, query, sources, bundle.prior)
    watch.ended("merge")
    features: Any = getattr(bundle.scorer, "_features")  # noqa: B009 - to tell features from the model's run
    features.compute(query, pool)
    watch.ended("features")
    scores = bundle.scorer.score(query, pool)
    watch.ended("features_and_ranker")  # computes the features once more: ``features`` is part of it
    chosen = select(query, pool, scores, bundle.popularity)
    watch.ended("select")
    explain(query, chosen.rows, bundle.item_vectors)
    watch.ended("explain")
