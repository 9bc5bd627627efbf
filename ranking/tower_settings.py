"""How a user tower is built, trained and watched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from core.types import Rows
    from ranking.sequences import Sequences

FULL_SOFTMAX_ITEMS = 50_000
"""Catalogues up to this size are trained against as a whole, larger ones against a sample."""


@dataclass(frozen=True)
class TowerSettings:
    """How a tower is built and trained.

    Attributes:
        width: of user and item vectors.

        context_length: newest events of a history that the tower reads.

        blocks: transformer blocks.

        dropout: share of activations dropped while training.

        horizon_days: an item is a target if it comes this soon; None = in the user's next step.

        new_only: only items the user never had before are targets.

        targets: items drawn for each place and epoch.

        trend_half_life_days: the tower learns what a user likes *beyond* the trend of the day, whose
            logarithm is added to every score in training; None = it learns all of it.

        recency_half_life_days: places count half for every so many days of age; None = all the same.

        spectral: item vectors start from a singular value decomposition of who had what, not from noise.

        stride: events between the ends of neighbouring windows, <= ``context_length``; every epoch cuts them elsewhere.

        batch: windows of a step.

        rate: learning rate.

        item_rate: learning rate of item vectors as a multiple of ``rate``.

        decay: weight decay.

        negatives: sampled items per step where the catalogue is above ``FULL_SOFTMAX_ITEMS``.

        memory: what is evaluated and kept is a running mean of the weights that forgets this share's complement
            in every step (Polyak averaging); 0 = the weights themselves.
    """

    width: int = 64
    context_length: int = 50
    blocks: int = 1
    heads: int = 2
    dropout: float = 0.2
    horizon_days: float | None = None
    new_only: bool = False
    targets: int = 1
    trend_half_life_days: float | None = None
    recency_half_life_days: float | None = None
    spectral: bool = True
    stride: int = 25
    batch: int = 128
    rate: float = 2e-3
    item_rate: float = 1.0
    decay: float = 0.01
    negatives: int = 4096
    memory: float = 0.998


@dataclass(frozen=True)
class TowerCases:
    """Held-out cases for early stopping.

    Attributes:
        sequences: histories, all events before each case and more.

        users: [q] user of each case.

        ends: [q] index after the last event that may be seen.

        relevant: [q] targets; unique rows.
    """

    sequences: Sequences
    users: NDArray[np.int64]
    ends: NDArray[np.int64]
    relevant: Sequence[Rows]
