"""What goes with what, and what comes next: item-to-item weights counted from what users did.

One kernel for baskets and for sequences. Basket r of a user holds i, basket r + g holds j (g = 0: the same basket):

    C_g[i, j] = sum over such r of  2 ** (-age of r + g / half_life) * (size r * size r + g) ** (-basket_power / 2)
    raw = same_basket * C_0 + sum over g = 1..window of g ** -gap_power * (C_g + backward * C_g transposed)
    weight[i, j] = raw[i, j] / (sum over j of raw[i, j] + shrink) ** source_power / popularity_j ** target_power

and a user's score for j is the sum over the newest items i of the history of ``decay ** (baskets back) * weight[i, j]``.
``source_power`` 1 makes rows probabilities, ``target_power`` takes out what is popular with everybody: together the
family of P3alpha and RP3beta (Cooper et al. 2014, Paudel et al. 2017), with order and time added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from candidate_gen.cooccurrence_params import Params
from candidate_gen.neighbours import NeighbourSum, NeighbourTable, newest_distinct

if TYPE_CHECKING:
    from candidate_gen.registry import BuildInputs
    from core.types import Query, Rows, Scores


class CoOccurrence(NeighbourSum[Params]):
    """What goes best with the user's newest items."""

    name = "co_occurrence"
    kind = Params

    @classmethod
    def build(cls, inputs: BuildInputs, **params: Any) -> Self:
        """Count on the engine that holds the events.

        Args:
            inputs: events and catalogue.
            **params: fields of ``Params``.

        Raises:
            TypeError: a parameter is unknown.
            ValueError: a parameter is out of range.
        """
        chosen = Params(**params)
        from candidate_gen.cooccurrence_counts import nearest

        return cls(NeighbourTable.of_pairs(len(inputs.catalogue), *nearest(inputs, chosen)), chosen)

    def newest(self, query: Query) -> tuple[Rows, Scores]:
        """The newest distinct items [h], each next basket counting less."""
        kept = newest_distinct(query.history, self.params.history)
        if self.params.unit == "event":
            back = kept
        else:
            pause = np.diff(query.history_age_s, prepend=query.history_age_s[:1]) > self.params.session_gap_s
            back = pause.cumsum()[kept]
        return query.history[kept], np.float32(self.params.decay) ** back.astype(np.float32)
