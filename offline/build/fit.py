"""What a bundle knows at a cut: its generators, its prior and its user tower, fitted on events before the cut."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, cast

import numpy as np

from candidate_gen.registry import BuildInputs, generator_class
from core.bundle import Bundle
from core.manifest import Manifest
from offline.build.recipe import similar_params
from offline.errors import InputError
from offline.read.event_log import EventLog
from offline.split.cases import user_states
from ranking.cf_scorer import CfScorer
from ranking.sequences import Sequences

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import ibis

    from candidate_gen.content import Content
    from candidate_gen.registry import BuildableGenerator
    from core.bundle import PopularityFloor
    from core.types import CandidateGenerator, UserEncoder, UserState, Vector
    from offline.build.recipe import Recipe
    from offline.read.dataset import Dataset
    from offline.read.engine import Engine
    from offline.split.cases import Cases
    from offline.split.cuts import Cut
    from offline.split.windows import Window

REPEATING = 0.05
"""Share of repeats above which a build also learns from, and chooses on, lists that allow repeats."""


@dataclass(frozen=True)
class World:
    """What was read, once for all cuts.

    Attributes:
        targets: codes of the event types that make an item relevant.

        scratch: a folder for what is not part of any bundle.

        keep: see ``BuildInputs.keep``.
    """

    data: Dataset
    log: EventLog
    targets: frozenset[int]
    scratch: Path
    keep: Callable[[ibis.Table], ibis.Table]

    @property
    def n_items(self) -> int:
        """Catalogue rows."""
        return len(self.data.catalogue)

    @cached_property
    def content(self) -> BuildableGenerator:
        """The one generator that no event changes: the same at every cut."""
        return generator_class("content").build(
            BuildInputs(self.data.events, self.data.catalogue, self.data.texts, 0.0)
        )

    @cached_property
    def content_vectors(self) -> Vector:
        """[items, c] unit vectors of the items' texts, zeros where there is none."""
        return cast("Content", self.content).vectors.astype(np.float32)

    @cached_property
    def hidden(self) -> frozenset[int]:
        """Codes of the event types after which an item is neither relevant nor recommended without repeats.

        Those that hide an item in serving, and the target types: an item that the user had is not new.
        """
        types = self.data.event_types
        return self.targets | {types.index(name) + 1 for name in self.data.seen_types if name in types}

    def cases(self, window: Window, *, new_only: bool) -> Cases:
        """The cases of a window; with ``new_only`` items that the user had before are not relevant."""
        return window.cases(self.log, self.targets, self.hidden if new_only else frozenset())

    def user_states(self, cases: Cases) -> list[UserState]:
        """What the store would know of the users, see ``offline.split.cases.user_states``."""
        return user_states(self.log, cases, self.data.catalogue.ids, self.data.event_types, self.hidden)

    def repeats_before(self, cut: Cut) -> bool:
        """Whether before ``cut`` so many events of target types are repeats that lists with repeats are learned, too."""
        log = self.log
        users = np.repeat(np.arange(log.n_users), np.diff(log.ptr))
        target = np.isin(log.types, list(self.targets)) & (np.arange(len(users)) < cut.ends(log)[users])
        users = users[target]
        pairs = users * np.int64(max(self.n_items, 1)) + log.items[target]
        return 1 - len(np.unique(pairs)) / max(len(pairs), 1) > REPEATING

    @classmethod
    def read(cls, data: Dataset, engine: Engine, scratch: Path, target_types: Sequence[str] = ()) -> World:
        """From a data set.

        Args:
            data: what was read.
            engine: that read it.
            scratch: a folder for what is not part of any bundle.
            target_types: event types that make an item relevant; by default those after which an item counts as had,
                or every positive one where there is none.

        Raises:
            InputError: no event is of a type in ``target_types``.
        """
        types = data.event_types
        for name in target_types:
            if name not in types:
                raise InputError(
                    f"{name!r} is to be a target type, no event is of that type. There are: {', '.join(types)}"
                )
        log = EventLog.read(data.events, len(data.user_ids))
        wanted = [name for name in types if name in (target_types or data.seen_types)]
        wanted = wanted or [name for name in types if data.event_weights[name] > 0]
        return cls(data, log, frozenset(types.index(name) + 1 for name in wanted), scratch, engine.keep)


