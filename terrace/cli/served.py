"""The serving code without a network: what `evaluate` asks, and what answers the golden requests."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from core.query import Request
from core.types import Tier, UserState
from server.loader import load_bundle
from server.rungs.deadline import Deadline
from server.rungs.pipeline import Pipeline
from server.rungs.request_record import RequestRecord
from server.rungs.warm_up import record_golden, warm_up
from server.rungs.work_pool import WorkPool
from server.settings import Settings
from server.store.user_store import MemoryUserStore

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from core.bundle import Bundle
    from core.types import Mask, Recommendation

GOLDEN_LIMIT = 10
GOLDEN_HISTORIES = (0, 1, 3, 10)
_HOUR_S = 3600.0


class InProcess:
    """A bundle behind the real pipeline, driven without gRPC and store (``offline.evaluate.recommended_lists.ServedBundle``)."""

    def __init__(self, folder: Path) -> None:
        """Open the bundle in ``folder``."""
        bundle = load_bundle(folder)
        self._loop = asyncio.new_event_loop()
        self._work = WorkPool(threads=1, max_jobs=len(bundle.generators) + 1)
        self._answer_from(bundle)

    def _answer_from(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._settings = Settings()
        store = MemoryUserStore(bundle.manifest.seen_types)
        self._pipeline = Pipeline(bundle, store, self._work, self._settings)

    def restricted(self, available: Mask) -> InProcess:
        """The same bundle with a catalogue in which only ``available`` [items] can be had; closed with this one."""
        other = copy.copy(self)
        other._answer_from(replace(self.bundle, catalogue=replace(self.bundle.catalogue, available=available)))  # noqa: SLF001 - of the same class
        return other

    def recommend(self, request: Request, user: UserState, now_s: float, max_tier: Tier) -> Recommendation:
        """The pipeline's answer from ``max_tier`` or the best rung below, however long it takes."""
        return self._answer(request, user, now_s, RequestRecord(Deadline.never(), max_tier))

    def warm_up(self) -> None:
        """Learn what scoring costs here, as a server does before it calls itself ready."""
        self._loop.run_until_complete(warm_up(self._pipeline, self._settings.warm_up_requests))

    def recommend_within(self, request: Request, user: UserState, now_s: float, budget_s: float) -> Recommendation:
        """The pipeline's best answer within ``budget_s`` seconds of real time; ``warm_up`` comes first."""
        return self._answer(request, user, now_s, RequestRecord(Deadline.after(budget_s), Tier.DEEP))

    def _answer(self, request: Request, user: UserState, now_s: float, record: RequestRecord) -> Recommendation:
        return self._loop.run_until_complete(self._pipeline.answer(request, user, record, now_s=now_s))

    def golden(self) -> tuple[dict[str, Any], ...]:
        """Requests of a newcomer and of users who had popular items, with the answer of every rung that has one."""
        bundle = self.bundle
        request = Request(user_id="golden", limit=max(GOLDEN_HISTORIES))
        newcomer = self.recommend(request, UserState(), bundle.manifest.as_of_s, Tier.POPULARITY)
        popular = [bundle.catalogue.ids[row] for row in newcomer.rows]
        event_type = next(iter(bundle.manifest.event_types), "")
        entries: dict[tuple[int, str], dict[str, Any]] = {}
        for size in GOLDEN_HISTORIES:
            history = [(item_id, event_type, n * _HOUR_S) for n, item_id in enumerate(popular[:size])]
            for tier in (Tier.CF, Tier.DEEP):
                asked = record_golden(self._pipeline, history, GOLDEN_LIMIT, tier)
                entry = self._loop.run_until_complete(asked)
                entries.setdefault((size, entry["tier"]), entry)
        return tuple(entries.values())

    def close(self) -> None:
        """End the threads."""
        self._work.close()
        self._loop.close()

    def __enter__(self) -> Self:
        """The served bundle."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()
