"""The gRPC edge of every call: admission and budget before it, its status, its record in telemetry afterwards.

The one place that decides on statuses. No text of an exception leaves the process, and no value of a request comes back.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import grpc

from core.types import Reason, Tier
from server.edge.checks import InvalidRequestError
from server.overload.shedding import Criticality
from server.rungs.budget import Budget, slack_s
from server.rungs.deadline import Deadline
from server.rungs.request_record import RequestRecord
from server.telemetry.rate_limited_log import RateLimitedLog
from server.telemetry.recorder import Call

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from core.types import Recommendation
    from server.overload.admission import Admission, Permit
    from server.rungs.versions import Versions
    from server.settings import Settings

CRITICALITY, EXERCISE, TIER = "terrace-criticality", "terrace-exercise", "terrace-tier"
_TRACE = "traceparent"
LEARNT_FROM = "Recommend"
"""The method whose answers show admission what one costs."""
_LOWER = {
    "Recommend": (Tier.POPULARITY, Tier.CF, Tier.PRECOMPUTED),
    "RankItems": (Tier.POPULARITY, Tier.CF),
    "SimilarItems": (Tier.POPULARITY,),
}
"""Rungs that a share of the calls of a method is answered from on purpose."""
_FORCED = {tier.name: tier for tier in Tier}
_NEVER_AGAIN = (("grpc-retry-pushback-ms", "-1"),)

_log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[bytes, bytes]


class RefusedError(Exception):
    """A call that is not answered; the message is for the caller."""

    def __init__(self, code: grpc.StatusCode, text: str, trailing: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(text)
        self.code, self.trailing = code, trailing


class CallOptions(NamedTuple):
    """What the metadata of a call ask for."""

    criticality: Criticality = Criticality.USER
    exercise: bool = True
    tier: Tier = Tier.DEEP
    trace: str = ""


@dataclass(frozen=True, slots=True)
class EncodedAnswer:
    """The answer of a method, and its message in bytes."""

    answer: Recommendation
    message: bytes


class _Kind(NamedTuple):
    """What the calls of a method have in common.

    Attributes:
        ceiling: the highest rung that they may reach.
    """

    versions: Versions
    method: str
    ceiling: Tier

    def exercised_on(self, cap: Tier, turn: int) -> Tier | None:
        """The rung for this turn, unless the cap is lower; None after the last turn, and for lists before there are any."""
        live, rungs = self.versions.live, _LOWER[self.method]
        rank = live.ladder.index
        if turn >= len(rungs) or rank(rungs[turn]) > rank(cap):
            return None
        return None if rungs[turn] is Tier.PRECOMPUTED and not live.lists.met else rungs[turn]


_NOTHING = CallOptions()


class CallGuard:
    """Admits calls, gives each its budget, turns outcomes into statuses; belongs to one event loop.

    Attributes:
        arrived: calls so far, whatever became of them.
    """

    def __init__(
        self,
        settings: Settings,
        admission: Admission,
        record: Callable[[Call], None],
        rng: Callable[[], float] = random.random,
    ) -> None:
        """Answer UNAVAILABLE until ``versions`` is set.

        Args:
            settings: budgets and the share of calls that exercise lower rungs.
            admission: decides how high a call may climb.
            record: called with every call after its answer.
            rng: uniform in [0, 1).
        """
        self.versions: Versions | None = None
        self.arrived = 0
        self._settings = settings
        self._admission = admission
        self._record = record
        self._rng = rng
        self._budget = Budget.of(settings)
        self._limited_log = RateLimitedLog(_log)

    def guard(
        self,
        name: str,
        ceiling: Tier,
        method: Callable[[Versions, bytes, RequestRecord, str], Awaitable[EncodedAnswer]],
    ) -> Callable[[bytes, Context], Awaitable[bytes]]:
        """A method as gRPC calls it.

        Args:
            name: of the method.
            ceiling: the highest rung that it may reach.
            method: from a request's bytes to its answer; gets the bundles, the request's record and its recommendation id.
        """

        async def call(raw: bytes, context: Context) -> bytes:
            # Counted before anything can refuse it: a call that expired in the queue is part of the queue.
            self.arrived += 1
            started_ns, started_s = time.time_ns(), time.perf_counter()
            recommendation_id = uuid.uuid4().hex
            asked, permit, record, answered = _NOTHING, None, None, None
            deadline = self._deadline(context)
            left_s = deadline.left_s()
            refused: RefusedError | None = None
            status = grpc.StatusCode.CANCELLED
            try:
                asked = read_metadata(context.invocation_metadata())
                versions = self._ready()
                permit = self._admit(asked.criticality, left_s, min(ceiling, asked.tier))
                record = self._new_record(asked, permit, deadline, _Kind(versions, name, ceiling))
                answered = await method(versions, raw, record, recommendation_id)
                status = grpc.StatusCode.OK
            except RefusedError as refusal:
                refused = refusal
            except InvalidRequestError as refusal:
                refused = RefusedError(grpc.StatusCode.INVALID_ARGUMENT, str(refusal))
            except Exception as error:  # noqa: BLE001 - its text must not reach the caller
                event = f"{name} failed with {type(error).__name__}"
                self._limited_log.exception(event, f"recommendation_id {recommendation_id}")
                text = f"internal error; recommendation_id {recommendation_id}"
                refused = RefusedError(grpc.StatusCode.INTERNAL, text)
            finally:
                answer = answered.answer if answered else None
                if permit is not None:
                    self._give_back(permit, answer, learn=name == LEARNT_FROM)
                finished = Call(
                    method=name,
                    criticality=asked.criticality,
                    status=(refused.code if refused else status).name,
                    started_ns=started_ns,
                    duration_s=time.perf_counter() - started_s,
                    recommendation_id=recommendation_id,
                    deadline_ms=left_s * 1e3,
                    answer=answer,
                    parent=asked.trace,
                    bundle_version=record.version if record else "",
                )
                asyncio.get_running_loop().call_soon(self._record, finished)  # once the answer is on its way
            if answered is None:
                assert refused is not None  # noqa: S101 - for the type checker: no answer, no cancellation, so refused
                await context.abort(refused.code, str(refused), refused.trailing)
            return answered.message

        return call

    def _ready(self) -> Versions:
        if self.versions is None:
            raise RefusedError(grpc.StatusCode.UNAVAILABLE, "not serving; try another server")
        return self.versions

    def _deadline(self, context: Context) -> Deadline:
        left_s = context.time_remaining()
        longest_s = self._settings.max_request_ms / 1000
        return Deadline.after(min(self._settings.default_deadline_ms / 1000 if left_s is None else left_s, longest_s))

    def _admit(self, criticality: Criticality, left_s: float, ceiling: Tier) -> Permit:
        if left_s <= 0:
            raise RefusedError(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline had passed on arrival")
        permit = self._admission.admit(criticality, self._budget.above_reserve_s(left_s), ceiling)
        if permit is None:
            text = f"overloaded: {criticality} calls are shed for now, do not retry"
            raise RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, text, _NEVER_AGAIN)
        return permit

    def _give_back(self, permit: Permit, answer: Recommendation | None, *, learn: bool) -> None:
        if answer is None or not learn:
            self._admission.give_back(permit, None)
            return
        late = answer.skipped.get(Tier.DEEP) is Reason.LATE
        took_ms = answer.stage_ms
        store_s = took_ms.get("store", 0.0) / 1000
        thread_s = (took_ms.get("retrieve", 0.0) + took_ms.get("score", 0.0)) / 1000
        self._admission.give_back(permit, answer.tier, waited_s=store_s, thread_s=thread_s, overran=late)

    def _new_record(self, asked: CallOptions, permit: Permit, deadline: Deadline, kind: _Kind) -> RequestRecord:
        """How high this call may climb, and why no higher."""
        cap, why = permit.cap, permit.why
        share, highest = self._settings.exercise_share, min(kind.ceiling, asked.tier)
        if cap is Tier.CF and highest > Tier.CF:  # no room on the deep rung; a list needs as little as CF
            cap = Tier.PRECOMPUTED
        if cap is highest:
            why = Reason.FORCED
            if share and asked.exercise and asked.criticality is Criticality.USER:
                turn = self._rng() / share
                lower = kind.exercised_on(cap, int(turn))
                if lower is not None:
                    cap, why = lower, Reason.EXERCISED
        slack = slack_s(self._admission.delay_s)
        return RequestRecord(deadline, kind.ceiling, cap, why, slack_s=slack, alone=permit.alone)


def read_metadata(metadata: Iterable[tuple[str, str | bytes]] | None) -> CallOptions:
    """What the caller asks for beside the request.

    Raises:
        InvalidRequestError: a key of ours has a value that it cannot have.
    """
    found = {key: value for key, value in metadata or () if key in _KEYS}
    if not found:
        return _NOTHING
    criticality, exercise = found.get(CRITICALITY, Criticality.USER), found.get(EXERCISE, "on")
    tier, trace = found.get(TIER, Tier.DEEP.name), found.get(_TRACE, "")
    if criticality not in _CRITICALITIES:
        raise InvalidRequestError(f"{CRITICALITY}: one of {', '.join(Criticality)}")
    if exercise not in {"on", "off"}:
        raise InvalidRequestError(f"{EXERCISE}: on or off")
    if tier not in _FORCED:
        raise InvalidRequestError(f"{TIER}: one of {', '.join(_FORCED)}")
    return CallOptions(
        Criticality(criticality), exercise == "on", _FORCED[str(tier)], trace if isinstance(trace, str) else ""
    )


_KEYS = frozenset((CRITICALITY, EXERCISE, TIER, _TRACE))
_CRITICALITIES = frozenset(Criticality)
