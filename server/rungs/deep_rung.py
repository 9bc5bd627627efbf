"""The deep rung: user tower, slow generators, and the model over as many rows as fit, in one job on the work pool.

The pool of the rung below is in hand before; the job extends it by what the slow generators find. It does its parts one
after the other while the event loop watches the clock. A generator that overruns its share is abandoned together with
its thread, and another job goes on with the parts that are left. Without the tower or the model there is no answer from
here: when one of them overruns, or the time of the rung is over, the run is stopped, nothing new begins, and the rung
below answers.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from candidate_gen.merge import by_prior, extend, propose
from core.types import Reason, Stopped
from server.overload.breaker import Outcome
from server.rungs.cost_model import CostModel
from server.rungs.deep_parts import AbandonedError, PartError, Parts
from server.rungs.stop_flag import StopFlag
from server.telemetry.rate_limited_log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from core.bundle import Bundle
    from core.types import Candidates, InterruptibleScorer, Pool, Query, Scores
    from server.overload.breaker import Breaker
    from server.rungs.budget import Budget
    from server.rungs.deadline import Deadline
    from server.rungs.request_record import RequestRecord
    from server.rungs.work_pool import Job, WorkPool

SCORER, TOWER = "scorer", "user_tower"
"""Names of the model and of its user tower among the breakers."""
GRACE_S = 0.02
"""How long a thread may take to notice that it was stopped: a few nodes of a graph, which take milliseconds at most."""
_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 0.001, 3600.0
"""Between two looks at the clock: of an event loop's timers none can be in the past, and none infinite."""
_OUT_OF_TIME = (Reason.NO_TIME, Reason.LATE)
_log = logging.getLogger(__name__)


class DeepResult(NamedTuple):
    """What came of a climb: a pool and scores, or the reason why there are none.

    Attributes:
        pool: of all generators.

        scores: [m] of the first m rows of the pool, finite.
    """

    pool: Pool | None = None
    scores: Scores | None = None
    reason: Reason | None = None


class DeepRung:
    """Climbs the deep rung for one bundle; belongs to one event loop.

    Attributes:
        cost: what scoring costs; learnt from every run.
    """

    def __init__(
        self,
        bundle: Bundle,
        scorer: InterruptibleScorer,
        work: WorkPool,
        budget: Budget,
        breakers: Mapping[str, Breaker],
    ) -> None:
        """Keep the parts.

        Args:
            bundle: what to answer from.
            scorer: its model.
            work: where to run.
            budget: how long each part may take.
            breakers: by name of generator, and of ``SCORER`` and ``TOWER``.
        """
        self.cost = CostModel()
        self.limited_log = RateLimitedLog(_log)
        self.bundle, self.scorer, self.work, self.budget, self.breakers = bundle, scorer, work, budget, breakers
        self.slow = {g.name: (g, bundle.limits[g.name]) for g in bundle.generators if not g.inline}
        self.vector_shape = None if bundle.item_vectors is None else bundle.item_vectors.shape[1:]

    async def climb(
        self, query: Query, quick: Sequence[Candidates], pool: Pool, record: RequestRecord, deadline: Deadline
    ) -> DeepResult:
        """The pool of all generators and the model's scores of its first rows, or why there are none.

        Args:
            query: what is asked; its history is not empty.
            quick: what the quick generators found.
            pool: what ``candidate_gen.merge.collect`` made of ``quick``.
            record: learns what was dropped and what each stage took.
            deadline: when the rung must be given up; sooner than the request's.
        """
        climb = _Climb(self, query, quick, pool, deadline)
        result: DeepResult | None = None
        try:
            result = await climb.run()
        finally:
            climb.close(record, result)
        return result


