"""A bundle in memory: everything that must change together, taken once per request."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from core.types import Tier

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from core.catalogue import Catalogue
    from core.manifest import Fault, Manifest
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


@runtime_checkable
class InSteps(Protocol):
    """A ``PopularityFloor`` that can pause, so that a narrow filter keeps nobody else waiting."""

    def steps(self, query: Query, limit: int) -> Generator[int, None, Candidates]:
        """``generate`` with pauses at which it yields how many rows were found so far; see ``core.allowed.Allowed``."""
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

        disabled: rungs that the bundle has and that cannot be used, and why. ``DEEP`` or nothing: without the rungs
            below it a bundle is not used at all.
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
    disabled: Mapping[Tier, Fault] = field(default_factory=dict)

    def without_deep(self, fault: Fault) -> Bundle:
        """The same bundle with its deep rung disabled: no model, and no generator that only the deep rung asks."""
        quick = tuple(generator for generator in self.generators if generator.inline)
        return replace(
            self,
            generators=quick,
            limits={generator.name: self.limits[generator.name] for generator in quick},
            encoder=None,
            scorer=None,
            item_vectors=None,
            disabled={Tier.DEEP: fault},
        )
