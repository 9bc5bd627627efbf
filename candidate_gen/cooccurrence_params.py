"""Parameters of ``co_occurrence``, and three sets of them for three kinds of data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Params:
    """Parameters of the kernel; the defaults suit sequences, ``BASKETS`` orders of several items.

    Attributes:
        unit: what a basket is: every event by itself, or a session.

        window: longest distance in baskets, >= 0.

        same_basket: weight of a pair inside one basket, >= 0; means nothing for single events.

        gap_power: weight of distance g is g ** -gap_power.

        backward: share of the weight that counts from the later item to the earlier one too, 0 to 1.

        source_power: damping by the sum of all weights of the source.

        target_power: damping by the popularity of the target.

        basket_power: damping by the sizes of the baskets; 0 = a pair of a large basket counts as one of a small.

        half_life_days: days in which a pair loses half of its weight; None = never.

        count_half_life_days: the same for the popularity that ``target_power`` damps by.

        shrink: added to the sum of the source, so that rare sources do not look certain.

        min_users: a pair that fewer users made is not kept, so that no table tells what one person did.

        neighbours: kept for each item.

        first_only: the later item of a pair must be new to the user: learn what is discovered, not what is repeated.

        max_basket: newest items of a basket that are looked at.

        history: newest distinct items of a user that are summed over.

        decay: weight of a history item for each basket it lies back, 0 to 1.

        session_gap_s: in a request, longest pause inside one basket.
    """

    unit: Literal["event", "session"] = "event"
    window: int = 10
    same_basket: float = 0.0
    gap_power: float = 0.7
    backward: float = 0.0
    source_power: float = 0.7
    target_power: float = 0.2
    basket_power: float = 0.0
    half_life_days: float | None = None
    count_half_life_days: float | None = None
    shrink: float = 0.0
    min_users: int = 2
    neighbours: int = 100
    first_only: bool = True
    max_basket: int = 200
    history: int = 20
    decay: float = 0.7
    session_gap_s: float = 1800.0

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            ValueError: a parameter is out of range; the message names it.
        """
        wrong = [
            name
            for name, holds in {
                "unit": self.unit in ("event", "session"),
                "window": self.window >= 0 and (self.window > 0 or self.same_basket > 0),
                "same_basket": self.same_basket >= 0,
                "backward": 0 <= self.backward <= 1,
                "half_life_days": self.half_life_days is None or self.half_life_days > 0,
                "count_half_life_days": self.count_half_life_days is None or self.count_half_life_days > 0,
                "shrink": self.shrink >= 0,
                "min_users": self.min_users >= 1,
                "neighbours": self.neighbours >= 1,
                "max_basket": self.max_basket >= 1,
                "history": self.history >= 1,
                "decay": 0 < self.decay <= 1,
                "session_gap_s": self.session_gap_s > 0,
            }.items()
            if not holds
        ]
        if wrong:
            values = ", ".join(f"{name}={getattr(self, name)!r}" for name in wrong)
            raise ValueError(f"co_occurrence: out of range: {values}. See candidate_gen.cooccurrence_params.Params")


SEQUENCES: dict[str, Any] = asdict(Params())
"""Parameters for what is used one after the other: films, songs, articles."""

BASKETS: dict[str, Any] = SEQUENCES | {
    "unit": "session",
    "window": 0,
    "same_basket": 1.0,
    "source_power": 0.2,
    "target_power": 0.6,
    "basket_power": 0.7,
    "half_life_days": 60.0,
    "count_half_life_days": 90.0,
    "neighbours": 50,
    "history": 200,
    "decay": 0.9,
}
"""Parameters for orders of several items whose order means nothing."""

SETS: dict[str, Any] = BASKETS | {
    "source_power": 0.5,
    "target_power": 0.3,
    "basket_power": 0.7,
    "half_life_days": None,
    "count_half_life_days": None,
    "neighbours": 300,
    "decay": 1.0,
}
"""Parameters for what each user has, without any order or time: one basket a user."""
