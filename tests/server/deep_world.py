"""A pipeline in virtual time, whose slow generator and model take as long as a test says."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from core.query import Request
from core.types import Reason
from server.overload.breaker import Breaker, Outcome, State
from server.rungs.deadline import Deadline
from server.rungs.deep_rung import SCORER, TOWER
from server.rungs.pipeline import Pipeline
from server.rungs.request_record import RequestRecord
from server.settings import Settings
from server.store.user_store import MemoryUserStore
from tests.server import toy

if TYPE_CHECKING:
    from collections.abc import Callable

    from core.bundle import Bundle
    from core.types import Recommendation, Scores, StopSignal, Vector
    from server.overload.breaker import Rule
    from tests.server.virtual import VirtualLoop, VirtualPool

REQUEST = Request("ada", 8, recent_events=toy.HISTORY)
SUCCESS, FAILURE, NEUTRAL = Outcome.SUCCESS, Outcome.FAILURE, Outcome.NEUTRAL
LATE, NO_TIME = Reason.LATE, Reason.NO_TIME


class RecordingBreaker(Breaker):
    """Remembers the outcomes that it was given."""

    __slots__ = ("outcomes",)

    def __init__(self, name: str, rule: Rule, clock: Callable[[], float]) -> None:
        super().__init__(name, rule, clock=clock, rng=lambda: 0.5)
        self.outcomes: list[Outcome] = []

    def ended(self, permit: int, outcome: Outcome, seconds: float = 0.0) -> None:
        self.outcomes.append(outcome)
        super().ended(permit, outcome, seconds)


@dataclass
class World:
    """A pipeline in virtual time; what its parts take, in seconds, can be changed at any time.

    Attributes:
        deaf: whether the model ignores being stopped.

        deaf_tower: the same of the user tower.

        placed: what the user tower makes of its vector.

        begun: name and moment of every call of a slow generator and of the model, and of the tower where it takes time.
    """

    loop: VirtualLoop
    work: VirtualPool
    settings: Settings = field(default_factory=Settings)
    far_s: float = 0.001
    model_s: float = 0.001
    tower_s: float = 0.0
    deaf: bool = False
    deaf_tower: bool = False
    after: Callable[[Scores], object] = lambda scores: scores
    placed: Callable[[Vector], Vector] = lambda vector: vector
    more: tuple[toy.ToyGenerator, ...] = ()
    begun: list[tuple[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        model = toy.ToyScorer(self._model, lambda scores: self.after(scores))  # noqa: PLW0108 - it may change
        far = toy.ToyGenerator("far", False, 7, lambda: self.spend("far", self.far_s))
        bundle = toy.bundle(far=far, scorer=model)
        assert bundle.item_vectors is not None
        tower = toy.ToyEncoder(bundle.item_vectors, self._tower, lambda vector: self.placed(vector))  # noqa: PLW0108
        self.pipeline = self.serve(replace(bundle, encoder=tower))

    def serve(self, bundle: Bundle) -> Pipeline:
        bundle = replace(
            bundle,
            generators=(*bundle.generators, *self.more),
            limits={**bundle.limits, **{g.name: 30 for g in self.more}},
        )
        return Pipeline(
            bundle,
            MemoryUserStore(()),
            self.work,
            self.settings,
            now_s=lambda: 1000.0,
            breaker=lambda name, rule: RecordingBreaker(name, rule, self.loop.time),
        )

    def spend(self, name: str, seconds: float, stop: StopSignal | None = None) -> None:
        self.begun.append((name, self.loop.now_s))
        self.loop.spend(seconds, stop)

    def _model(self, stop: StopSignal | None) -> None:
        self.spend(SCORER, self.model_s, None if self.deaf else stop)

    def _tower(self, stop: StopSignal | None) -> None:
        if self.tower_s:
            self.spend(TOWER, self.tower_s, None if self.deaf_tower else stop)

    async def ask(self, budget_s: float = 0.1) -> Recommendation:
        deadline = Deadline.after(budget_s, self.loop.time)
        answer = await self.pipeline.recommend(REQUEST, RequestRecord(deadline))
        assert deadline.left_s() >= 0
        assert len(answer.rows) == REQUEST.limit
        return answer

    def add(self, name: str, takes_s: float) -> None:
        """One more slow generator."""
        self.more = (*self.more, toy.ToyGenerator(name, False, 5, lambda: self.spend(name, takes_s)))
        self.__post_init__()

    async def occupy(self, seconds: float) -> None:
        """A thread, as another request does."""
        self.work.start(lambda: self.loop.spend(seconds), lambda _: None)

    def answer(self, budget_s: float = 0.1) -> Recommendation:
        return self.loop.run(self.ask(budget_s))

    def outcomes(self, name: str) -> list[Outcome]:
        breaker = self.pipeline.breakers[name]
        assert isinstance(breaker, RecordingBreaker)
        return breaker.outcomes

    def state(self, name: str = SCORER) -> State:
        return self.pipeline.breakers[name].state

    def calls(self, name: str) -> int:
        return [each for each, _ in self.begun].count(name)