class _Climb:
    """One request on the deep rung: what its job and the event loop share."""

    __slots__ = (
        "_deadline", "_dropped", "_found", "_job", "_loop", "_outcome", "_parts", "_pool", "_query", "_quick", "_result",
        "_rung", "_scoring_s", "_stop", "_timer",
    )  # fmt: skip

    def __init__(
        self, rung: DeepRung, query: Query, quick: Sequence[Candidates], pool: Pool, deadline: Deadline
    ) -> None:
        self._rung, self._query, self._quick, self._pool, self._deadline = rung, query, quick, pool, deadline
        self._parts = Parts(rung.breakers, rung.work, deadline)
        self._found: list[Candidates] = []
        self._dropped: dict[str, Reason] = {}
        self._scoring_s: float | None = None  # when retrieval had ended
        self._outcome: DeepResult | None = None  # set by the thread before its job ends
        self._stop = StopFlag()
        self._job: Job[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._result: asyncio.Future[DeepResult] = self._loop.create_future()

    async def run(self) -> DeepResult:
        """Ask the breakers, start the job, watch the time, wait."""
        for part in (SCORER,) if self._query.user_vector is None else (SCORER, TOWER):
            if not self._parts.add(part):
                return DeepResult(reason=Reason.BREAKER_OPEN)
        for part in self._rung.slow:
            if not self._parts.add(part):
                self._dropped[part] = Reason.BREAKER_OPEN
        self._start()
        return await self._result

    def close(self, record: RequestRecord, result: DeepResult | None) -> None:
        """The request needs this rung no more: stop what runs, end all parts, hand over what was learnt.

        Args:
            record: of the request.
            result: of the climb; None when the caller went away.
        """
        if self._timer is not None:
            self._timer.cancel()
        busy = self._parts.busy()
        if busy is not None and result is not None and self._parts.give_up(busy):
            self._drop(busy.part, Reason.LATE)
        for part in self._parts.left():
            if self._parts.end(part, Outcome.NEUTRAL) and result is not None and result.reason in _OUT_OF_TIME:
                self._drop(part, Reason.NO_TIME)
        if self._job is not None and not self._job.ended:
            self._stop.stop()
            self._rung.work.abandon(self._job, SCORER if busy is None else busy.part, GRACE_S)
        # Both hold this climb. Without the cycle its arrays are freed now, and not when garbage is collected.
        self._job = self._timer = None
        record.dropped |= self._dropped
        scoring_s = self._scoring_s
        if scoring_s is not None:
            record.ended("retrieve", scoring_s)
        record.ended("retrieve" if scoring_s is None else "score")

    def _start(self) -> None:
        """Start a job for the parts that are left."""
        self._job = self._rung.work.start(self._run, self._job_ended)
        if self._job is None:
            self._result.set_result(DeepResult(reason=Reason.NO_TIME))
        else:
            self._watch()

    def _job_ended(self, _: Any) -> None:
        if self._outcome is not None and not self._result.done():
            self._result.set_result(self._outcome)

    def _watch(self) -> None:
        """Give up what overruns; look again when the next thing may."""
        if self._result.done():
            return
        budget, deadline, busy = self._rung.budget, self._deadline, self._parts.busy()
        now_s = deadline.now_s()
        overran = busy if busy is not None and now_s >= busy.ends_s else None
        if now_s >= deadline.end_s or (overran is not None and overran.part not in self._rung.slow):
            self._result.set_result(DeepResult(reason=Reason.LATE if self._parts.begun else Reason.NO_TIME))
        elif overran is not None and self._job is not None and self._parts.give_up(overran):
            self._drop(overran.part, Reason.LATE)
            self._rung.work.abandon(self._job, overran.part)
            self._start()
        else:
            # A part that begins later than now does not overrun before one that would begin now.
            next_s = now_s + budget.part_s(deadline) if busy is None else busy.ends_s
            wait_s = min(next_s, deadline.end_s, now_s + budget.longest_run_s) - now_s
            self._timer = self._loop.call_later(min(max(wait_s, _SHORTEST_WAIT_S), _LONGEST_WAIT_S), self._watch)

    def _drop(self, part: str, reason: Reason) -> None:
        """Note what the answer is made without; of tower and model the reason of the rung says it."""
        if part in self._rung.slow:
            self._dropped[part] = reason

    def _run(self) -> None:
        """The job, on a thread."""
        try:
            self._outcome = self._climb()
        except PartError as error:
            self._outcome = DeepResult(reason=error.reason)
        except AbandonedError:
            pass  # the event loop knows why, and nobody waits for this job
        except Exception:  # noqa: BLE001 - whatever it is, the rung below answers
            self._rung.limited_log.exception("the deep rung failed")
            self._outcome = DeepResult(reason=Reason.FAILED)

    def _climb(self) -> DeepResult:
        """Place the user, search, extend the pool, score: of these what no abandoned job has done before."""
        rung, query, parts, budget, deadline = self._rung, self._query, self._parts, self._rung.budget, self._deadline
        if TOWER in parts:
            parts.do(TOWER, self._place_user, budget.part_s(deadline))
        for name, (generator, limit) in rung.slow.items():
            if name in parts:
                try:
                    found = parts.do(name, partial(propose, generator, query, limit), budget.part_s(deadline))
                except PartError as error:
                    self._drop(name, error.reason)
                else:
                    self._found.append(found)
        self._scoring_s = deadline.now_s()
        if self._scoring_s >= deadline.end_s:
            raise AbandonedError
        whole = extend(self._pool, self._found, query, self._quick, self._left_out)
        pool = by_prior(whole, query, rung.bundle.prior)
        if not len(pool):
            return DeepResult(reason=Reason.NO_CANDIDATES)
        longest_s = budget.run_s(deadline)
        fitting = rung.cost.rows_within(longest_s)
        if fitting < min(query.limit, len(pool)):
            rung.cost.refused()
            return DeepResult(reason=Reason.NO_TIME)
        scored = pool if fitting >= len(pool) else pool.take(slice(fitting))
        return DeepResult(pool, parts.do(SCORER, partial(self._score, scored), longest_s))

    def _place_user(self) -> None:
        """Run the user tower; generators and model find its vector in the query."""
        place = self._query.user_vector
        assert place is not None  # noqa: S101 - for the type checker: without a tower it is no part
        vector, shape = place(self._stop), self._rung.vector_shape
        if (shape is not None and vector.shape != shape) or not np.isfinite(vector).all():
            self._rung.limited_log.error("the user tower gave a vector that is not finite, or of another width")
            raise PartError(Reason.INVALID_SCORES)

    def _score(self, pool: Pool) -> Scores:
        """The model's scores of these rows; the cost model learns what they took."""
        cost, deadline = self._rung.cost, self._deadline
        begun_s = deadline.now_s()
        try:
            scores = self._rung.scorer.score(self._query, pool, self._stop)
        except Stopped:
            cost.observe(len(pool), deadline.now_s() - begun_s, stopped=True)
            raise
        if scores.shape != pool.rows.shape or not np.isfinite(scores).all():
            self._rung.limited_log.error("the model gave scores that are not finite, or not one for each row")
            raise PartError(Reason.INVALID_SCORES)
        cost.observe(len(pool), deadline.now_s() - begun_s)  # not before: one that fails quickly is not quick
        return scores

    def _left_out(self, name: str) -> None:
        self._rung.limited_log.exception(f"generator {name} does not keep to core.types.Candidates")
        self._dropped[name] = Reason.FAILED
