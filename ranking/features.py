"""The inputs of the ranker for each row of a pool: the same code when it is trained and when it serves.

Everything about an item that does not depend on the case lies in one matrix, so that a request
costs one gather. A row's features depend on the query and the row, never on its neighbours.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from core.manifest import BundleError
from core.query import MAX_HISTORY
from ranking.sequences import SECONDS_PER_DAY, TREND_FLOOR

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from core.catalogue import Catalogue
    from core.types import Pool, Query, Rows, Scores, Vector
    from ranking.sequences import Sequences

HALF_LIVES_DAYS: tuple[float | None, ...] = (3.0, 7.0, 14.0, 30.0, 90.0, None)
"""Half-lives of the trends; None = every event counts the same."""
_MAX_CATEGORIES = 8
_ITEM_FEATURES = (
    *(f"trend_{'all' if days is None else f'{days:g}d'}" for days in HALF_LIVES_DAYS),
    *(f"first_trend_{'all' if days is None else f'{days:g}d'}" for days in HALF_LIVES_DAYS),
    "item_age",
    "item_age_known",
    "price",
    "price_known",
)
QUERY_FEATURES = ("history_length", "history_age", "history_span", "repeats_allowed")
"""The same for all rows of a case."""
_CROSS_FEATURES = (
    "prior",
    "price_to_history",
    "category_share",
    "in_history",
    "in_history_recency",
    "in_history_age",
    "content_cosine",
)
_PRICE = _ITEM_FEATURES.index("price")
_FADING = (0.95 ** np.arange(MAX_HISTORY)).astype(np.float32)
_LEAST_SCORE = np.float32(1e-30)


@dataclass(frozen=True)
class SourceScale:
    """How one source's scores become a feature; measured on training pools.

    Attributes:
        logarithm: the scores were all positive and are looked at by their logarithm.

        low: least feature value of a row that the source knows, and the value of a row that it has no opinion of.

        high: largest feature value.
    """

    logarithm: bool
    low: float
    high: float

    @classmethod
    def fit(cls, scores: Scores) -> Self:
        """Measure scores [n] of one source; NaN = it has no opinion."""
        known = scores[np.isfinite(scores)].astype(np.float64)
        if not len(known):
            return cls(logarithm=False, low=0.0, high=0.0)
        logarithm = bool((known > 0).all())
        low, high = np.quantile(np.log(known) if logarithm else known, (0.001, 0.999))
        return cls(logarithm, float(low), float(high))


class Features:
    """Turns a pool into a matrix; pure and thread-safe."""

    def __init__(
        self,
        scales: dict[str, SourceScale],
        static: Scores,
        categories: NDArray[np.int32],
        n_categories: int,
        content: Vector | None,
    ) -> None:
        """Keep what a request needs.

        Args:
            scales: by source, in the pool's order.
            static: [items, s] features that do not depend on the case.
            categories: [k, items] categories of each item, filled up with the number of categories.
            n_categories: categories there are.
            content: [items, c] unit vectors of the items' texts, zeros where there is none; None = no texts.
        """
        self.scales = scales
        self.names: tuple[str, ...] = (
            *(f"score_{source}" for source in scales),
            *(f"known_{source}" for source in scales),
            *_ITEM_FEATURES,
            *QUERY_FEATURES,
            *_CROSS_FEATURES,
        )
        self._static, self._categories, self._content = static, categories, content
        self._low = np.array([scale.low for scale in scales.values()], np.float32)
        self._high = np.array([scale.high for scale in scales.values()], np.float32)
        self._logarithm = np.array([scale.logarithm for scale in scales.values()], np.bool_)
        self._n_categories = n_categories

    @classmethod
    def build(
        cls,
        sequences: Sequences,
        catalogue: Catalogue,
        *,
        as_of_s: float,
        scales: dict[str, SourceScale],
        content: NDArray[np.floating] | None = None,
    ) -> Self:
        """Compute the static part from the events before ``as_of_s``.

        Whether an item is available now is left out: pools hold available items only, and what was
        available at an earlier cut is not known.
        """
        n = len(catalogue)
        columns = [
            _relative(sequences.trend(n, as_of_s, days, first_only=first))
            for first in (False, True)
            for days in HALF_LIVES_DAYS
        ]
        born = sequences.first_seen(n)
        created = catalogue.created_at
        born = np.where((created > 0) & ((born == 0) | (created < born)), created, born)
        known = (born > 0) & (born <= as_of_s)  # a date still to come tells nothing yet
        age_days = np.maximum(as_of_s - born, 0) / SECONDS_PER_DAY
        columns += [np.log1p(np.where(known, age_days, 0)), known.astype(np.float64)]
        priced = catalogue.price > 0
        columns += [np.log(np.where(priced, catalogue.price, 1)).astype(np.float64), priced.astype(np.float64)]
        static = np.stack(columns, axis=1).astype(np.float32)
        vectors = None if content is None else np.ascontiguousarray(content, np.float32)
        return cls(scales, static, _padded_categories(catalogue), len(catalogue.category_names), vectors)

    def compute(self, query: Query, pool: Pool) -> Scores:
        """[n, len(names)] finite features in the pool's order.

        Raises:
            ValueError: the pool's sources are not those of the training pools.
        """
        if pool.sources != tuple(self.scales):
            raise ValueError(f"the pool has sources {pool.sources}, the ranker knows {tuple(self.scales)}")
        rows = pool.rows
        out = np.empty((len(rows), len(self.names)), np.float32)
        width = len(self.scales)
        scores = pool.source_scores
        logarithms = np.log(np.fmax(scores, _LEAST_SCORE))
        scores = np.where(self._logarithm & (scores == scores), logarithms, scores)  # noqa: PLR0124 - not NaN
        out[:, :width] = np.fmin(np.fmax(scores, self._low), self._high)
        out[:, width : 2 * width] = scores == scores  # noqa: PLR0124 - not NaN
        at = 2 * width
        items = self._static.take(rows, axis=0)
        out[:, at : at + len(_ITEM_FEATURES)] = items
        at += len(_ITEM_FEATURES)
        out[:, at : at + len(QUERY_FEATURES)] = _query_features(query)
        at += len(QUERY_FEATURES)
        out[:, at] = pool.prior
        out[:, at + 1 :] = 0
        if len(query.history):
            self._cross(query, rows, items, out[:, at + 1 :])
        return out

    def _cross(self, query: Query, rows: Rows, items: Scores, out: Scores) -> None:
        """Fill what relates row and history, [n, 6], from the rows' static features ``items`` [n, s]."""
        history = query.history
        weight = query.history_weight * _FADING[: len(history)]
        weight /= weight.sum()
        paid, priced = self._static[history, _PRICE], self._static[history, _PRICE + 1]
        certain = float(weight @ priced)
        if certain > 0:
            mean = np.float32(float(weight @ paid) / certain)
            out[:, 0] = items[:, _PRICE] - mean * items[:, _PRICE + 1]
        if self._n_categories:
            codes = self._categories[:, history]
            profile = np.bincount(codes.ravel(), np.tile(weight, len(codes)), minlength=self._n_categories + 1)
            profile[self._n_categories] = 0
            out[:, 1] = profile.take(self._categories.take(rows, axis=1)).max(axis=0)
        order = np.argsort(history, kind="stable")
        ordered = history[order]
        first, last = ordered.searchsorted(rows), ordered.searchsorted(rows, side="right")
        total = np.concatenate([[0], np.cumsum(weight[order], dtype=np.float64)])
        out[:, 2] = last - first
        out[:, 3] = total[last] - total[first]
        # The order is stable and histories come newest first: an item's first place is its newest event.
        newest = np.log1p(query.history_age_s[order] / np.float32(SECONDS_PER_DAY))
        had = last > first
        out[had, 4] = newest[first[had]]
        if self._content is not None:
            taste = weight @ self._content[history]
            length = float(np.sqrt(taste @ taste))
            if length > 0:
                out[:, 5] = self._content.take(rows, axis=0) @ (taste / np.float32(length))

    def save(self, folder: Path) -> None:
        """Write ``features.json`` and one ``.npy`` for each array into ``folder``, which exists."""
        described = {
            "names": self.names,
            "categories": self._n_categories,
            "scales": {name: asdict(scale) for name, scale in self.scales.items()},
        }
        (folder / "features.json").write_text(json.dumps(described, indent=1), encoding="utf-8")
        arrays = {"static": self._static, "categories": self._categories, "content": self._content}
        for name, array in arrays.items():
            if array is not None:
                np.save(folder / f"{name}.npy", array)

    @classmethod
    def load(cls, folder: Path, n_items: int) -> Self:
        """Read what ``save`` wrote for a catalogue of ``n_items``.

        Raises:
            BundleError: a file is missing or not what ``save`` writes; the message names it.
        """
        path = folder / "features.json"
        try:
            described = json.loads(path.read_text(encoding="utf-8"))
            scales = {name: SourceScale(**scale) for name, scale in described["scales"].items()}
            path = folder / "static.npy"
            static = np.load(path, allow_pickle=False)
            path = folder / "categories.npy"
            categories = np.load(path, allow_pickle=False)
            path = folder / "content.npy"
            # Mapped: the largest part by far, of which a request touches a few hundred rows.
            content = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False)) if path.exists() else None
            features = cls(scales, static, categories, described["categories"], content)
        except (OSError, EOFError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise BundleError(f"{path}: not readable as features ({error}). Build the bundle again") from error
        if features.names != tuple(described["names"]):
            raise BundleError(f"{folder / 'features.json'}: another version's features. Build the bundle again")
        if len(static) != n_items:
            raise BundleError(f"{folder / 'static.npy'}: {len(static)} items, the catalogue has {n_items}. Build again")
        return features


def fit_scales(sources: Sequence[str], source_scores: Scores) -> dict[str, SourceScale]:
    """Measure the sources on the stacked ``source_scores`` [n, s] of training pools."""
    return {source: SourceScale.fit(source_scores[:, i]) for i, source in enumerate(sources)}


def _relative(trend: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of each item's share of an average item, so that a busy month looks like a quiet one."""
    return np.log(trend / max(float(trend.mean()), 1e-12) + TREND_FLOOR)


def _query_features(query: Query) -> Scores:
    """Logarithms of length, days since the newest event and span of the history; whether had items may come back."""
    ages, repeats = query.history_age_s, float(query.allow_repeats)
    if not len(ages):
        return np.array([0, 0, 0, repeats], np.float32)
    newest, oldest = float(ages[0]), float(ages[-1])
    days = np.array([newest, max(oldest - newest, 0)]) / SECONDS_PER_DAY
    return np.array([np.log1p(len(ages)), *np.log1p(days), repeats], np.float32)


def _padded_categories(catalogue: Catalogue) -> NDArray[np.int32]:
    """[k, items] categories of each item, of more than eight the rarest, filled up with the number of categories."""
    ptr, index = catalogue.category_ptr, catalogue.category_idx
    owner = np.repeat(np.arange(len(catalogue)), np.diff(ptr))
    frequency = np.bincount(index, minlength=len(catalogue.category_names))
    order = np.lexsort((index, frequency[index], owner))
    position = np.arange(len(index)) - ptr[owner]
    width = min(int(np.diff(ptr).max(initial=0)), _MAX_CATEGORIES)
    padded = np.full((max(width, 1), len(catalogue)), len(catalogue.category_names), np.int32)
    keep = position < width
    padded[position[keep], owner[keep]] = index[order][keep]
    return padded
