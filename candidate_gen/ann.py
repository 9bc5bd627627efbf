"""Items near the user in the space of learned vectors: an HNSW index (Malkov and Yashunin 2018) over the item vectors.

Largest inner product is no distance: over raw vectors of unequal length the graph leads astray. A further coordinate
sqrt(max(cap ** 2 - length ** 2, 0)), 0 in the query, brings items to equal length without changing any product (Bachrach
et al. 2014). With the longest item as cap that coordinate is nearly all there is, so the cap is a high quantile of the
lengths. Only items without any structure, equal in all directions, are better off without (quantile 0).

hnswlib trusts its caller: it accepts queries of the wrong width, NaN, and index files of another space, and does not
save ``ef``. Everything it does not check is checked here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import hnswlib
import numpy as np

from candidate_gen.arrays import check, load_array, params_of, save_params
from candidate_gen.hnsw_file import Head, check_graph
from candidate_gen.neighbours import best_allowed
from core.contents import IndexEntry
from core.manifest import BundleError
from core.types import Candidates

if TYPE_CHECKING:
    from pathlib import Path

    from candidate_gen.registry import BuildInputs
    from core.catalogue import Catalogue
    from core.types import Query, Rows, Scores, Vector

INDEX_PATH = "generators/ann/index.hnsw"
"""Where a bundle keeps the index."""
_INDEX, _ROWS = "index.hnsw", "rows.npy"
_SPACE = "ip"
_SEED = 7
_OVER_FETCH = 2


@dataclass(frozen=True)
class Params:
    """How the index is built and searched.

    Attributes:
        m: links of each item; memory grows with it.

        ef_construction: items looked at when one is added; build time grows with it.

        ef: items looked at in a search, at least; a search for more than ``ef`` items looks at as many as it returns.

        length_quantile: items shorter than this quantile of the lengths are brought to that length, see the module.
    """

    m: int = 24
    ef_construction: int = 200
    ef: int = 400
    length_quantile: float = 0.98

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            ValueError: a parameter is out of range; the message names it.
        """
        for name in ("m", "ef_construction", "ef"):
            value = getattr(self, name)
            if not 2 <= value <= 10_000:
                raise ValueError(f"ann: {name} is {value}, it must be from 2 to 10000")
        if not 0 <= self.length_quantile <= 1:
            raise ValueError(f"ann: length_quantile is {self.length_quantile}, it must be from 0 to 1")


@dataclass(frozen=True)
class _Meta:
    """What hnswlib does not write into its file; ``params.json``."""

    params: Params
    dim: int
    count: int
    bytes: int
    space: str = _SPACE

    @classmethod
    def read(cls, *, params: dict[str, Any], dim: int, count: int, bytes: int, space: str) -> Self:  # noqa: A002
        return cls(Params(**params), dim, count, bytes, space)


