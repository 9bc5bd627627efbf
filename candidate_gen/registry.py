"""Which generators there are: the built-in ones and those that other packages bring by entry point.

A generator is one class with both halves of an algorithm: ``build`` and ``save`` run nightly,
``load`` and ``generate`` in the serving process. A package adds its own under the entry-point group
``terrace.candidate_generators``; the built-in ones are found in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol, Self, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import ibis

    from core.catalogue import Catalogue
    from core.types import Candidates, Query, Vector

GROUP = "terrace.candidate_generators"


@dataclass(frozen=True)
class BuildInputs:
    """What a generator is built from.

    Attributes:
        events: Ibis table of the events up to ``as_of_s``, any order. Columns: ``user`` int32,
            ``item`` int32 (catalogue row), ``type`` int8 (code of the event type), ``weight``
            float32 (of the type, may be negative), ``time`` int64 (seconds since the epoch),
            ``session`` int64 (unique across users), ``seq`` int32 (position in the user's
            sequence, oldest 0).

        texts: one per catalogue row: title, description and categories; may be empty.

        as_of_s: the moment the generator knows the world up to, seconds since the epoch.

        item_vectors: [items, d] learned vectors, zeros where an item has none; None before training.

        keep: computes a table that is read several times once and returns it as the engine holds it; what it keeps
            is the caller's to remove. The default computes the table at each reading.
    """

    events: ibis.Table
    catalogue: Catalogue
    texts: Sequence[str]
    as_of_s: float
    item_vectors: Vector | None = None
    keep: Callable[[ibis.Table], ibis.Table] = field(default=lambda table: table)


class BuildableGenerator(Protocol):
    """What an entry point names: a class that also satisfies ``core.types.CandidateGenerator``."""

    name: str
    inline: bool

    @classmethod
    def build(cls, inputs: BuildInputs, **params: Any) -> Self:
        """Make it from events; unknown parameters are a TypeError."""
        ...

    def save(self, folder: Path) -> None:
        """Write into ``folder``, which exists and is empty. No pickle."""
        ...

    @classmethod
    def load(cls, folder: Path, catalogue: Catalogue) -> Self:
        """Read what ``save`` wrote.

        Raises:
            core.manifest.BundleError: a file is not what ``save`` writes; the message names it.
        """
        ...

    def generate(self, query: Query, limit: int) -> Candidates:
        """See ``core.types.CandidateGenerator.generate``."""
        ...


def generator_names() -> frozenset[str]:
    """Names of all generators that are installed."""
    return frozenset(entry_points(group=GROUP).names)


def generator_class(name: str) -> type[BuildableGenerator]:
    """The class registered under ``name``.

    Raises:
        LookupError: nothing is registered under that name; the message lists what is.
    """
    found = entry_points(group=GROUP)
    if name not in found.names:
        raise LookupError(f"no candidate generator is called {name!r}; there are {', '.join(sorted(found.names))}")
    return cast("type[BuildableGenerator]", found[name].load())