@dataclass(frozen=True)
class Known:
    """The events before a cut, in the two forms that fitting reads."""

    cut: Cut
    inputs: BuildInputs
    sequences: Sequences

    @classmethod
    def at(cls, world: World, cut: Cut) -> Known:
        """What is known at ``cut``."""
        log, data = world.log, world.data
        sequences = Sequences.of(
            log.ptr, log.items, types=log.types, weights=log.weights, times=log.times, ends=cut.ends(log)
        )
        inputs = BuildInputs(cut.known(data.events), data.catalogue, data.texts, cut.as_of_s(log), keep=world.keep)
        return cls(cut, inputs, sequences)


@dataclass(frozen=True)
class Fitted:
    """A bundle in memory, and what it takes to write it.

    Attributes:
        generators: by name, in pool order.
    """

    known: Known
    bundle: Bundle
    prior: CfScorer
    similar: CfScorer
    generators: Mapping[str, BuildableGenerator]


def fit(
    world: World,
    known: Known,
    recipe: Recipe,
    *,
    names: tuple[str, ...] | None = None,
    item_vectors: Vector | None = None,
    encoder: UserEncoder | None = None,
    reuse: Mapping[str, BuildableGenerator] | None = None,
) -> Fitted:
    """Build generators and prior.

    Args:
        world: what was read.

        known: the events to learn from.

        recipe: parameters.

        names: generators to build, all of the recipe's by default; ``ann`` is left out without ``item_vectors``.

        item_vectors: [items, d] of the tower fitted on the same events.

        encoder: that tower.

        reuse: generators already built from the same events.
    """
    inputs = replace(known.inputs, item_vectors=item_vectors)
    generators: dict[str, BuildableGenerator] = {}
    for name in names or recipe.generators:
        if name == "ann" and item_vectors is None:
            continue
        if name == "content":
            generators[name] = world.content
        elif reuse and name in reuse:
            generators[name] = reuse[name]
        else:
            generators[name] = generator_class(name).build(inputs, **recipe.generators[name])
    prior = CfScorer.build(known.sequences, world.n_items, inputs.as_of_s, recipe.cf)
    similar = CfScorer(similar_params(recipe.trend), prior.trend)
    bundle = Bundle(
        version="draft",
        catalogue=world.data.catalogue,
        generators=tuple(cast("CandidateGenerator", g) for g in generators.values()),
        limits={name: recipe.limit(name) for name in generators},
        popularity=cast("PopularityFloor", generators["popularity"]),
        prior=prior,
        similar=similar,
        manifest=manifest_of(world, known, recipe, tuple(generators)),
        encoder=encoder,
        item_vectors=item_vectors,
    )
    return Fitted(known, bundle, prior, similar, generators)


def manifest_of(world: World, known: Known, recipe: Recipe, names: tuple[str, ...]) -> Manifest:
    """The manifest of a draft: everything but version, times, figures and files."""
    data = world.data
    weights = {f"{name}_weight": term["weight"] for name, term in recipe.sources.items() if name in names}
    return Manifest(
        version="draft",
        built_at="",
        as_of_s=known.inputs.as_of_s,
        code_version="",
        items=world.n_items,
        event_weights=dict(data.event_weights),
        seen_types=tuple(data.seen_types),
        event_types=data.event_types,
        generators={name: {"limit": recipe.limit(name), **recipe.generators[name]} for name in names},
        cf={"trend_weight": recipe.trend_weight, **recipe.trend, **weights},
        search=recipe.search,
    )
