"""What the deep rung may not use of a deadline is there for the rungs below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core.types import Tier
from server.settings import Settings
from tests.server.deep_world import LATE, World
from tests.server.virtual import virtual

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def world() -> Iterator[World]:
    with virtual() as (loop, work):
        yield World(loop, work)


@pytest.mark.parametrize("deadline_ms", [10.0, 20.0, 40.0])
def test_a_model_that_overruns_is_given_up_while_the_reserve_is_still_there(world: World, deadline_ms: float) -> None:
    settings = Settings()
    world.model_s = 9.0
    answer = world.answer(deadline_ms / 1000)

    assert (answer.tier, answer.skipped[Tier.DEEP]) == (Tier.CF, LATE)
    reserve_ms = max(settings.reserve_ms, settings.reserve_share * deadline_ms)
    assert world.loop.now_s * 1000 <= deadline_ms - reserve_ms + 1e-6
