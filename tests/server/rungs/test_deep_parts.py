"""Whether a part that is given up has failed."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from server.overload.breaker import Outcome
from server.rungs.budget import FAIR_S
from server.rungs.deadline import Deadline
from server.rungs.deep_parts import AbandonedError, Parts

if TYPE_CHECKING:
    from server.overload.breaker import Breaker
    from server.rungs.work_pool import WorkPool


@pytest.mark.parametrize(
    ("left_s", "outcome"), [(5 * FAIR_S, Outcome.FAILURE), (FAIR_S, Outcome.FAILURE), (0.9 * FAIR_S, Outcome.NEUTRAL)]
)
def test_a_part_that_waited_behind_one_that_hangs_is_judged_by_the_time_of_its_climb(
    left_s: float, outcome: Outcome
) -> None:
    now_s, outcomes = [0.0], list[Outcome]()
    breaker = SimpleNamespace(permit=lambda: 1, ended=lambda _permit, ended, _seconds: outcomes.append(ended))
    work = cast("WorkPool", SimpleNamespace(stuck_in=Counter[str]()))
    parts = Parts({"scorer": cast("Breaker", breaker)}, work, Deadline(left_s, lambda: now_s[0]))
    assert parts.add("scorer")
    now_s[0] = left_s - 0.1 * FAIR_S  # another part held the thread until now

    def given_up() -> None:
        busy = parts.busy()
        assert busy is not None
        assert parts.give_up(busy)

    with pytest.raises(AbandonedError):
        parts.do("scorer", given_up, longest_s=1.0)

    assert outcomes == [outcome]
