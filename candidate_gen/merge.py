"""From the proposals of several generators to one pool: one row per item, ordered by the prior.

A row is scored by every source that knows it, not only by those that have it near the top of their list
(docs/quality.md, "What was tried").

Generators come from other packages too, and one that does not keep its promise must not spoil an answer. Rows given
twice are one row, and a score that is not finite is no opinion. A source that names rows outside the catalogue, or whose
arrays are not what ``Candidates`` says, is left out as a whole: it may speak of another catalogue. Looking for such a
source costs nothing as long as there is none.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import numpy as np

from core.types import NO_ROWS, NO_SCORES, Candidates, Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from core.types import CandidateGenerator, Query, Rows, Scorer, Scores

_INT32 = np.dtype(np.int32)  # compared with a type, a dtype takes four times as long
_scratch = threading.local()
_log = logging.getLogger(__name__)


def _log_left_out(name: str) -> None:
    _log.exception("%s does not keep to core.types.Candidates and is left out of the pool", name)


def merge(
    candidates: Sequence[Candidates],
    query: Query,
    sources: tuple[str, ...],
    prior: Scorer,
    left_out: Callable[[str], object] = _log_left_out,
) -> Pool:
    """The union of all proposals that the query allows, best first by the prior, ties by row: ``by_prior`` of ``collect``."""
    return by_prior(collect(candidates, query, sources, left_out), query, prior)


def collect(
    candidates: Sequence[Candidates],
    query: Query,
    sources: tuple[str, ...],
    left_out: Callable[[str], object] = _log_left_out,
) -> Pool:
    """The union of all proposals that the query allows, rows ascending and without a prior; a step of ``merge``.

    A query with ``restrict`` gets exactly those rows, whether anybody proposed them or not.

    Args:
        candidates: at most one per source; a source that is late or failed is simply not there, and one that is
            not sound is left out.

        query: what decides which rows may stay.

        sources: names of the columns of ``source_scores``, in the bundle's order.

        left_out: called with the name of each source that was not sound, while the error is handled; by default a line in the log.

    Raises:
        ValueError: a proposal comes from a source that is not in ``sources``.
    """
    return _of_sound(lambda sound: _collected(sound, query, sources), candidates, query, left_out)


def extend(
    pool: Pool,
    more: Sequence[Candidates],
    query: Query,
    before: Sequence[Candidates],
    left_out: Callable[[str], object] = _log_left_out,
) -> Pool:
    """What ``collect`` makes of ``before`` and ``more`` together, from its pool of ``before`` alone, in another order.

    Only rows that are new are looked up in ``before`` again.

    Args:
        pool: what ``collect`` made of ``before``, for the same query; it is not changed.

        more: as for ``collect``, of sources that are not in ``before``.

        query: what decides which rows may be added.

        before: what the pool was made of, without what was left out.

        left_out: as for ``collect``.

    Raises:
        ValueError: a proposal comes from a source that is not one of the pool's.
    """
    return _of_sound(lambda sound: _extended(pool, sound, query, before), more, query, left_out)


def propose(generator: CandidateGenerator, query: Query, limit: int) -> Candidates:
    """What a generator finds.

    Raises:
        TypeError: it is no ``Candidates``, or says that it is another generator's.
    """
    found = generator.generate(query, limit)
    if not isinstance(found, Candidates) or found.source != generator.name:
        raise TypeError(f"generator {generator.name} must return core.types.Candidates with its own name as source")
    return found


def by_prior(pool: Pool, query: Query, prior: Scorer) -> Pool:
    """The pool in the order of the prior, best first, ties by row; what the prior cannot score comes last.

    Args:
        pool: in any order.

        query: for the prior.

        prior: sees the whole pool, with zeros for its own scores.
    """
    if not len(pool):
        return pool
    score = prior.score(query, pool)
    order = np.argsort(-score)  # four times as fast as a stable sort, which only ties need
    ranked = score[order]
    if np.isnan(ranked[-1]) or (ranked[1:] == ranked[:-1]).any():
        order = np.lexsort((pool.rows, -score))
        ranked = score[order]
    return Pool(pool.rows[order], pool.source_scores.take(order, axis=0), pool.sources, ranked)


def _of_sound(
    make: Callable[[Sequence[Candidates]], Pool],
    candidates: Sequence[Candidates],
    query: Query,
    left_out: Callable[[str], object],
) -> Pool:
    """What ``make`` makes of all candidates, or of the sound ones where that fails."""
    try:
        return make(candidates)
    except Exception:
        sound = [found for found in candidates if is_sound(found, len(query.catalogue))]
        if len(sound) == len(candidates):
            raise
        for name in sorted({found.source for found in candidates} - {found.source for found in sound}):
            left_out(name)
        return make(sound)


def is_sound(found: Candidates, n_items: int) -> bool:
    """Whether a source's arrays have the shapes and types that ``Candidates`` says, and its rows are in the catalogue."""
    for rows, scores in ((found.rows, found.scores), found.known or (NO_ROWS, NO_SCORES)):
        if not (isinstance(rows, np.ndarray) and isinstance(scores, np.ndarray) and _fits(rows, scores)):
            return False
        if len(rows) and not 0 <= rows.min() <= rows.max() < n_items:
            return False
    return True


