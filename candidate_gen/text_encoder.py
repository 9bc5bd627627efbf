"""From what is written about an item to a vector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.types import Vector


class TextEncoder(Protocol):
    """Places texts in a space where close means alike."""

    def encode(self, texts: Sequence[str]) -> Vector:
        """[n, d] float32, rows of length 1; zeros for a text that says nothing."""
        ...


class TfidfSvdEncoder:
    """Latent semantic analysis (Deerwester et al. 1990): tf-idf of words and word pairs, reduced by a seeded SVD.

    Args:
        dims: widest vector, >= 1; narrower where there are fewer words or texts.
        max_words: words and pairs that are kept, the most frequent ones.
        seed: of the randomised SVD.
    """

    def __init__(self, dims: int = 64, max_words: int = 50_000, seed: int = 7) -> None:
        self.dims, self.max_words, self.seed = dims, max_words, seed

    def encode(self, texts: Sequence[str]) -> Vector:
        """[n, d] with d <= ``dims``; [n, 1] zeros where no text has a word."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.utils.extmath import randomized_svd

        tfidf = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=self.max_words, dtype=np.float32)
        tokens = tfidf.build_tokenizer()
        if not any(tokens(text) for text in texts):
            return np.zeros((len(texts), 1), np.float32)
        matrix = tfidf.fit_transform(texts)
        if matrix.shape[1] <= self.dims:
            vectors = matrix.toarray()
        else:
            dims = min(self.dims, *matrix.shape)
            left, strength, _ = randomized_svd(matrix, dims, random_state=self.seed)
            vectors = left * strength
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 1e-6)
        return np.ascontiguousarray(vectors, np.float32)
