"""The deep rung: slow generators, then the model over as many rows as fit, in one visit to the work pool.

Each slow generator is a job of its own; the one that ends last goes on to merge and score on the same thread, which
saves a hop. A generator that overruns its share is left behind, and scoring goes on without it. When the time of the
rung is over, the event loop answers from below, a run of the model is stopped, and nothing new is begun.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from candidate_gen.merge import merge
from core.types import Reason, Stopped
from server.overload.breaker import Outcome
from server.rungs.cost_model import CostModel
from server.rungs.stop_flag import StopFlag
from server.telemetry.rate_limited_log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from core.bundle import Bundle
    from core.types import CandidateGenerator, Candidates, InterruptibleScorer, Pool, Query, Scores
    from server.overload.breaker import Breaker
    from server.rungs.deadline import Deadline
    from server.rungs.request_record import RequestRecord
    from server.rungs.work_pool import Job, WorkPool
    from server.settings import Settings

SCORER = "scorer"
"""Name of the model among the breakers."""
_GRACE_S = 0.02
"""How long a thread may take to notice that it was stopped before another takes its place."""
_MOST_AWAY = 2
"""Threads that one part may keep at a time, so that there are stand-ins left for the others."""
_FAIR_S = 0.02
"""Parts that are late where the rung had less time have not failed: callers in a hurry must not close them to the others."""
_LEAST_S, _MOST_S = 0.001, 3600.0
_log = logging.getLogger(__name__)


class _Waits:
    """The outcome of a job that leaves the rest to another one."""


_WAITS: Final = _Waits()


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
        settings: Settings,
        breakers: Mapping[str, Breaker],
    ) -> None:
        """Keep the parts.

        Args:
            bundle: what to answer from.
            scorer: its model.
            work: where to run.
            settings: shares of the budget.
            breakers: by name of generator, and of ``SCORER``.
        """
        self.cost = CostModel()
        self.limited_log = RateLimitedLog(_log)
        self.bundle, self.scorer, self.work = bundle, scorer, work
        self.sources = tuple(g.name for g in bundle.generators)
        self.breaker = breakers[SCORER]
        self.slow = tuple((g, bundle.limits[g.name], breakers[g.name]) for g in bundle.generators if not g.inline)
        self.retrieve_share = settings.retrieve_share
        self.longest_s = settings.score_timeout_ms / 1000
        self._left: dict[str, list[Job[Any]]] = {name: [] for name in (*self.sources, SCORER)}

    def leave(self, part: str, job: Job[Any], grace_s: float) -> None:
        """Nobody waits any more for a job that is busy with a generator or the model."""
        if not job.started:
            self.work.give_up(job)
            return
        self._left[part] = [*(each for each in self._left[part] if not each.ended), job]
        if grace_s:
            asyncio.get_running_loop().call_later(grace_s, self.work.give_up, job)
        else:
            self.work.give_up(job)

    def away(self, part: str) -> bool:
        """Whether a generator or the model keeps so many threads already that it must not be given another."""
        return sum(job.skipped and not job.ended for job in self._left[part]) >= _MOST_AWAY

    async def climb(
        self, query: Query, quick: list[Candidates], record: RequestRecord, deadline: Deadline
    ) -> tuple[Pool, Scores] | Reason:
        """The pool of all generators and the model's scores of its first rows, or why there are none.

        Args:
            query: what is asked.
            quick: what the quick generators found.
            record: learns what was dropped and what each stage took.
            deadline: when the rung must be given up; sooner than the request's.
        """
        permit = self.breaker.permit()
        if not permit:
            return Reason.BREAKER_OPEN
        if self.away(SCORER):
            self.breaker.ended(permit, Outcome.FAILURE)
            return Reason.LATE
        attempt = _Attempt(self, query, quick, deadline, permit)
        outcome: tuple[Pool, Scores] | Reason | None = None
        try:
            outcome = await attempt.run()
        finally:
            attempt.close(record, cancelled=outcome is None)
        return outcome


class _Attempt:
    """One request on the deep rung; the event loop and the threads share it under a lock."""

    def __init__(self, rung: DeepRung, query: Query, quick: list[Candidates], deadline: Deadline, permit: int) -> None:
        self._rung, self._query, self._deadline, self._permit = rung, query, deadline, permit
        self._longest_s = rung.longest_s if math.isfinite(deadline.end_s) else math.inf
        self._late = Outcome.FAILURE if deadline.left_s() >= _FAIR_S else Outcome.NEUTRAL
        self._found = list(quick)
        self._dropped: dict[str, Reason] = {}
        self._stop = StopFlag()
        self._lock = threading.Lock()
        self._searching: dict[str, tuple[Breaker, int]] = {}  # generators that have not ended, nor been left behind
        self._begun: dict[str, float] = {}  # when each of them must have ended
        self._scoring_s: float | None = None  # when scoring began
        self._claimed = False  # a job will score, or has
        self._told = False  # the scorer's breaker knows how it went
        self._over = False  # nobody waits any more
        self._jobs: dict[str, Job[Any]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._result: asyncio.Future[tuple[Pool, Scores] | Reason] = asyncio.get_running_loop().create_future()

    async def run(self) -> tuple[Pool, Scores] | Reason:
        """Start the jobs, watch the time, wait."""
        wanted: list[tuple[CandidateGenerator, int]] = []
        for generator, limit, breaker in self._rung.slow:
            permit = breaker.permit()
            if permit and self._rung.away(generator.name):
                breaker.ended(permit, Outcome.FAILURE)
                self._dropped[generator.name] = Reason.LATE
            elif permit:
                self._searching[generator.name] = breaker, permit
                wanted.append((generator, limit))
            else:
                self._dropped[generator.name] = Reason.BREAKER_OPEN
        for generator, limit in wanted:
            self._start(generator.name, partial(self._search, generator, limit))
        if not wanted:
            self._claimed = True
            self._start(SCORER, self._score)
        if not self._jobs:
            return Reason.NO_TIME
        self._watch()
        return await self._result

    def close(self, record: RequestRecord, *, cancelled: bool) -> None:
        """The request needs this rung no more: stop what runs, tell the breakers, hand over what was learnt."""
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            self._over = True
            left, self._searching = self._searching, {}
        for name, (breaker, permit) in left.items():
            overran = name in self._begun and not cancelled
            breaker.ended(permit, self._late if overran else Outcome.NEUTRAL)
            self._dropped[name] = Reason.LATE if overran else Reason.NO_TIME
        overran = self._scoring_s is not None and not cancelled
        self._tell(self._late if overran else Outcome.NEUTRAL)
        for name, job in self._jobs.items():
            if not job.ended and not job.skipped:
                self._stop.stop()
                self._rung.leave(name if name in left else SCORER, job, _GRACE_S)
        record.dropped |= self._dropped
        if self._scoring_s is not None:
            record.ended("retrieve", self._scoring_s)
        record.ended("score" if self._scoring_s is not None else "retrieve")

    def _start(self, name: str, run: Callable[[], tuple[Pool, Scores] | _Waits | Reason]) -> None:
        job = self._rung.work.start(run, self._report)
        if job is not None:
            self._jobs[name] = job
        elif name in self._searching:
            breaker, permit = self._searching.pop(name)
            breaker.ended(permit, Outcome.NEUTRAL)
            self._dropped[name] = Reason.NO_TIME

    def _report(self, outcome: tuple[Pool, Scores] | _Waits | Reason) -> None:
        if not isinstance(outcome, _Waits) and not self._result.done():
            self._result.set_result(outcome)

    def _watch(self) -> None:
        """Give up what overruns; look again when the next thing may."""
        deadline, now_s = self._deadline, self._deadline.now_s()
        with self._lock:
            ends_s = (
                deadline.end_s if self._scoring_s is None else min(deadline.end_s, self._scoring_s + self._longest_s)
            )
            late = [name for name in self._searching if self._begun.get(name, now_s + 1) <= now_s]
            left_behind = [(name, *self._searching.pop(name)) for name in late]
            go_on = not self._searching and not self._claimed  # the last one was left behind, or found no slot
            self._claimed |= go_on
            unknown_s = now_s + deadline.share(self._rung.retrieve_share)
            nearest_s = min((self._begun.get(name, unknown_s) for name in self._searching), default=ends_s)
        if now_s >= ends_s:
            if not self._result.done():
                begun = self._begun or self._scoring_s is not None
                self._result.set_result(Reason.LATE if begun else Reason.NO_TIME)
            return
        for name, breaker, permit in left_behind:
            breaker.ended(permit, self._late)
            self._dropped[name] = Reason.LATE
            self._rung.leave(name, self._jobs[name], 0.0)
        if go_on:
            self._start(SCORER, self._score)
            if SCORER not in self._jobs:
                self._result.set_result(Reason.NO_TIME)
                return
        wait_s = min(ends_s, nearest_s, now_s + self._longest_s) - now_s
        self._timer = asyncio.get_running_loop().call_later(min(max(wait_s, _LEAST_S), _MOST_S), self._watch)

    def _search(self, generator: CandidateGenerator, limit: int) -> tuple[Pool, Scores] | _Waits | Reason:
        """On a thread: what one generator finds, and the rest of the rung if no other one is still searching."""
        name, deadline = generator.name, self._deadline
        with self._lock:
            if self._over or deadline.left_s() <= 0 or name not in self._searching:
                return _WAITS
            begun_s = deadline.now_s()
            self._begun[name] = begun_s + deadline.share(self._rung.retrieve_share)
        found: Candidates | None = None
        why = Reason.LATE
        if not self._rung.away(name):
            try:
                found = generator.generate(self._query, limit)
            except Exception:  # noqa: BLE001 - whatever a plug-in raises, the others answer
                self._rung.limited_log.exception(f"generator {name} failed")
                why = Reason.FAILED
        with self._lock:
            if name not in self._searching:
                return _WAITS  # left behind
            breaker, permit = self._searching.pop(name)
            if found is None:
                self._dropped[name] = why
            else:
                self._found.append(found)
            mine = not self._searching and not self._claimed
            self._claimed |= mine
        breaker.ended(permit, Outcome.FAILURE if found is None else Outcome.SUCCESS, deadline.now_s() - begun_s)
        return self._score() if mine else _WAITS

    def _score(self) -> tuple[Pool, Scores] | _Waits | Reason:
        """On a thread: merge, and score as many rows as fit the time."""
        rung, query, cost, deadline = self._rung, self._query, self._rung.cost, self._deadline
        with self._lock:
            if self._over or deadline.left_s() <= 0:
                return _WAITS  # for the event loop, which knows why
            self._scoring_s = deadline.now_s()
        if rung.away(SCORER):
            self._tell(Outcome.FAILURE)
            return Reason.LATE
        pool = merge(self._found, query, rung.sources, rung.bundle.prior, self._left_out)
        fitting = cost.rows_within(min(deadline.left_s(), self._longest_s))
        if not len(pool) or fitting < query.limit:
            self._tell(Outcome.NEUTRAL)
            if len(pool):
                cost.refused()
            return Reason.NO_TIME if len(pool) else Reason.NO_CANDIDATES
        scores = self._rank(pool if fitting >= len(pool) else pool.take(slice(fitting)))
        return scores if isinstance(scores, Reason) else (pool, scores)

    def _rank(self, part: Pool) -> Scores | Reason:
        """The model's scores of these rows, and what it took, to the cost model and to the breaker."""
        rung, cost, deadline = self._rung, self._rung.cost, self._deadline
        start_s, stopped, outcome = deadline.now_s(), False, Outcome.FAILURE
        try:
            scores = rung.scorer.score(self._query, part, self._stop)
            if scores.shape == part.rows.shape and np.isfinite(scores).all():
                outcome = Outcome.SUCCESS
        except Stopped:
            stopped = True
            return Reason.LATE
        except Exception:  # noqa: BLE001 - whatever it is, the rung below answers
            rung.limited_log.exception("the model failed")
            return Reason.FAILED
        finally:
            took_s = deadline.now_s() - start_s
            if stopped or outcome is Outcome.SUCCESS:  # one that fails quickly is not quick
                cost.observe(len(part), took_s, stopped=stopped)
            self._tell(outcome, took_s)
        if outcome is Outcome.FAILURE:
            rung.limited_log.error("the model gave scores that are not finite, or not one for each row")
            return Reason.INVALID_SCORES
        return scores

    def _left_out(self, name: str) -> None:
        self._rung.limited_log.exception(f"generator {name} does not keep to core.types.Candidates")
        with self._lock:
            if not self._over:
                self._dropped[name] = Reason.FAILED

    def _tell(self, outcome: Outcome, seconds: float = 0.0) -> None:
        """Tell the scorer's breaker once, whoever knows first."""
        with self._lock:
            told, self._told = self._told, True
        if not told:
            self._rung.breaker.ended(self._permit, outcome, seconds)
