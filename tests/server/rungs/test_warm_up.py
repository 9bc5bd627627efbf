"""What warm-up finds out about the cost of answers."""

from __future__ import annotations

from core.types import Tier
from server.rungs.pipeline import Pipeline
from server.rungs.warm_up import warm_up
from server.rungs.work_pool import WorkPool
from server.settings import Settings
from server.store.user_store import MemoryUserStore
from tests.server import toy


async def test_every_rung_costs_something_and_deep_a_part_of_it_on_the_thread() -> None:
    work = WorkPool(1, 4)
    costs = await warm_up(Pipeline(toy.bundle(scorer=toy.ToyScorer()), MemoryUserStore(()), work, Settings()), 2)
    work.close()

    assert costs.answer_s.keys() == {Tier.POPULARITY, Tier.CF, Tier.DEEP}
    assert 0 < costs.thread_s < costs.answer_s[Tier.DEEP]


async def test_where_there_is_no_deep_rung_a_call_that_may_climb_so_high_costs_what_one_from_cf_does() -> None:
    work = WorkPool(1, 4)
    costs = await warm_up(Pipeline(toy.bundle(deep=False), MemoryUserStore(()), work, Settings()), 2)
    work.close()

    assert costs.answer_s[Tier.DEEP] == costs.thread_s == costs.answer_s[Tier.CF] > 0


async def test_without_warm_up_nothing_is_known_of_costs() -> None:
    work = WorkPool(1, 4)
    costs = await warm_up(Pipeline(toy.bundle(scorer=toy.ToyScorer()), MemoryUserStore(()), work, Settings()), 0)
    work.close()

    assert costs == ({}, None)
