"""The rung that cannot fail, kept from failing: a list in memory stands behind the popularity of the bundle."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from candidate_gen.merge import is_sound
from core.types import Candidates
from server.telemetry.rate_limited_log import RateLimitedLog

if TYPE_CHECKING:
    from core.bundle import Bundle
    from core.types import Query, Rows, Scores

_BLOCK = 1_000
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
        self._limited_log = RateLimitedLog(_log)
        self._popularity = bundle.popularity
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
        found: list[Rows] = []
        missing = limit
        for start in range(0, len(self._order), _BLOCK):
            rows = self._order[start : start + _BLOCK]
            found.append(rows[query.allows(rows)][:missing])
            missing -= len(found[-1])
            if missing <= 0:
                break
        rows = np.concatenate(found) if found else self._order
        return Candidates(self.name, rows, self._scores[rows])

    def score_rows(self, rows: Rows) -> Scores:
        """See ``PopularityFloor.score_rows``."""
        return self._scores[rows]
