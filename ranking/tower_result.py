"""A trained user tower with its item vectors, whichever way it was fitted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.types import Vector
    from ranking.networks import SetTower, UserTower
    from ranking.tower_settings import TowerSettings


@dataclass
class TowerResult:
    """A trained tower.

    Attributes:
        tower: the network at the best epoch, on the CPU, in evaluation mode.

        item_vectors: [items, d] float32; zeros for items without training events.

        metric: validation NDCG@20 after each epoch; empty without cases.

        best_epoch: epochs of training that ``tower`` has had.

        seconds: wall time.

        stopped_by: "epochs", "patience" or "time".
    """

    tower: UserTower | SetTower
    item_vectors: Vector
    settings: TowerSettings
    metric: list[float] = field(default_factory=list)
    best_epoch: int = 0
    seconds: float = 0.0
    stopped_by: str = "epochs"
