"""A bundle in memory: everything that must change together, taken once per request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from core.catalogue import Catalogue
    from core.manifest import Manifest
    from core.types import (
        CandidateGenerator,
        Candidates,
        InterruptibleScorer,
        Query,
        Rows,
        Scorer,
        Scores,
        UserEncoder,
        Vector,
    )


class PopularityFloor(Protocol):
    """The generator that cannot fail: it has an answer while the catalogue has an allowed item."""

    name: str

    def generate(self, query: Query, limit: int) -> Candidates:
        """The ``limit`` most popular rows *that the query allows*, fewer only where there are fewer."""
        ...

    def score_rows(self, rows: Rows) -> Scores:
        """[n] popularity of given rows, >= 0, in any order."""
        ...


@dataclass(frozen=True)
class Bundle:
    """What one version answers with. Immutable.

    Attributes:
        generators: in pool order; ``popularity`` is one of them.

        limits: candidates to ask of each generator, by name.

        prior: the CF scorer; its order is the answer of the ``CF`` rung and the order of every pool.

        similar: the CF scorer of ``SimilarItems``: what goes with one item, hardly what is popular.

        encoder: user tower; None without a deep rung.

        scorer: ranking model; None without a deep rung.

        item_vectors: [items, d] float32 for explanations, zeros where an item has none; None without a deep rung.
    """

    version: str
    catalogue: Catalogue
    generators: tuple[CandidateGenerator, ...]
    limits: dict[str, int]
    popularity: PopularityFloor
    prior: Scorer
    similar: Scorer
    manifest: Manifest
    encoder: UserEncoder | None = None
    scorer: InterruptibleScorer | None = None
    item_vectors: Vector | None = None
