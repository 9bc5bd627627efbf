"""The rung ``PRECOMPUTED``: what the query still allows of the list that was made for the user beforehand, topped up.

The list was made before the user's newest events, so filters, exclusions, what was bought and what was disliked since are
applied to it now. What is missing then comes from the pool of the CF rung, and after that from popularity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core.precomputed import PrecomputedList
from core.types import NO_ROWS, NO_SCORES, Pool, Reason, Tier

if TYPE_CHECKING:
    from collections.abc import Container

    from core.types import Query, UserState
    from server.rungs.request_record import RequestRecord

SOURCE = "precomputed"
"""Name of the list among the sources of an answer."""


class ListRung:
    """Answers from precomputed lists of one bundle; takes tens of microseconds, no thread and no model.

    Attributes:
        met: whether any user had a list so far.
    """

    def __init__(self, sources: tuple[str, ...], surfaces: Container[str], least_s: float) -> None:
        """Keep what the deployment chose.

        Args:
            sources: names of the bundle's generators, in its order.
            surfaces: those that take the list of a user who has one, and ask no rung above.
            least_s: with less time left than this, seconds, no rung above popularity is started.
        """
        self.met = False
        self._sources = sources
        self._surfaces = surfaces
        self._least_s = least_s

    def find(self, query: Query, user: UserState, record: RequestRecord) -> PrecomputedList | None:
        """The user's list; None, and the reason in the record, where the rung is not to be tried."""
        reason = None if user.precomputed is not None else user.no_list
        if user.precomputed is not None:
            self.met = True
        if reason is not Reason.NOT_CONFIGURED:
            # Which of given items come first says a list of the best of all items hardly ever.
            reason = Reason.NOT_ASKED if query.restrict is not None else record.cap_reason(Tier.PRECOMPUTED) or reason
        if reason is None and record.deadline.left_s() < self._least_s:
            reason = Reason.NO_TIME
        if reason is not None:
            record.reasons[Tier.PRECOMPUTED] = reason
            return None
        return user.precomputed

    def comes_first(self, query: Query) -> bool:
        """Whether the surface takes the list of a user who has one."""
        return query.surface in self._surfaces

    def usable(self, found: PrecomputedList, query: Query, record: RequestRecord) -> PrecomputedList | None:
        """The part of a list that the query allows; None, and the reason in the record, where that is nothing."""
        allowed = query.allows(found.rows)
        if not allowed.any():
            record.reasons[Tier.PRECOMPUTED] = Reason.NO_CANDIDATES
            return None
        return PrecomputedList(found.rows[allowed], found.scores[allowed], found.created_s)

    def topped_up(self, part: PrecomputedList, pool: Pool | None) -> Pool:
        """The rows of a list, and behind them what else the CF rung proposes.

        Args:
            part: of a list, what the query allows.
            pool: of the CF rung, in its order; None where there is none, or none is needed.

        Returns:
            [n + m] rows. For those of the list ``SOURCE`` speaks, which is added behind the bundle's sources.
        """
        n = len(part.rows)
        rows, prior, source_scores = NO_ROWS, NO_SCORES, np.empty((0, len(self._sources)), np.float32)
        if pool is not None:
            others = pool.take(np.flatnonzero(~np.isin(pool.rows, part.rows)))
            rows, prior, source_scores = others.rows, others.prior, others.source_scores
        said = np.full((n + len(rows), len(self._sources) + 1), np.nan, np.float32)
        said[:n, -1] = part.scores
        said[n:, :-1] = source_scores
        whole = np.concatenate([part.rows, rows]), np.concatenate([part.scores, prior])
        return Pool(whole[0], said, (*self._sources, SOURCE), whole[1])
