"""The parameters of the lower rungs that a build tries.

The grid comes from a study on a gift shop's orders and on film ratings; that for sets from a study on check-ins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

HALF_LIVES_DAYS: tuple[float | None, ...] = (3.0, 7.0, 14.0, 30.0, 90.0, None)
NEWCOMER_HALF_LIVES_DAYS = (14.0, 30.0, 60.0)
NEWCOMER_WEIGHTS = (0.5, 1.0, 2.0)
TREND_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
SOURCE_WEIGHTS = (0.0, 0.1, 0.25, 0.5, 1.0)
SEQUENCE_STEPS: tuple[Mapping[str, Any], ...] = (
    {"neighbours": 200},
    {"target_power": 0.4},
    {"target_power": 0.1},
    {"source_power": 0.5},
    {"decay": 0.8, "history": 50},
    {"gap_power": 1.0},
    {"window": 5},
    {"half_life_days": 30.0, "count_half_life_days": 60.0},
)
BASKET_STEPS: tuple[Mapping[str, Any], ...] = (
    {"target_power": 0.8},
    {"target_power": 0.4},
    {"source_power": 0.4},
    {"neighbours": 100},
    {"basket_power": 1.0},
    {"half_life_days": 30.0, "count_half_life_days": 60.0},
    {"half_life_days": 120.0, "count_half_life_days": 180.0},
    {"half_life_days": None, "count_half_life_days": None},
    {"decay": 0.7, "history": 100},
    {"window": 2},
)
SET_STEPS: tuple[Mapping[str, Any], ...] = (
    {"target_power": 0.2},
    {"target_power": 0.4},
    {"source_power": 0.4},
    {"source_power": 0.6},
    {"basket_power": 0.5},
    {"basket_power": 1.0},
    {"neighbours": 1000},
)
WALK_STEPS: tuple[Mapping[str, Any], ...] = ({"target_power": 0.2}, {"target_power": 0.6}, {"neighbours": 200})
OWN_HALF_LIVES_DAYS = (30.0, 90.0, 180.0, 365.0)
OWN_TREND_POWERS = (0.0, 0.25, 0.5)
OWN_WEIGHTS = (1.0, 2.0, 4.0, 8.0, 16.0)
