"""With a tighter deadline the tier and the rows that the model scores never go up; in virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.query import Request
from core.types import Reason, Tier, UserEvent, UserState
from server.rungs.deadline import Deadline
from server.rungs.pipeline import Pipeline
from server.rungs.request_record import RequestRecord
from server.settings import Settings
from server.store.user_store import MemoryUserStore
from tests.server import toy
from tests.server.virtual import virtual

if TYPE_CHECKING:
    from core.types import Recommendation, StopSignal
    from tests.server.virtual import VirtualLoop

STORED = UserState((UserEvent("item-11", "view", 990.0), UserEvent("item-03", "view", 900.0)))
JUST_NOW = (UserEvent("item-08", "view", 995.0),)


@dataclass(frozen=True)
class World:
    """What each part takes, milliseconds; the model a hundredth less, so that no run ends in the moment of its deadline."""

    store: float = 0.4
    near: float = 0.3
    far: float = 1.0
    model: float = 1.0
    row: float = 0.1
    limit: int = 8
    said: bool = False
    """Whether the request itself tells of an event."""


class Reached(NamedTuple):
    """Tuples are compared from the left: rows count where the tiers are equal."""

    tier: Tier
    scored_rows: int


class SlowStore(MemoryUserStore):
    """Takes its time, and keeps to the time that it is given."""

    def __init__(self, takes_s: float) -> None:
        super().__init__(())
        self._takes_s = takes_s

    async def read(self, user_id: str, timeout_s: float = 1.0, report: object = None) -> UserState:  # noqa: ARG002
        await asyncio.sleep(min(self._takes_s, timeout_s))
        return STORED if self._takes_s <= timeout_s else UserState(missing=Reason.STORE_LATE)


def pipeline(loop: VirtualLoop, work: object, world: World) -> Pipeline:
    model = toy.ToyScorer()

    def run(stop: StopSignal | None) -> None:
        loop.spend(0.99 * (world.model + world.row * rows[0]) / 1000, stop)

    rows = [0]
    plain = model.score

    def score(query: object, pool: object, stop: StopSignal | None = None) -> object:
        rows[0] = len(pool)  # type: ignore[arg-type]
        return plain(query, pool, stop)  # type: ignore[arg-type]

    model.before = run
    model.score = score  # type: ignore[assignment, method-assign]
    bundle = toy.bundle(
        near=toy.ToyGenerator("neighbours", True, 1, lambda: loop.spend(world.near / 1000)),
        far=toy.ToyGenerator("far", False, 7, lambda: loop.spend(world.far / 1000)),
        scorer=model,
    )
    made = Pipeline(bundle, SlowStore(world.store / 1000), work, Settings(), now_s=lambda: 1000.0)
    assert made.deep is not None
    made.deep.cost.fixed_s, made.deep.cost.row_s = world.model / 1000, world.row / 1000
    return made


def answer(world: World, deadline_ms: float) -> tuple[Recommendation, float]:
    """The answer of a fresh server, and how much later than its deadline it was, milliseconds."""
    with virtual() as (loop, work):
        request = Request("ada", world.limit, recent_events=JUST_NOW if world.said else ())
        served = pipeline(loop, work, world)

        async def ask() -> tuple[Recommendation, float]:
            deadline = Deadline.after(deadline_ms / 1000, loop.time)
            return await served.recommend(request, RequestRecord(deadline)), -deadline.left_s() * 1000

        return loop.run(ask())


def reached(world: World, deadline_ms: float) -> Reached:
    found, _ = answer(world, deadline_ms)
    return Reached(found.tier, found.scored_rows)


costs = st.floats(0, 3) | st.floats(0, 150)
worlds = st.builds(
    World,
    store=costs,
    near=costs,
    far=costs,
    model=st.floats(0, 2) | st.floats(0, 60),
    row=st.floats(0.001, 0.5) | st.floats(0.01, 10),
    limit=st.integers(1, 20),
    said=st.booleans(),
)
deadlines = st.floats(1, 200)


@settings(deadline=None, max_examples=300)
@given(world=worlds, one=deadlines, other=deadlines)
def test_a_tighter_deadline_never_has_a_higher_tier_nor_more_scored_rows(
    world: World, one: float, other: float
) -> None:
    tight, loose = sorted((one, other))

    assert reached(world, tight) <= reached(world, loose)


@pytest.mark.parametrize(
    "world",
    [
        World(),
        World(row=2.0),
        World(store=12.0),
        World(store=12.0, said=True),
        World(far=30.0, row=1.0),
        World(near=20.0),
        World(model=40.0),
        World(far=500.0, row=3.0),
    ],
    ids=str,
)
def test_from_1_to_200_ms_tier_and_scored_rows_only_go_up(world: World) -> None:
    found = [reached(world, ms) for ms in range(1, 201)]

    assert found == sorted(found)
    assert found[0].tier is Tier.POPULARITY


@settings(deadline=None, max_examples=100)
@given(world=worlds, deadline_ms=deadlines)
def test_only_what_the_event_loop_itself_computes_can_make_an_answer_late(world: World, deadline_ms: float) -> None:
    """Whatever store, slow generators and the model take."""
    _, late_ms = answer(replace(world, near=0.1), deadline_ms)

    assert late_ms <= 0.1
