"""What is bought now: time-decayed popularity, overall and by category. The generator that cannot fail."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from candidate_gen.arrays import check, load_array, params_of, save_params
from candidate_gen.exact import DAY_S, decayed_sums
from candidate_gen.first_allowed import GROWTH, HEAD, finished, first_allowed, first_look
from core.types import Candidates

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from candidate_gen.registry import BuildInputs
    from core.catalogue import Catalogue
    from core.types import Query, Rows, Scores

_SCORE, _ORDER, _CATEGORY_PTR, _CATEGORY_RANKS = "score.npy", "order.npy", "category_ptr.npy", "category_ranks.npy"
_NEWCOMERS = "newcomers_"


@dataclass(frozen=True)
class Params:
    """Parameters of the counting.

    Attributes:
        half_life_days: days in which an event loses half of its weight; None = all count the same, whenever they were.

        first_only: of several events of one type of one user with one item count the first alone: what brings in new
            buyers. What one buyer buys again and again is ``buy_again``'s business.

        newcomer_weight: how much the list for users without history goes by what users begin with, their first day's
            events; 0 = the list is everybody's.

        newcomer_half_life_days: the same as ``half_life_days`` for those.
    """

    half_life_days: float | None = 14.0
    first_only: bool = True
    newcomer_weight: float = 0.0
    newcomer_half_life_days: float | None = 30.0

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            ValueError: a parameter is out of range; the message names it.
        """
        for name in ("half_life_days", "newcomer_half_life_days"):
            days = getattr(self, name)
            if days is not None and not days > 0:
                raise ValueError(f"popularity: {name} is {days}, it must be above 0 (or None for no decay)")
        if not self.newcomer_weight >= 0:
            raise ValueError(f"popularity: newcomer_weight is {self.newcomer_weight}, it must be at least 0")


