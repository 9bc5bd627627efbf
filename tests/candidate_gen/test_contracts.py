"""Every built-in generator keeps the generators' promises."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from candidate_gen.ann import Ann
from candidate_gen.buy_again import BuyAgain
from candidate_gen.content import Content
from candidate_gen.cooccurrence import CoOccurrence
from candidate_gen.cooccurrence_params import BASKETS
from candidate_gen.popularity import Popularity
from candidate_gen.random_walk import RandomWalk
from core.types import CandidateGenerator, Candidates, Query
from tests.contracts.generator_contract import BuildableContract, GeneratorContract


class TestPopularity(BuildableContract):
    kind = Popularity
    needs_history = False


class TestPopularityWithAListForNewcomers(BuildableContract):
    kind = Popularity
    params: ClassVar[dict[str, Any]] = {"newcomer_weight": 2.0}
    needs_history = False


class TestCoOccurrenceOfSequences(BuildableContract):
    kind = CoOccurrence
    params: ClassVar[dict[str, Any]] = {"neighbours": 20}


class TestCoOccurrenceOfBaskets(BuildableContract):
    kind = CoOccurrence
    params: ClassVar[dict[str, Any]] = BASKETS


class TestRandomWalk(BuildableContract):
    kind = RandomWalk
    params: ClassVar[dict[str, Any]] = {"neighbours": 20}


class TestContent(BuildableContract):
    kind = Content
    params: ClassVar[dict[str, Any]] = {"neighbours": 9}


class TestBuyAgain(BuildableContract):
    kind = BuyAgain

    @classmethod
    def query(cls, **values: Any) -> Query:
        return super().query(**{"allow_repeats": True} | values)


class TestAnn(BuildableContract):
    kind = Ann

    @classmethod
    def query(cls, **values: Any) -> Query:
        """The vector follows from the history, as with a user tower."""
        history = values.get("history", ())
        vector = np.random.default_rng(list(history)).normal(size=8).astype(np.float32)
        return super().query(user_vector=lambda: vector, **values)


class Neighbours:
    """A fake: the rows after those of the history."""

    name = "next_row"
    inline = True

    def generate(self, query: Query, limit: int) -> Candidates:
        rows = np.unique((query.history + 1) % len(query.catalogue))[:limit].astype(np.int32)
        return Candidates(self.name, rows, np.zeros(len(rows), np.float32))


class TestFake(GeneratorContract):
    """The suite suits generators that nobody builds, too."""

    @classmethod
    def generator(cls) -> CandidateGenerator:
        return Neighbours()
