"""NDCG with binary gains, the one figure that training, search and evaluation order by.

For a list with hits h(p) at places p = 1 .. k and n relevant items:

    NDCG@k = sum over p of h(p) / log2(p + 1)  /  sum over p = 1 .. min(n, k) of 1 / log2(p + 1)

(Järvelin and Kekäläinen, 2002).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from core.types import Rows


def ndcg(hits: NDArray[np.bool_], n_relevant: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """[lists] NDCG@k.

    Args:
        hits: [lists, any width] which places are relevant; places after the k-th are not looked at.
        n_relevant: [lists] relevant items there are, in the list or not; at least 1.
        k: length of the lists.
    """
    discount = 1.0 / np.log2(np.arange(1, k + 1) + 1)
    ideal = np.cumsum(discount)[np.minimum(n_relevant, k) - 1]
    hits = hits[:, :k]
    each: NDArray[np.float64] = (hits * discount[: hits.shape[1]]).sum(axis=1) / ideal
    return each


def ndcg_of_scores(scores: NDArray[Any], relevant: Rows, k: int) -> float:
    """NDCG@k of the items in the order of their scores [items]."""
    top = np.argpartition(-scores, min(k, len(scores) - 1))[:k]
    top = top[np.argsort(-scores[top], kind="stable")]
    return float(ndcg(np.isin(top, relevant)[None], np.array([len(relevant)]), k)[0])
