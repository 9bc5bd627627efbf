"""What a caller in a hurry did not wait for has not failed: breakers belong to everybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core.query import Request
from core.types import Reason, UserState
from server.overload.breaker import State
from server.rungs.deadline import Deadline
from server.rungs.pipeline import USER_STORE, Pipeline
from server.rungs.request_record import RequestRecord
from server.rungs.work_pool import WorkPool
from server.settings import Settings
from tests.server import toy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.types import UserEvent


class BrokenStore:
    """Has nothing to say, for one reason."""

    def __init__(self, reason: Reason) -> None:
        self._reason = reason

    async def read(self, user_id: str, timeout_s: float = 1.0) -> UserState:  # noqa: ARG002
        return UserState(missing=self._reason)

    async def append(self, user_id: str, events: Sequence[UserEvent]) -> None: ...

    async def close(self) -> None: ...


@pytest.mark.parametrize(
    ("reason", "budget_s", "state"),
    [
        (Reason.STORE_LATE, 0.003, State.CLOSED),
        (Reason.STORE_LATE, 0.1, State.OPEN),
        (Reason.STORE_FAILED, 0.003, State.OPEN),
    ],
)
async def test_a_store_that_had_no_fair_time_to_answer_is_left_to_the_others(
    reason: Reason, budget_s: float, state: State
) -> None:
    work = WorkPool(threads=1, slots=1)
    pipeline = Pipeline(toy.bundle(), BrokenStore(reason), work, Settings())
    for _ in range(30):
        await pipeline.recommend(Request("ada", 8), RequestRecord(Deadline(budget_s, lambda: 0.0)))
    work.close()

    assert pipeline.breakers[USER_STORE].state is state
