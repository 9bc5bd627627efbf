"""What people of the same past had, whenever it was: a random walk of three steps over users and items.

From an item to one of the users who had it, to another item of that user, all with equal chance (P3, Cooper et al. 2014),
with popular targets damped (RP3beta, Paudel et al. 2017):

    weight[i, j] = sum over users u with both i and j of 1 / size_u
                   / users_i ** source_power / users_j ** target_power

and a user's score for j is the sum over the newest distinct items i of the history. Neither time nor order counts: this
finds what a kernel of baskets or of next steps, made to look at the latest, has forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from candidate_gen.neighbours import NeighbourSum, NeighbourTable, newest_distinct

if TYPE_CHECKING:
    import ibis
    from numpy.typing import NDArray

    from candidate_gen.registry import BuildInputs
    from core.types import Query, Rows, Scores

_PATHS_PER_BLOCK = 16_000_000
"""Walks from item to item that are counted at one time: about 300 MB."""


@dataclass(frozen=True)
class Params:
    """Parameters of the walk.

    Attributes:
        source_power: damping by the number of users of the source.

        target_power: damping by the number of users of the target.

        max_items: newest distinct items of each user that are walked over; bounds the work of a build.

        min_users: a pair that fewer users made is not kept, so that no table tells what one person did.

        neighbours: kept for each item.

        history: newest distinct items of a user that are summed over in a request.
    """

    source_power: float = 0.7
    target_power: float = 0.4
    max_items: int = 200
    min_users: int = 2
    neighbours: int = 100
    history: int = 50

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            ValueError: a parameter is out of range; the message names it.
        """
        for name in ("max_items", "min_users", "neighbours", "history"):
            if getattr(self, name) < 1:
                raise ValueError(f"random_walk: {name} is {getattr(self, name)}, it must be at least 1")


class RandomWalk(NeighbourSum[Params]):
    """Where most walks from the user's newest items end."""

    name = "random_walk"
    kind = Params

    @classmethod
    def build(cls, inputs: BuildInputs, **params: Any) -> Self:
        """Count the walks.

        Args:
            inputs: events and catalogue.
            **params: fields of ``Params``.

        Raises:
            TypeError: a parameter is unknown.
            ValueError: a parameter is out of range.
        """
        chosen = Params(**params)
        pairs = _nearest(*_entries(inputs, chosen.max_items), len(inputs.catalogue), chosen)
        return cls(NeighbourTable.of_pairs(len(inputs.catalogue), *pairs), chosen)

    def newest(self, query: Query) -> tuple[Rows, Scores]:
        """The newest distinct items [h], all alike."""
        history = query.history[newest_distinct(query.history, self.params.history)]
        return history, np.ones(len(history), np.float32)


def _entries(inputs: BuildInputs, max_items: int) -> tuple[NDArray[np.int32], Rows]:
    """User and item of every pair that is walked over, [m] each, by user."""
    found = inputs.keep(_newest(inputs.events, max_items)).to_pyarrow()
    people, items = found["user"].to_numpy(), found["item"].to_numpy()
    order = np.lexsort((items, people))
    return people[order].astype(np.int32), items[order].astype(np.int32)


def _newest(events: ibis.Table, max_items: int) -> ibis.Table:
    """The newest distinct items of each user: user, item."""
    import ibis

    once = events.filter(events.weight > 0).group_by("user", "item").agg(seq=events.seq.max())
    place = ibis.row_number().over(ibis.window(group_by="user", order_by=once.seq.desc()))
    placed = once.mutate(place=place)
    return placed.filter(placed.place < max_items).select("user", "item")


def _nearest(people: NDArray[np.int32], items: Rows, n_items: int, params: Params) -> tuple[Rows, Rows, Scores]:
    """The pairs that are kept: source, target and weight [m], at most ``params.neighbours`` a source."""
    from scipy import sparse

    person = np.unique(people, return_inverse=True)[1]
    size = np.bincount(person)
    had = sparse.csr_array((np.ones(len(items)), (person, items)), shape=(len(size), n_items))
    step = sparse.csr_array((1 / size[person], (person, items)), shape=had.shape)
    owners = had.T.tocsr()
    popularity = np.maximum(np.bincount(items, minlength=n_items), 1).astype(np.float64)
    damping = popularity**-params.target_power
    sources, targets, weights = [], [], []
    for block in _blocks(np.bincount(items, size[person], minlength=n_items)):
        walks = (owners[block] @ step).tocsr()
        users = (owners[block] @ had).tocsr() if params.min_users > 1 else walks
        enough = users.data >= params.min_users if params.min_users > 1 else np.ones(len(walks.data), np.bool_)
        for i, source in enumerate(range(block.start, block.stop)):
            part = slice(walks.indptr[i], walks.indptr[i + 1])
            target = walks.indices[part]
            kept = enough[part] & (target != source)
            target = target[kept]
            weight = walks.data[part][kept] * damping[target] * popularity[source] ** -params.source_power
            if len(weight) > params.neighbours:
                best = np.argpartition(weight, -params.neighbours)[-params.neighbours :]
                target, weight = target[best], weight[best]
            sources.append(np.full(len(target), source, np.int32))
            targets.append(target.astype(np.int32))
            weights.append(weight.astype(np.float32))
    none = np.empty(0, np.int32)
    return (
        np.concatenate([*sources, none]),
        np.concatenate([*targets, none]),
        np.concatenate([*weights, none.astype(np.float32)]),
    )


def _blocks(paths: NDArray[Any]) -> list[slice]:
    """Runs of items with at most ``_PATHS_PER_BLOCK`` paths each, or a single item that has more."""
    edges, start, total = [], 0, 0.0
    for item, count in enumerate(paths.tolist()):
        if total + count > _PATHS_PER_BLOCK and item > start:
            edges.append(slice(start, item))
            start, total = item, 0.0
        total += count
    return [*edges, slice(start, len(paths))]
