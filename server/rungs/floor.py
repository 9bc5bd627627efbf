"""The rung that cannot fail, kept from failing: a list in memory stands behind the popularity of the bundle."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING

import numpy as np

from candidate_gen.first_allowed import finished, first_allowed
from candidate_gen.merge import is_sound
from core.bundle import InSteps
from core.types import Candidates, Reason
from server.telemetry.rate_limited_log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.bundle import Bundle
    from core.types import Query, Rows, Scores
    from server.rungs.deadline import Deadline
    from server.rungs.request_record import RequestRecord

FILTERS = "filters"
"""Name of the filters among what an answer was made without: time was too short to find every item that they allow."""
_STRETCH_S = 0.0005
_REST = 3
_LONGEST_REST_S = 0.05
"""How far ahead turns are given out: those of callers who have gone meanwhile must not keep the next ones waiting."""
_log = logging.getLogger(__name__)


class Floor:
    """Popularity (``core.bundle.PopularityFloor``) that answers whatever the bundle's own does.

    Attributes:
        failures: how often the list in memory had to answer.
    """

    def __init__(self, bundle: Bundle) -> None:
        """Remember every row in the order of its popularity; in the catalogue's order if not even that can be had."""
        self.name = bundle.popularity.name
        self.failures = 0
        self._next_s = -math.inf  # when the next of those who look for rows may go on
        self._limited_log = RateLimitedLog(_log)
        self._popularity = bundle.popularity
        self._in_steps = bundle.popularity if isinstance(bundle.popularity, InSteps) else None  # 10 us, so asked once
        rows = np.arange(len(bundle.catalogue), dtype=np.int32)
        try:
            scores = np.nan_to_num(bundle.popularity.score_rows(rows))
        except Exception:  # noqa: BLE001 - a plug-in; there is an answer all the same
            _log.exception("%s cannot score: the catalogue's order stands in for it", self.name)
            scores = np.zeros(len(rows), np.float32)
        self._scores: Scores = scores.astype(np.float32)
        self._order: Rows = rows[np.argsort(-self._scores, kind="stable")]

    def generate(self, query: Query, limit: int) -> Candidates:
        """See ``PopularityFloor.generate``."""
        try:
            best = self._popularity.generate(query, limit)
            if is_sound(best, len(query.catalogue)):
                return best
            self._limited_log.error(f"{self.name} does not keep to core.types.Candidates: a list in memory answers")
        except Exception:  # noqa: BLE001 - the last rung has an answer
            self._limited_log.exception(f"{self.name} failed: a list in memory answers")
        self.failures += 1
        rows = finished(first_allowed(query, self._order, limit))
        return Candidates(self.name, rows, self._scores[rows])

    async def prepare(self, query: Query, limit: int, record: RequestRecord, least_s: float) -> None:
        """Find what ``generate`` will give, with pauses in which others have the event loop.

        Args:
            query: what is asked; nothing is looked for where the rows to order are given.
            limit: the most that ``generate`` will be asked for.
            record: the deadline; learns whether it was too near for a list that lacks nothing.
            least_s: time to leave for the answer. When no more is left, what was found is taken, as soon as it is an item.
        """
        if query.restrict is not None:
            return
        allowed, deadline = query.allowed(), record.deadline
        begun_s = deadline.now_s()
        for count in self._steps(query, limit):
            now_s = deadline.now_s()
            allowed.hurry = deadline.end_s - now_s < least_s
            if count < limit and now_s - begun_s >= _STRETCH_S:
                await asyncio.sleep(self._rest_s(now_s - begun_s, deadline, least_s))
                begun_s = deadline.now_s()
        if allowed.cut_short:
            record.dropped[FILTERS] = Reason.LATE

    def _rest_s(self, spent_s: float, deadline: Deadline, least_s: float) -> float:
        """How long to leave the event loop to others after so long a stretch.

        All who look for rows take turns, so that together they have a ``_REST``-th of the event loop, however many they are.
        """
        if deadline.end_s == math.inf:
            return 0.0
        now_s = deadline.now_s()
        self._next_s = min(max(self._next_s, now_s) + _REST * spent_s, now_s + _LONGEST_REST_S)
        return max(min(self._next_s, deadline.end_s - least_s) - now_s, 0.0)

    def _steps(self, query: Query, limit: int) -> Iterator[int]:
        if self._in_steps is not None:
            try:
                yield from self._in_steps.steps(query, limit)
            except Exception:  # noqa: BLE001 - generate will meet it again, and count it
                _log.debug("%s failed", self.name, exc_info=True)
            else:
                return
        yield from first_allowed(query, self._order, limit)

    def score_rows(self, rows: Rows) -> Scores:
        """See ``PopularityFloor.score_rows``."""
        return self._scores[rows]
