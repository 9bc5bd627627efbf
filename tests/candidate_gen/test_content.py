"""Content neighbours against brute force, and texts in every poor condition."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from candidate_gen import content
from candidate_gen.content import Content
from candidate_gen.text_encoder import TfidfSvdEncoder
from tests.contracts.generator_world import ITEMS, make_catalogue, make_inputs, make_query

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from core.types import Vector


class Given:
    """An encoder that has vectors, whatever the texts are."""

    def __init__(self, vectors: Vector) -> None:
        self.vectors = vectors

    def encode(self, texts: Sequence[str]) -> Vector:
        del texts
        return self.vectors


def unit_vectors(seed: int = 4) -> Vector:
    vectors = np.random.default_rng(seed).normal(size=(ITEMS, 6)).astype(np.float32)
    vectors[5] = 0
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)


@pytest.mark.parametrize("exact_up_to", [1_000, 10], ids=["exact", "hnsw"])
def test_neighbours_are_the_nearest_by_cosine_without_the_item_itself(
    monkeypatch: pytest.MonkeyPatch, exact_up_to: int
) -> None:
    """Item 5 has no content: it has no neighbours and is nobody's."""
    monkeypatch.setattr(content, "_EXACT_UP_TO", exact_up_to)
    vectors = unit_vectors()
    built = Content.build(make_inputs(), encoder=Given(vectors), neighbours=8)
    cosine = vectors @ vectors.T
    np.fill_diagonal(cosine, 0)
    for row in range(ITEMS):
        found, scores = built.neighbours(row)
        expected = [j for j in np.argsort(-cosine[row])[:8] if cosine[row, j] > 1e-3]
        assert found.tolist() == expected
        np.testing.assert_allclose(cosine[row, found], scores, atol=1e-5)
    assert built.neighbours(5)[0].tolist() == []


def test_items_without_events_are_found_from_their_texts() -> None:
    texts = [f"thing {r} alone" for r in range(ITEMS)]
    texts[11] = "oak garden chair"
    texts[42] = "oak garden chair green"
    built = Content.build(replace(make_inputs([]), texts=texts))
    assert built.generate(make_query(make_catalogue(), [11]), 3).rows[0] == 42


def test_recent_items_speak_more_than_old_ones() -> None:
    built = Content.build(make_inputs(), encoder=Given(unit_vectors()), decay=0.5, neighbours=60)
    found = built.generate(make_query(make_catalogue(), [8, 30]), ITEMS)
    expected = dict.fromkeys(range(ITEMS), 0.0)
    for row, weight in ((8, 1.0), (30, 0.5)):
        for other, cosine in zip(*built.neighbours(row), strict=True):
            expected[int(other)] += weight * float(cosine)
    best = max(expected.values())
    np.testing.assert_allclose([expected[r] / best for r in found.rows.tolist()], found.scores, rtol=1e-5)


def test_similarity_is_the_cosine_with_the_faded_history() -> None:
    vectors = unit_vectors()
    built = Content.build(make_inputs(), encoder=Given(vectors), decay=0.5)
    rows = np.array([3, 5, 40], np.int32)
    profile = vectors[8] + 0.5 * vectors[30]
    expected = vectors[rows] @ profile / np.linalg.norm(profile)
    np.testing.assert_allclose(expected, built.similarity(make_query(make_catalogue(), [8, 8, 30]), rows), atol=2e-3)


@pytest.mark.parametrize("history", [[], [5]], ids=["no history", "history without content"])
def test_similarity_without_anything_to_compare_is_zero(history: list[int]) -> None:
    built = Content.build(make_inputs(), encoder=Given(unit_vectors()))
    rows = np.array([3, 5, 40], np.int32)
    assert built.similarity(make_query(make_catalogue(), history), rows).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "texts",
    [[], [""], ["", "a", "!"], ["oak"], ["oak", "oak"], ["oak", "", "iron lamp"], ["the same words"] * 200],
    ids=["none", "one empty", "no words", "one word", "twice", "a gap", "all equal"],
)
def test_poor_texts_are_encoded_with_length_one_or_as_zeros(texts: list[str]) -> None:
    vectors = TfidfSvdEncoder().encode(texts)
    assert vectors.dtype == np.float32
    assert len(vectors) == len(texts)
    length = np.linalg.norm(vectors, axis=1)
    has_words = [any(len(word) > 1 for word in text.split()) for text in texts]
    np.testing.assert_allclose(length, np.array(has_words, float), atol=1e-5)


def test_many_words_are_reduced_to_few_dimensions_and_likeness_survives() -> None:
    rng = np.random.default_rng(0)
    topics = [[f"w{t}x{k}" for k in range(30)] for t in range(4)]
    texts = [" ".join(rng.choice(topics[r % 4], 8)) for r in range(300)]
    vectors = TfidfSvdEncoder(dims=16).encode(texts)
    assert vectors.shape == (300, 16)
    cosine = vectors @ vectors.T
    same = np.equal.outer(np.arange(300) % 4, np.arange(300) % 4)
    assert cosine[same].mean() > 5 * abs(cosine[~same].mean())


def test_one_text_for_each_item_is_needed() -> None:
    with pytest.raises(ValueError, match="2 texts for 60 items"):
        Content.build(replace(make_inputs(), texts=["a", "b"]))


@pytest.mark.parametrize("wrong", [{"dims": 0}, {"neighbours": 0}, {"history": 0}, {"decay": 0}])
def test_a_parameter_out_of_range_is_named(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Content.build(make_inputs(), **wrong)


@pytest.mark.parametrize("texts", [[""] * ITEMS, ["lamp", *[""] * (ITEMS - 1)]], ids=["none", "one"])
def test_a_catalogue_without_texts_comes_back_from_disk_and_proposes_nothing(tmp_path: Path, texts: list[str]) -> None:
    """A data set of ids alone is an ordinary one."""
    Content.build(replace(make_inputs(), texts=texts)).save(tmp_path)
    catalogue = make_catalogue()
    back = Content.load(tmp_path, catalogue)
    assert len(back.generate(make_query(catalogue, [0, 1]), 10).rows) == 0
