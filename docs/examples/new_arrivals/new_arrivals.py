"""A candidate generator of another package: the newest items of the categories in the user's history.

What came out today is in no table of what goes with what, and a news site lives from it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from candidate_gen.arrays import check, load_array, params_of, save_params
from core.types import Candidates

if TYPE_CHECKING:
    from pathlib import Path

    from candidate_gen.registry import BuildInputs
    from core.catalogue import Catalogue
    from core.types import Query, Rows

_ORDER = "order.npy"


@dataclass(frozen=True)
class Params:
    """Parameters of ``build``; kept in the bundle.

    Attributes:
        history: newest events whose categories are looked at.
    """

    history: int = 10


class NewArrivals:
    """Proposes the newest items first, of any category that the user's newest events are in.

    Args:
        order: [items] every catalogue row, the newest item first.
        catalogue: whose rows they are.
        params: see ``Params``.
    """

    name = "new_arrivals"
    inline = True  # a fraction of a millisecond, so it may run on the event loop

    def __init__(self, order: Rows, catalogue: Catalogue, params: Params) -> None:
        self.order, self.params = order, params
        self._of_row = np.split(catalogue.category_idx, catalogue.category_ptr[1:-1])
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        owner = np.repeat(place, np.diff(catalogue.category_ptr))
        names = range(len(catalogue.category_names))
        self._places = [np.sort(owner[catalogue.category_idx == code]) for code in names]

    @classmethod
    def build(cls, inputs: BuildInputs, **params: Any) -> Self:
        """Order the catalogue by ``created_at`` or, where that is not known, by the item's first event."""
        first = inputs.events.group_by("item").agg(time=inputs.events.time.min()).to_pyarrow()
        born = np.zeros(len(inputs.catalogue), np.int64)
        born[first["item"].to_numpy()] = first["time"].to_numpy()
        created = inputs.catalogue.created_at
        born = np.where((created > 0) & (created <= inputs.as_of_s), created, born)
        return cls(np.argsort(-born, kind="stable").astype(np.int32), inputs.catalogue, Params(**params))

    def generate(self, query: Query, limit: int) -> Candidates:
        """At most ``limit`` rows, the newest first; nothing without history."""
        newest = query.history[: self.params.history].tolist()
        codes = {int(code) for row in newest for code in self._of_row[row]}
        if not codes:
            return Candidates.none(self.name)
        places = np.unique(np.concatenate([self._places[code][:limit] for code in codes]))[:limit]
        return Candidates(self.name, self.order[places], (1 / (1 + places)).astype(np.float32))

    def save(self, folder: Path) -> None:
        """Write the order and the parameters."""
        np.save(folder / _ORDER, self.order)
        save_params(folder, asdict(self.params))

    @classmethod
    def load(cls, folder: Path, catalogue: Catalogue) -> Self:
        """Read what ``save`` wrote; a file that is missing, damaged or of another catalogue is a ``BundleError``."""
        order = load_array(folder / _ORDER, np.int32, (len(catalogue),))
        check(bool((np.sort(order) == np.arange(len(order))).all()), folder / _ORDER, "it does not name every row once")
        return cls(order, catalogue, params_of(Params, folder))
