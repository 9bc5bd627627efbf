"""What travels between the stages of one recommendation.

Items travel as catalogue rows in arrays, never as objects; ids exist at the edges only. Shapes in
comments: ``h`` events of history, ``n`` rows of a pool, ``s`` sources, ``d`` width of a vector.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from core.allowed import Allowed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from core.catalogue import Catalogue, Filters
    from core.precomputed import PrecomputedList

Rows: TypeAlias = NDArray[np.int32]
Scores: TypeAlias = NDArray[np.float32]
Vector: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.bool_]

NO_ROWS: Rows = np.empty(0, np.int32)
NO_ROW = -1
"""In place of a row where there is none."""
NO_SCORES: Scores = np.empty(0, np.float32)


class Tier(IntEnum):
    """A rung of the ladder; a higher number needs more and answers better."""

    POPULARITY = 1
    CF = 2
    PRECOMPUTED = 3
    DEEP = 4


LADDER = (Tier.POPULARITY, Tier.CF, Tier.PRECOMPUTED, Tier.DEEP)
"""The rungs from the lowest to the best, as far as a bundle does not say otherwise."""
LADDER_WITH_CF_ABOVE = (Tier.POPULARITY, Tier.PRECOMPUTED, Tier.CF, Tier.DEEP)
"""The same where a list of last night is worth less than what goes with the newest events."""


class Reason(StrEnum):
    """Why a rung above the answer was not taken. A closed list: one reason per skipped rung."""

    NOT_CONFIGURED = "not_configured"
    """The bundle or this deployment has no such rung."""
    NOT_ASKED = "not_asked"
    """The kind of call never climbs this high (``SimilarItems`` stops at ``CF``)."""
    NO_HISTORY = "no_history"
    """Nothing is known of the user that the catalogue knows too."""
    UNKNOWN_ITEM = "unknown_item"
    """The item asked about is not in the catalogue."""
    NO_CANDIDATES = "no_candidates"
    """No generator of the rung proposed an allowed item."""
    STORE_LATE = "store_late"
    """The user store did not answer within its share of the budget."""
    STORE_FAILED = "store_failed"
    """The user store refused, broke off or answered with something unreadable."""
    NO_TIME = "no_time"
    """Too little of the budget was left to start."""
    LATE = "late"
    """Started, overran its share and was stopped."""
    FAILED = "failed"
    """Raised an error."""
    INVALID_SCORES = "invalid_scores"
    """The model answered with NaN, infinity or the wrong number of scores, or its user tower with such a vector."""
    OVERLOADED = "overloaded"
    """The process had too much to do to let this request climb so high."""
    BREAKER_OPEN = "breaker_open"
    """It failed or was slow too often of late, so that it is left alone for a while."""
    EXERCISED = "exercised"
    """Answered from a lower rung on purpose, so that the rung is known to work."""
    FORCED = "forced"
    """The caller named a lower rung."""
    DISABLED = "disabled"
    """The bundle has this rung, but it was found damaged or wrong at start, and is not used."""
    NO_LIST = "no_list"
    """No list was precomputed for this user and bundle, or it has expired."""
    UNREADABLE_LIST = "unreadable_list"
    """The precomputed list that is stored is damaged, another user's or of another bundle or format."""
    NOT_NEEDED = "not_needed"
    """The surface takes the precomputed list of a user who has one."""


class UserEvent(NamedTuple):
    """Something a user did to an item, as stores and callers know it.

    A tuple because a request makes fifty: a frozen dataclass costs twice as much to make.
    """

    item_id: str
    event_type: str
    timestamp_s: float
    """Seconds since the Unix epoch, UTC."""
    value: float = 0.0


NO_HASHES: NDArray[np.uint32] = np.empty(0, np.uint32)


@dataclass(frozen=True, slots=True)
class UserState:
    """What the user store knows of one user.

    Attributes:
        events: newest first, capped.

        seen: ``core.events.item_hash`` of every item the user ever had, unordered, may repeat.

        missing: why this is nothing, or not all that is stored: the store failed, or values of the user are not
            readable; None when it is whole. A list that is not readable does not count.

        precomputed: the deep list that was made for the user beforehand, for the bundle that the store reads for.

        no_list: why ``precomputed`` is None, where it is.
    """

    events: tuple[UserEvent, ...] = ()
    seen: NDArray[np.uint32] = field(default_factory=lambda: NO_HASHES)
    missing: Reason | None = None
    precomputed: PrecomputedList | None = None
    no_list: Reason = Reason.NOT_CONFIGURED