class Ann:
    """The items whose vectors have the largest inner product with the user's; scores are those products.

    Args:
        index: a filled ``hnswlib.Index`` whose labels are positions in ``rows``; None = no item has a vector.
        rows: [m] catalogue row of each label.
        dim: width of the vectors.
        params: what the index was built with.
    """

    name = "ann"
    inline = False

    def __init__(self, index: Any, rows: Rows, dim: int, params: Params) -> None:
        self._index, self.rows, self.dim, self.params = index, rows, dim, params
        if index is not None:
            index.set_num_threads(1)
            index.set_ef(params.ef)

    @classmethod
    def build(cls, inputs: BuildInputs, **params: Any) -> Self:
        """Index the vectors of all items that have one, in one thread, so that the file is the same every time.

        Args:
            inputs: ``item_vectors`` is what is used; rows of zeros are left out.
            **params: fields of ``Params``.

        Raises:
            TypeError: a parameter is unknown.
            ValueError: there are no vectors, one is not finite, or a parameter is out of range.
        """
        chosen = Params(**params)
        vectors = inputs.item_vectors
        if vectors is None:
            raise ValueError("ann needs item_vectors: train the model first, or leave `ann` out of the generators")
        if vectors.shape[0] != len(inputs.catalogue):
            raise ValueError(f"item_vectors has {vectors.shape[0]} rows, the catalogue {len(inputs.catalogue)}")
        broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(broken):
            item = inputs.catalogue.ids[int(broken[0])]
            raise ValueError(f"item_vectors: {len(broken)} rows are not finite, the first is that of item {item!r}")
        rows = np.flatnonzero(vectors.any(axis=1)).astype(np.int32)
        if not len(rows):
            return cls(None, rows, vectors.shape[1], chosen)
        index = hnswlib.Index(space=_SPACE, dim=vectors.shape[1] + 1)
        index.init_index(len(rows), M=chosen.m, ef_construction=chosen.ef_construction, random_seed=_SEED)
        lengthened = _lengthened(vectors[rows], chosen.length_quantile)
        index.add_items(lengthened, np.arange(len(rows)), num_threads=1)
        return cls(index, rows, vectors.shape[1], chosen)

    def generate(self, query: Query, limit: int) -> Candidates:
        """The items nearest to ``query.user_vector()`` that the query allows, of twice as many as are asked for.

        None where there is no such vector or it is not usable.
        """
        if query.user_vector is None or not len(query.history):
            return Candidates.none(self.name)
        near = self.search(query.user_vector(), _OVER_FETCH * limit)
        return best_allowed(self.name, query, near.rows, near.scores, limit)

    def search(self, vector: Vector, limit: int) -> Candidates:
        """The items nearest to a vector [d]; none for a vector of another width, without length or not finite."""
        vector = np.ascontiguousarray(vector, np.float32)
        usable = vector.shape == (self.dim,) and np.isfinite(vector).all() and vector.any()
        k = min(limit, len(self.rows))
        if not usable or k < 1:
            return Candidates.none(self.name)
        labels, distances = self._nearest(np.append(vector, np.float32(0)), k)
        scores = (1 - distances).astype(np.float32)  # hnswlib's distance is 1 - inner product
        rows = self.rows[labels]
        order = np.lexsort((rows, -scores))
        return Candidates(self.name, rows[order], scores[order])

    def _nearest(self, vector: Vector, k: int) -> tuple[Rows, Scores]:
        """[k] labels and distances; fewer when fewer can be reached over the links of the index."""
        while k:
            try:
                labels, distances = self._index.knn_query(vector[None, :], k=k, num_threads=1)
            except RuntimeError:
                k //= 2  # "Cannot return the results in a contiguous 2D array": fewer than k were reached
            else:
                return labels[0], distances[0]
        return np.empty(0, np.int32), np.empty(0, np.float32)

    def save(self, folder: Path) -> None:
        """Write the index, the rows it speaks of and what it takes to read them."""
        size = 0
        np.save(folder / _ROWS, self.rows)
        if self._index is not None:
            self._index.save_index(str(folder / _INDEX))
            size = (folder / _INDEX).stat().st_size
        save_params(folder, asdict(_Meta(self.params, self.dim, len(self.rows), size)))

    @classmethod
    def load(cls, folder: Path, catalogue: Catalogue) -> Self:
        """Read what ``save`` wrote. Holds the interpreter lock for about 2 ms a megabyte: not in a serving process.

        Raises:
            BundleError: a file is missing, damaged or of another catalogue. A file of the right size with changed
                contents is the manifest's business, whose checksums are compared first: hnswlib may crash on it.
        """
        meta = params_of(_Meta.read, folder)
        rows = _load_rows(folder, meta.count, len(catalogue))
        if not meta.count:
            return cls(None, rows, meta.dim, meta.params)
        path = folder / _INDEX
        found, expected = _describe(path, meta), IndexEntry(_SPACE, meta.dim + 1, meta.count)
        check(found == expected, path, f"holds {found}, expected {expected}")
        index = hnswlib.Index(space=_SPACE, dim=meta.dim + 1)
        try:
            index.load_index(str(path), max_elements=meta.count)
        except RuntimeError as error:
            raise BundleError(f"{path}: not readable as an index ({error}). Copy or build the bundle again") from error
        return cls(index, rows, meta.dim, meta.params)


def _lengthened(vectors: Vector, quantile: float) -> Vector:
    """[n, d + 1]: the last column makes up what a vector lacks to the given quantile of all lengths."""
    squares = np.square(vectors, dtype=np.float64).sum(axis=1)
    lacking = np.sqrt(np.maximum(np.quantile(squares, quantile) - squares, 0))
    return np.ascontiguousarray(np.column_stack([vectors, lacking]), np.float32)


def _load_rows(folder: Path, count: int, n_items: int) -> Rows:
    rows: Rows = load_array(folder / _ROWS, np.int32, (count,))
    fits = not len(rows) or bool(rows[0] >= 0 and rows[-1] < n_items and (np.diff(rows) > 0).all())
    check(fits, folder / _ROWS, f"it does not name rows of the {n_items} of the catalogue in ascending order")
    return rows


def _describe(path: Path, meta: _Meta) -> IndexEntry:
    """Dimension and count by the file, which does not say its space; ``load_index`` would believe any dimension."""
    check(path.is_file(), path, "missing")
    size = path.stat().st_size
    check(size == meta.bytes, path, f"{size} bytes, params.json says {meta.bytes}")
    head = Head.read(path)
    return IndexEntry(meta.space, head.dimension, head.count)


def describe_index(path: Path) -> IndexEntry:
    """What an index holds that ``Ann.save`` wrote to ``path``, by its head and the ``params.json`` beside it.

    Raises:
        BundleError: one of the two is missing or damaged.
    """
    return _describe(path, params_of(_Meta.read, path.parent))


def check_index(path: Path, n_items: int) -> None:
    """Check all that ``Ann.load`` and a search rely on, without hnswlib, which may crash on what is refused here.

    Args:
        path: of the index.
        n_items: size of the catalogue.

    Raises:
        BundleError: the index, its parameters or its rows are damaged or do not fit each other or the catalogue.
    """
    meta = params_of(_Meta.read, path.parent)
    _load_rows(path.parent, meta.count, n_items)
    check_graph(path)