@dataclass(frozen=True)
class Ranking:
    """Every item of the catalogue, best first.

    Attributes:
        score: [items] float32, >= 0.

        order: [items] rows, best first.

        category_ptr: [categories + 1] int64 into ``category_ranks``.

        category_ranks: positions in ``order`` of each category's items, ascending.
    """

    score: Scores
    order: Rows
    category_ptr: NDArray[np.int64]
    category_ranks: NDArray[np.int32]

    @classmethod
    def of(cls, score: Scores, catalogue: Catalogue) -> Self:
        """By score, then by newest ``created_at``, then by row."""
        rows = np.arange(len(score), dtype=np.int32)
        order = np.lexsort((rows, -catalogue.created_at, -score)).astype(np.int32)
        rank = np.empty_like(order)
        rank[order] = rows
        category = catalogue.category_idx
        ranks = rank[np.repeat(rows, np.diff(catalogue.category_ptr))]
        ptr = np.zeros(len(catalogue.category_names) + 1, np.int64)
        np.cumsum(np.bincount(category, minlength=len(catalogue.category_names)), out=ptr[1:])
        return cls(score, order, ptr, ranks[np.lexsort((ranks, category))])

    def best(self, query: Query, limit: int) -> Generator[int, None, Rows]:
        """The ``limit`` best rows that the query allows, see ``first_allowed``; wanted categories are looked at alone."""
        members = self._members(query, first_look(limit)) if query.filters.categories else None
        return first_allowed(query, self.order, limit, members)

    def _members(self, query: Query, first: int) -> Iterator[tuple[int, Rows]]:
        """Rows of the wanted categories, best first, in growing stretches, each with the rank up to which it goes."""
        everything = len(self.order)
        codes = query.catalogue.category_code
        wanted = {codes[name] for name in query.filters.categories if name in codes}
        lists = [self.category_ranks[self.category_ptr[c] : self.category_ptr[c + 1]] for c in sorted(wanted)]
        low, size = 0, max(first * everything // max(sum(map(len, lists)), 1), 1)
        while low < everything:
            parts = [ranks[slice(*ranks.searchsorted((low, low + size)))] for ranks in lists]
            if sum(map(len, parts)) > HEAD and size > first:
                size = max(size // GROWTH, first)  # they lie closer here than elsewhere
                continue
            yield min(low + size, everything), self.order[_union(parts, low, min(low + size, everything))]
            low += size
            size *= GROWTH

    def save(self, folder: Path, prefix: str = "") -> None:
        """Write four ``.npy`` files whose names begin with ``prefix``."""
        np.save(folder / f"{prefix}{_SCORE}", self.score)
        np.save(folder / f"{prefix}{_ORDER}", self.order)
        np.save(folder / f"{prefix}{_CATEGORY_PTR}", self.category_ptr)
        np.save(folder / f"{prefix}{_CATEGORY_RANKS}", self.category_ranks)

    @classmethod
    def load(cls, folder: Path, catalogue: Catalogue, prefix: str = "") -> Self:
        """Map what ``save`` wrote into memory.

        Raises:
            BundleError: a file is missing, damaged or of another catalogue.
        """
        n = len(catalogue)
        path = folder / f"{prefix}{_SCORE}"
        score = load_array(path, np.float32, (n,))
        check(bool((np.isfinite(score) & (score >= 0)).all()), path, "it has scores below 0 or not finite")
        path = folder / f"{prefix}{_ORDER}"
        order = load_array(path, np.int32, (n,))
        check(bool((np.sort(order) == np.arange(n)).all()), path, "it does not name every row once")
        ptr_path, path = folder / f"{prefix}{_CATEGORY_PTR}", folder / f"{prefix}{_CATEGORY_RANKS}"
        ptr = load_array(ptr_path, np.int64, (len(catalogue.category_names) + 1,))
        ranks = load_array(path, np.int32, (len(catalogue.category_idx),))
        ascending = ptr[0] == 0 and ptr[-1] == len(ranks) and bool((np.diff(ptr) >= 0).all())
        check(ascending, ptr_path, "it does not ascend to the length of the lists")
        in_range = not len(ranks) or (int(ranks.min()) >= 0 and int(ranks.max()) < n)
        check(in_range, path, f"it names ranks outside the {n} of the catalogue")
        return cls(score, order, ptr, ranks)


class Popularity:
    """Items by the sum of their events' weights, each halved every ``half_life_days``.

    Negative events subtract, down to 0. Items of equal score, so all that have no events, follow by newest
    ``created_at``, then by row: the list is full while the catalogue has an allowed item.

    Args:
        everybody: what all users' events make.
        newcomers: the list for users without history; None = the same.
        params: see ``Params``.
    """

    name = "popularity"
    inline = True

    def __init__(self, everybody: Ranking, newcomers: Ranking | None = None, params: Params | None = None) -> None:
        self._everybody, self._newcomers = everybody, newcomers
        self.params = params or Params()

    @classmethod
    def build(cls, inputs: BuildInputs, **params: Any) -> Self:
        """Count.

        Args:
            inputs: events, catalogue and the moment to look back from.
            **params: fields of ``Params``.

        Raises:
            TypeError: a parameter is unknown.
            ValueError: a parameter is out of range.
        """
        chosen = Params(**params)
        score = _trend(inputs, chosen.half_life_days, first_only=chosen.first_only)
        newcomers = None
        if chosen.newcomer_weight:
            begun = _beginnings(inputs, chosen.newcomer_half_life_days)
            mixed = newcomer_mix(score, begun, chosen.newcomer_weight)
            newcomers = Ranking.of(mixed.astype(np.float32), inputs.catalogue)
        return cls(Ranking.of(score, inputs.catalogue), newcomers, chosen)

    def generate(self, query: Query, limit: int) -> Candidates:
        """The ``limit`` most popular rows that the query allows, fewer only where there are fewer."""
        return finished(self.steps(query, limit))

    def steps(self, query: Query, limit: int) -> Generator[int, None, Candidates]:
        """``generate`` with pauses: yields how many rows were found so far, see ``first_allowed``."""
        ranking = self._everybody if len(query.history) else self._newcomers or self._everybody
        rows = yield from ranking.best(query, limit)
        return Candidates(self.name, rows, ranking.score[rows])

    def score_rows(self, rows: Rows) -> Scores:
        """[n] popularity of given rows, >= 0."""
        return self._everybody.score[rows]

    def save(self, folder: Path) -> None:
        """Write the lists and the parameters."""
        self._everybody.save(folder)
        if self._newcomers is not None:
            self._newcomers.save(folder, _NEWCOMERS)
        save_params(folder, asdict(self.params))

    @classmethod
    def load(cls, folder: Path, catalogue: Catalogue) -> Self:
        """Map what ``save`` wrote into memory.

        Raises:
            BundleError: a file is missing, damaged or of another catalogue.
        """
        params = params_of(Params, folder)
        newcomers = Ranking.load(folder, catalogue, _NEWCOMERS) if params.newcomer_weight else None
        return cls(Ranking.load(folder, catalogue), newcomers, params)


def _union(parts: Sequence[NDArray[np.int32]], low: int, high: int) -> NDArray[np.integer[Any]]:
    """The numbers of ascending lists, each once and ascending; all are from ``low`` to ``high``."""
    if len(parts) == 1:
        return parts[0]
    there = np.zeros(high - low, np.bool_)
    for part in parts:
        there[part - low] = True
    return np.flatnonzero(there) + low


def newcomer_mix(trend: NDArray[Any], begun: NDArray[Any], weight: float) -> NDArray[np.float64]:
    """[items] everybody's trend and ``weight`` times what users begin with, as shares of their sums."""
    shares = [values.astype(np.float64) / max(float(values.sum(dtype=np.float64)), 1e-12) for values in (trend, begun)]
    mixed: NDArray[np.float64] = shares[0] + weight * shares[1]
    return mixed


def _trend(inputs: BuildInputs, half_life_days: float | None, *, first_only: bool) -> Scores:
    events = inputs.events
    if first_only:
        by_person = events.group_by("user", "item", "type")
        events = by_person.agg(time=events.time.min(), weight=events.weight.argmin(events.seq))
    return decayed_sums(events, len(inputs.catalogue), inputs.as_of_s, half_life_days)


def _beginnings(inputs: BuildInputs, half_life_days: float | None) -> Scores:
    """[items] decayed weights of positive events in the day that begins with a user's first one."""
    import ibis

    events = inputs.events.filter(inputs.events.weight > 0)
    events = events.mutate(begin=events.time.min().over(ibis.window(group_by="user")))
    events = events.filter(events.time < events.begin + DAY_S)
    return decayed_sums(events, len(inputs.catalogue), inputs.as_of_s, half_life_days)