def _fits(rows: Rows, scores: Scores) -> bool:
    return rows.ndim == 1 and rows.shape == scores.shape and rows.dtype == _INT32 and scores.dtype.kind == "f"


def _collected(candidates: Sequence[Candidates], query: Query, sources: tuple[str, ...]) -> Pool:
    """Like ``collect``; an IndexError, TypeError or ValueError of a source that is not sound."""
    n_items = len(query.catalogue)
    proposed = _proposed(candidates, n_items)
    rows = proposed[query.allows(proposed)] if query.restrict is None else _unique_sorted(query.restrict)
    source_scores = np.full((len(rows), len(sources)), np.nan, np.float32)
    _fill(source_scores, rows, candidates, sources, n_items)
    source_scores[np.isinf(source_scores)] = np.nan
    return Pool(rows, source_scores, sources, np.zeros(len(rows), np.float32))


def _extended(pool: Pool, more: Sequence[Candidates], query: Query, before: Sequence[Candidates]) -> Pool:
    """Like ``extend``; an IndexError, TypeError or ValueError of a source that is not sound."""
    n_items, sources, held = len(query.catalogue), pool.sources, len(pool)
    new = _proposed(more, n_items)
    if query.restrict is None:
        if held:
            new = new[pool.rows.take(pool.rows.searchsorted(new), mode="clip") != new]
        new = new[query.allows(new)]
    else:
        new = NO_ROWS
    rows = np.concatenate([pool.rows, new])
    source_scores = np.full((len(rows), len(sources)), np.nan, np.float32)
    source_scores[:held] = pool.source_scores
    if len(new):  # a source that knows only what it proposed knows nothing of them: that is in the pool, or not allowed
        _fill(source_scores[held:], new, [found for found in before if found.known], sources, n_items)
    _fill(source_scores, rows, more, sources, n_items)
    source_scores[np.isinf(source_scores)] = np.nan
    return Pool(rows, source_scores, sources, np.zeros(len(rows), np.float32))


def _proposed(candidates: Sequence[Candidates], n_items: int) -> Rows:
    """Every proposed row once, ascending.

    Raises:
        IndexError: a row is not in the catalogue.
        TypeError: rows are not of the type that rows are of.
    """
    proposed = np.concatenate([c.rows for c in candidates]) if candidates else NO_ROWS
    if proposed.dtype != _INT32:
        raise TypeError(f"rows of type {proposed.dtype}")
    proposed = _unique_sorted(proposed)
    if len(proposed) and not 0 <= proposed[0] <= proposed[-1] < n_items:
        raise IndexError(f"rows from {proposed[0]} to {proposed[-1]} of a catalogue of {n_items}")
    return proposed


def _fill(
    source_scores: Scores, rows: Rows, candidates: Sequence[Candidates], sources: tuple[str, ...], n_items: int
) -> None:
    """Write what each of ``candidates`` thinks of ``rows`` [n] into its column of ``source_scores`` [n, s], which is NaN.

    Raises:
        IndexError: a row is not in the catalogue.
        ValueError: rows and scores are not what ``Candidates`` says.
    """
    wanted = rows.astype(np.intp)  # indexing by int32 is slow
    for found in candidates:
        known, scores = found.known or (found.rows, found.scores)
        if not _fits(known, scores):
            raise ValueError(f"{known.dtype} {known.shape} rows with {scores.dtype} {scores.shape} scores")
        column = sources.index(found.source)
        if len(known):
            source_scores[:, column] = _scores_of(wanted, known, scores, n_items)


def _scores_of(wanted: NDArray[np.intp], rows: Rows, scores: Scores, n_items: int) -> Scores:
    """[n] the scores of ``wanted`` rows among ``rows`` [m], NaN for those that are not there; no search, no sorting.

    Of a row that is there twice the last score counts.

    Raises:
        IndexError: a row is not in the catalogue.
    """
    scratch: Scores | None = getattr(_scratch, "scores", None)
    _scratch.scores = None  # not to be found again unless it is as it was, whatever is raised
    if scratch is None or len(scratch) < n_items:
        scratch = np.full(n_items, np.nan, np.float32)
    wide = rows.view(np.uint32).astype(np.intp)  # unsigned: -1 is out of range
    here = scratch[:n_items]
    here[wide] = scores
    found: Scores = here[wanted]
    here[wide] = np.nan
    _scratch.scores = scratch
    return found


def _unique_sorted(rows: Rows) -> Rows:
    """Each row once, ascending; ``np.unique`` does more than is needed here."""
    rows = np.sort(rows)
    if len(rows) < 2:
        return rows
    new = np.empty(len(rows), np.bool_)
    new[0] = True
    np.not_equal(rows[1:], rows[:-1], out=new[1:])
    return rows[new]
