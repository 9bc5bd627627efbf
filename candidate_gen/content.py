"""Items that read alike: finds what nobody has touched yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from candidate_gen.arrays import check, load_array, params_of
from candidate_gen.neighbours import NeighbourSum, NeighbourTable, newest_distinct
from candidate_gen.text_encoder import TfidfSvdEncoder

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from candidate_gen.registry import BuildInputs
    from candidate_gen.text_encoder import TextEncoder
    from core.catalogue import Catalogue
    from core.types import Query, Rows, Scores, Vector

_VECTORS = "vectors.npy"
_EXACT_UP_TO = 50_000
_BLOCK = 512
_LEAST = 1e-3


@dataclass(frozen=True)
class Params:
    """Parameters of the content neighbours.

    Attributes:
        dims: width of the vectors, at most.

        neighbours: kept for each item.

        history: newest distinct items of a user that are looked at.

        decay: weight of each next older item, 0 to 1.
    """

    dims: int = 64
    neighbours: int = 50
    history: int = 100
    decay: float = 0.98

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            ValueError: a parameter is out of range; the message names it.
        """
        for name in ("dims", "neighbours", "history"):
            if getattr(self, name) < 1:
                raise ValueError(f"content: {name} is {getattr(self, name)}, it must be at least 1")
        if not 0 < self.decay <= 1:
            raise ValueError(f"content: decay is {self.decay}, it must be above 0 and at most 1")


class Content(NeighbourSum[Params]):
    """What reads like the user's newest items: neighbours by cosine.

    Args:
        table: neighbours of each item by cosine.
        vectors: [items, d] float16, length 1; zeros where nothing is written about an item.
        params: see ``Params``.
    """

    name = "content"
    kind = Params

    def __init__(self, table: NeighbourTable, vectors: NDArray[np.float16], params: Params) -> None:
        super().__init__(table, params)
        self.vectors = vectors

    @classmethod
    def build(cls, inputs: BuildInputs, *, encoder: TextEncoder | None = None, **params: Any) -> Self:
        """Encode the texts and look up neighbours.

        Args:
            inputs: ``texts`` is what is used.
            encoder: None = ``TfidfSvdEncoder(dims)``.
            **params: fields of ``Params``.

        Raises:
            TypeError: a parameter is unknown.
            ValueError: a parameter is out of range, or there is not one text for each item.
        """
        chosen = Params(**params)
        if len(inputs.texts) != len(inputs.catalogue):
            raise ValueError(f"{len(inputs.texts)} texts for {len(inputs.catalogue)} items, one each is needed")
        vectors = (encoder or TfidfSvdEncoder(chosen.dims)).encode(inputs.texts)
        return cls(_neighbours(vectors, chosen.neighbours), vectors.astype(np.float16), chosen)

    def similarity(self, query: Query, rows: Rows) -> Scores:
        """[n] cosine of each row with the history, recent items first; 0 where either has no content."""
        history, weights = self.newest(query)
        profile = weights @ self.vectors[history].astype(np.float32)
        length = float(np.linalg.norm(profile))
        if length < _LEAST:
            return np.zeros(len(rows), np.float32)
        cosine: Scores = self.vectors[rows].astype(np.float32) @ (profile / np.float32(length))
        return cosine

    def newest(self, query: Query) -> tuple[Rows, Scores]:
        """The newest distinct items [h], each next one counting less."""
        positions = newest_distinct(query.history, self.params.history)
        weights = np.float32(self.params.decay) ** np.arange(len(positions), dtype=np.float32)
        return query.history[positions], weights

    def save(self, folder: Path) -> None:
        """Write the table, the vectors and the parameters."""
        super().save(folder)
        np.save(folder / _VECTORS, self.vectors)

    @classmethod
    def load(cls, folder: Path, catalogue: Catalogue) -> Self:
        """Map what ``save`` wrote into memory.

        Raises:
            BundleError: a file is missing, damaged or of another catalogue.
        """
        vectors = load_array(folder / _VECTORS, np.float16, (len(catalogue), None))
        check(bool(np.isfinite(vectors).all()), folder / _VECTORS, "it has numbers that are not finite")
        return cls(NeighbourTable.load(folder, len(catalogue)), vectors, params_of(Params, folder))


def _neighbours(vectors: Vector, count: int) -> NeighbourTable:
    """The ``count`` nearest by cosine of every row with content: exact up to 50,000 rows, by HNSW above."""
    rows = np.flatnonzero(vectors.any(axis=1)).astype(np.int32)
    known = vectors[rows]
    count = max(min(count, len(rows) - 1), 0)
    if count < 1:
        nearest, cosine = np.empty((len(rows), 0), np.int64), np.empty((len(rows), 0), np.float32)
    elif len(rows) <= _EXACT_UP_TO:
        nearest, cosine = _exact(known, count + 1)
    else:
        nearest, cosine = _approximate(known, count + 1)
    left = np.repeat(np.arange(len(rows)), nearest.shape[1])
    right, score = nearest.ravel(), cosine.ravel()
    keep = (left != right) & (score > _LEAST)
    table = NeighbourTable.of_pairs(len(vectors), rows[left[keep]], rows[right[keep]], score[keep])
    return table.cut(count)


def _exact(vectors: Vector, count: int) -> tuple[NDArray[np.int64], Scores]:
    """[n, count] positions and cosines, in no order."""
    found, cosines = [], []
    for start in range(0, len(vectors), _BLOCK):
        cosine = vectors[start : start + _BLOCK] @ vectors.T
        best = np.argpartition(cosine, len(vectors) - count, axis=1)[:, -count:]
        found.append(best)
        cosines.append(np.take_along_axis(cosine, best, axis=1))
    return np.concatenate(found), np.concatenate(cosines)


def _approximate(vectors: Vector, count: int) -> tuple[NDArray[np.int64], Scores]:
    """Like ``_exact`` from an HNSW index, built in one thread so that it is the same every time."""
    import hnswlib

    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.init_index(len(vectors), M=12, ef_construction=100, random_seed=7)
    index.add_items(vectors, num_threads=1)
    index.set_ef(2 * count)
    labels, distances = index.knn_query(vectors, k=count)
    return labels.astype(np.int64), 1 - distances
