"""A candidate's answers to calls that others answer: made after the answer was sent, seen by nobody, and only compared.

They are the first that is dropped: one at a time, and only while nobody waits for the deep rung.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

from core.types import Tier
from server.rungs.deadline import Deadline
from server.rungs.request_record import RequestRecord
from server.telemetry.observer import count_answer
from server.telemetry.rate_limited_log import RateLimitedLog
from server.telemetry.version_counts import TIMES_PER_OCTAVE, bin_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from core.query import Request
    from core.types import Recommendation
    from server.overload.admission import Admission
    from server.rungs.pipeline import Pipeline
    from server.rungs.versions import Versions
    from server.settings import Settings
    from server.telemetry.observer import Observer
    from server.telemetry.version_counts import Counts

COMPARED = 20
"""First items of both lists that are compared."""
_QUIET = 0.01
"""Pressure above which there is no room: a tenth of what sheds a batch call."""
_log = logging.getLogger(__name__)


class Shadow:
    """Lets the candidate answer a share of the calls too; belongs to one event loop."""

    def __init__(
        self,
        settings: Settings,
        admission: Admission,
        observer: Observer,
        rng: Callable[[], float] = random.random,
    ) -> None:
        """Nothing is under way.

        Args:
            settings: how long an answer may take, and how many threads there are.
            admission: says whether there is room; it learns nothing from shadow calls.
            observer: counts what comes of them.
            rng: uniform in [0, 1).
        """
        self._settings, self._admission, self._observer, self._rng = settings, admission, observer, rng
        self._running: asyncio.Task[None] | None = None
        self._limited_log = RateLimitedLog(_log)

    def offer(
        self, versions: Versions, request: Request, record: RequestRecord, shown: Recommendation, answered_by: Pipeline
    ) -> None:
        """A call that was answered; the candidate may answer it too, once the answer is on its way.

        Args:
            versions: what is loaded, and which share of the calls is chosen.
            request: what was asked.
            record: of the call; one that was lowered says nothing of the versions and is not chosen.
            shown: the answer.
            answered_by: where it came from.
        """
        release = versions.release
        if not release.shadow_share or self._rng() >= release.shadow_share:
            return
        candidate = versions.pipelines.get(release.candidate or "")
        if candidate is None or answered_by is not versions.live or record.cap is not Tier.DEEP:
            return
        if self._running is not None or not self._has_room():
            self._observer.counts[candidate.bundle.version].shadowed.dropped += 1
            return
        self._running = asyncio.create_task(self._answer(candidate, request, shown, answered_by))
        self._running.add_done_callback(self._ended)

    async def close(self) -> None:
        """Give up what is under way."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait((self._running,))

    def _has_room(self) -> bool:
        """Whether a thread of the deep rung is free and was lately; this call still counts itself."""
        return self._admission.in_flight <= self._settings.threads and self._admission.pressure < _QUIET

    async def _answer(
        self, candidate: Pipeline, request: Request, shown: Recommendation, answered_by: Pipeline
    ) -> None:
        deadline = Deadline.after(self._settings.default_deadline_ms / 1000)
        begun_s = deadline.now_s()
        unseen: Recommendation | None = None
        try:
            unseen = await candidate.recommend(request, RequestRecord(deadline))
        except Exception:  # noqa: BLE001 - it is counted, and the process goes on
            self._limited_log.exception("a shadow call failed")
        counts = self._observer.counts[candidate.bundle.version].shadowed
        _count(counts.shown, shown, None)
        _count(counts.unseen, unseen, deadline.now_s() - begun_s)
        if unseen is not None:
            counts.overlaps[_overlap(_ids(answered_by, shown), _ids(candidate, unseen))] += 1

    def _ended(self, _: asyncio.Task[None]) -> None:
        self._running = None


def _count(counts: Counts, answer: Recommendation | None, duration_s: float | None) -> None:
    counts.calls += 1
    if duration_s is not None:
        counts.durations[bin_of(duration_s, TIMES_PER_OCTAVE)] += 1
    if answer is None:
        counts.failed += 1
    else:
        count_answer(counts, answer)


def _ids(pipeline: Pipeline, answer: Recommendation) -> set[str]:
    ids = pipeline.bundle.catalogue.ids
    return {ids[row] for row in answer.rows[:COMPARED].tolist()}


def _overlap(one: set[str], other: set[str]) -> int:
    """Per cent of the longer list that is in both; two empty ones are the same."""
    longer = max(len(one), len(other))
    return round(100 * len(one & other) / longer) if longer else 100
