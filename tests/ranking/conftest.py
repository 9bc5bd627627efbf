from __future__ import annotations

import pytest
import torch

from ranking.networks import Ensemble, Ranker, UserTower
from ranking.tower import TowerResult, train_tower
from ranking.tower_settings import TowerSettings
from tests.ranking import world
from tests.ranking.test_features import FEATURES

SETTINGS = TowerSettings(width=16, dropout=0.1, rate=1e-2, batch=32)


@pytest.fixture(scope="session")
def trained() -> TowerResult:
    """A tower that knows the ring of ``world.sequences``."""
    return train_tower(world.sequences(), world.ITEMS, 2, settings=SETTINGS, max_epochs=12, device="cpu")


@pytest.fixture(scope="session")
def tower(trained: TowerResult) -> UserTower:
    return trained.tower


@pytest.fixture(scope="session")
def ensemble() -> Ensemble:
    """Two rankers with random weights."""
    torch.manual_seed(4)
    made = Ensemble([Ranker(len(FEATURES.names), (16, 8)) for _ in range(2)], len(FEATURES.names)).eval()
    made.input_weights[3] = 0.5
    made.context[FEATURES.names.index("history_length")] = -0.2
    made.slope.fill_(0.3)
    made.offset.fill_(-1.0)
    return made