@dataclass(frozen=True, slots=True)
class Query:
    """One request to one bundle: validated, ids resolved to rows of that bundle's catalogue.

    Attributes:
        history: [h] rows, newest event first, positive events only; a row may repeat.

        history_age_s: [h] seconds from each event to now, >= 0.

        history_weight: [h] weight of each event's type, > 0.

        history_type: [h] code of each event's type in the bundle's vocabulary; 0 = unknown.

        exclude: [e] unique rows that must not be answered.

        restrict: [r] unique rows to order, for ``RankItems``; None elsewhere.

        allow_repeats: whether items of the user's own past may come back.

        user_vector: the user in the item-vector space, [d]; computed on first use and then kept. Takes a ``StopSignal``
            for a run that may have to end early. None where the bundle has no user tower. CPU of about a millisecond: not
            for the event loop.
    """

    user_id: str
    history: Rows
    history_age_s: Scores
    history_weight: Scores
    history_type: NDArray[np.int8]
    exclude: Rows
    seen: NDArray[np.uint32]
    filters: Filters
    catalogue: Catalogue
    limit: int
    surface: str
    context: Mapping[str, str]
    allow_repeats: bool = False
    restrict: Rows | None = None
    user_vector: Callable[..., Vector] | None = None
    _blocked: list[Rows] = field(default_factory=list, init=False, repr=False, compare=False)
    _allowed: list[Allowed] = field(default_factory=list, init=False, repr=False, compare=False)

    def allows(self, rows: Rows) -> Mask:
        """Which of ``rows`` [n] may be answered: filters passed, not excluded, not seen before."""
        return self.allowed().test(rows)

    def allowed(self) -> Allowed:
        """What may be answered; made once and then kept."""
        if not self._allowed:
            conditions = self.catalogue.conditions(self.filters)
            self._allowed.append(Allowed(len(self.catalogue), conditions, self.blocked()))
        return self._allowed[0]

    def blocked(self) -> Rows:
        """[b] rows, ascending, that are excluded or were seen before; looked up once and then kept."""
        if not self._blocked:
            rows = self.exclude
            if len(self.seen) and not self.allow_repeats:
                rows = np.concatenate([rows, self.catalogue.rows_of_hashes(self.seen)])
            self._blocked.append(np.sort(rows))
        return self._blocked[0]


@dataclass(frozen=True, slots=True)
class Candidates:
    """What one generator proposes.

    Attributes:
        rows: [n] unique, best first.

        scores: [n] finite, not increasing; comparable within this source only.

        known: rows [m], unique and in no order, and scores of everything the source has an opinion of, proposed or not,
            allowed or not: what it thinks of the rows that others propose. None = only of what it proposes.
    """

    source: str
    rows: Rows
    scores: Scores
    known: tuple[Rows, Scores] | None = None

    @classmethod
    def none(cls, source: str) -> Candidates:
        """Nothing to propose."""
        return cls(source, NO_ROWS, NO_SCORES)


@dataclass(frozen=True, slots=True)
class Pool:
    """The union of the candidates of several generators, one row per item.

    Attributes:
        rows: [n] unique.

        source_scores: [n, s] each source's own score, whoever proposed the row; NaN = it has no opinion of the row.

        sources: [s] names, in the bundle's order.

        prior: [n] the cheap score the pool is ordered by, best first.
    """

    rows: Rows
    source_scores: Scores
    sources: tuple[str, ...]
    prior: Scores

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def take(self, index: slice | NDArray[np.intp]) -> Pool:
        """The part of the pool at ``index``, in that order."""
        return Pool(self.rows[index], self.source_scores[index], self.sources, self.prior[index])


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One answer and how it came to be; metrics, spans and the response all read this object.

    Attributes:
        rows: [k] best first, unique, allowed by the query.

        scores: [k] comparable within this answer; NaN = the rung's scorer did not score this row.

        proposed: [k] bit i set = ``sources[i]`` speaks for the row; 0 = filled in by popularity.

        explained_by: [k] row of the user's history that speaks most for the item; -1 = none does.

        skipped: one reason for each rung above ``tier`` on the ladder of the bundle (``LADDER``).

        dropped: what the answer was made without, and why: generators and "user_store" that were late, failed or were
            not asked; "user_store" also when a part of what it holds of the user was not readable; "filters" when the
            time was too short to look at every item that they allow.

        scored_rows: rows of the pool that the answering rung's scorer scored.

        stage_ms: wall time of each stage, milliseconds.
    """

    rows: Rows
    scores: Scores
    proposed: NDArray[np.uint32]
    sources: tuple[str, ...]
    explained_by: Rows
    tier: Tier
    skipped: Mapping[Tier, Reason]
    dropped: Mapping[str, Reason]
    bundle_version: str
    scored_rows: int
    pool_rows: int
    stage_ms: Mapping[str, float]


@runtime_checkable
class CandidateGenerator(Protocol):
    """A way of finding items.

    Thread-safe, CPU only, no clock, no I/O. Never raises for an unknown user or an empty history:
    it proposes nothing.
    """

    name: str
    inline: bool
    """True promises well under a millisecond: run where the request is, not on the pool."""

    def generate(self, query: Query, limit: int) -> Candidates:
        """At most ``limit`` unique rows, best first. May propose rows the query does not allow."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """Orders a pool. A row's score depends on the query and the row, never on its neighbours."""

    def score(self, query: Query, pool: Pool) -> Scores:
        """[n] scores in the pool's order, higher is better."""
        ...


@runtime_checkable
class InterruptibleScorer(Scorer, Protocol):
    """A scorer whose run can be stopped from another thread."""

    def score(self, query: Query, pool: Pool, stop: StopSignal | None = None) -> Scores:
        """Score, or raise ``Stopped`` soon after ``stop`` is set."""
        ...


@runtime_checkable
class UserEncoder(Protocol):
    """Places a user in the item-vector space from recent history alone; its run can be stopped from another thread."""

    def encode(self, query: Query, stop: StopSignal | None = None) -> Vector:
        """[d] finite float32, or ``Stopped`` soon after ``stop`` is set; ``query.history`` must not be empty."""
        ...


class StopSignal(Protocol):
    """Handed into a run that may overrun; whoever owns the clock calls ``stop``."""

    def stop(self) -> None:
        """Ask the run to end. Idempotent, callable from any thread."""
        ...

    def on_stop(self, act: Callable[[], None]) -> None:
        """What the run wants called when ``stop`` is, on the stopping thread; at once if it was already."""
        ...


class Stopped(Exception):  # noqa: N818 - an outcome, not an error of the program
    """A run ended early because its ``StopSignal`` was set."""
