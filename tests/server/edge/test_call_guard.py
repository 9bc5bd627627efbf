"""The edge over a real port: what callers may say beside the request, what they are refused with, how high they climb."""

from __future__ import annotations

import asyncio
import re
import threading
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import numpy as np
import pytest

from core.precomputed import PrecomputedList, RowSpace
from core.types import NO_ROWS, NO_SCORES, Reason, Recommendation, Tier
from server.edge.call_guard import CallGuard, CallOptions, EncodedAnswer, read_metadata
from server.edge.checks import InvalidRequestError
from server.edge.servicer import SERVICE
from server.overload.admission import LONGEST_QUEUE_S, Admission
from server.overload.shedding import Criticality
from server.settings import Settings
from server.store.user_store import MemoryUserStore
from terrace.v1 import recommendation_pb2 as pb
from tests.server import toy
from tests.server.running import Running, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from core.types import StopSignal, UserState
    from server.overload.admission import Permit
    from server.telemetry.recorder import Call

EVENT = pb.Event(item_id="item-11", event_type="view")
METHODS: dict[str, tuple[Any, Any]] = {
    "Recommend": (pb.RecommendRequest(user_id="ada", limit=8, recent_events=[EVENT]), pb.RecommendResponse),
    "SimilarItems": (pb.SimilarItemsRequest(item_id="item-11", limit=8), pb.SimilarItemsResponse),
    "RankItems": (
        pb.RankItemsRequest(user_id="ada", item_ids=["item-12", "item-31"], recent_events=[EVENT]),
        pb.RankItemsResponse,
    ),
}
AMPLE_MS = 20_000.0
NO_ROOM_S = LONGEST_QUEUE_S
"""A wait that is too long for the deep rung and not for CF, however much time a call has."""
POPULARITY, CF, PRECOMPUTED, DEEP = Tier
NOT_CONFIGURED, NOT_ASKED, OVERLOADED = Reason.NOT_CONFIGURED, Reason.NOT_ASKED, Reason.OVERLOADED
FORCED, EXERCISED = Reason.FORCED, Reason.EXERCISED
ANSWER = Recommendation(
    rows=NO_ROWS,
    scores=NO_SCORES,
    proposed=np.empty(0, np.uint32),
    sources=(),
    explained_by=NO_ROWS,
    tier=CF,
    skipped={},
    dropped={},
    bundle_version="v",
    scored_rows=0,
    pool_rows=0,
    stage_ms={"store": 10.0, "propose": 1.0, "retrieve": 2.0, "score": 3.0},
)
_TIERS = {pb.Tier.Value(f"TIER_{tier.name}"): tier for tier in Tier}
_REASONS = {pb.Reason.Value(f"REASON_{reason.name}"): reason for reason in Reason}

Pair = tuple[str, str | bytes]


class Got(NamedTuple):
    """What a caller learns of how an answer came to be."""

    tier: Tier
    skipped: dict[Tier, Reason]


def below(tier: Tier, why: Reason) -> Got:
    """An answer of a call that may reach the deep rung, kept below it for one reason."""
    return Got(tier, {rung: NOT_CONFIGURED if rung is PRECOMPUTED else why for rung in Tier if rung > tier})


class World:
    """A server on a port of its own and a channel to it."""

    def __init__(self, server: Running, channel: grpc.aio.Channel) -> None:
        self.server = server
        self._channel = channel

    def call(self, *metadata: Pair, method: str = "Recommend", timeout_s: float = 20.0) -> Any:
        data = METHODS[method][0].SerializeToString()
        return self._channel.unary_unary(f"/{SERVICE}/{method}")(data, timeout=timeout_s, metadata=metadata)

    async def ask(self, *metadata: Pair, method: str = "Recommend") -> Got:
        info = METHODS[method][1].FromString(await self.call(*metadata, method=method)).info
        return Got(_TIERS[info.tier], {_TIERS[each.tier]: _REASONS[each.reason] for each in info.skipped})

    async def refused(self, *metadata: Pair, method: str = "Recommend") -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await self.call(*metadata, method=method)
        return refused.value

    async def recorded(self) -> Call:
        """The first call as telemetry is told of it, which is after its answer."""
        async with asyncio.timeout(20):
            while not self.server.calls:  # noqa: ASYNC110 - telemetry wakes nobody
                await asyncio.sleep(0)
        return self.server.calls[0]

    def press(self) -> None:
        """As if every call of late had found no room."""
        self.server.admission._pressure._value = 1e9


@asynccontextmanager
async def served(draws: Iterable[float] = (), exercise_share: float = 0.0, **parts: Any) -> AsyncIterator[World]:
    """Serve with dice that show ``draws``, and must not be rolled more often."""
    settings = Settings(default_deadline_ms=AMPLE_MS, max_request_ms=AMPLE_MS, exercise_share=exercise_share)
    shows = iter(draws)
    async with (
        running(settings, rng=lambda: next(shows), **parts) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield World(server, channel)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with served() as world:
        yield world


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("terrace-criticality", "hunter2"),
        ("terrace-criticality", "USER"),
        ("terrace-criticality", ""),
        ("terrace-exercise", "no hunter2"),
        ("terrace-exercise", "OFF"),
        ("terrace-tier", "deep hunter2"),
        ("terrace-tier", "4"),
        ("terrace-tier", "TIER_DEEP"),
    ],
)
async def test_a_value_that_a_key_cannot_have_is_refused_by_key_and_not_repeated(
    world: World, key: str, value: str
) -> None:
    refused = await world.refused((key, value))
    told = refused.details() or ""

    assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert re.fullmatch(f"{key}: (one of [A-Za-z, ]+|on or off)", told)
    assert not value or value not in told.replace("DEEP", "")
    assert (await world.recorded()).status == "INVALID_ARGUMENT"
    assert world.server.admission.in_flight == 0


@pytest.mark.parametrize("kind", Criticality)
async def test_who_waits_is_told_to_telemetry(world: World, kind: Criticality) -> None:
    assert (await world.ask(("terrace-criticality", kind.value))).tier is DEEP
    assert (await world.recorded()).criticality == kind


async def test_a_caller_who_says_nothing_is_a_user(world: World) -> None:
    await world.ask()
    call = await world.recorded()

    assert (call.criticality, call.status, call.method, call.parent) == ("user", "OK", "Recommend", "")
    assert 0 < call.deadline_ms <= AMPLE_MS


async def test_the_callers_trace_is_handed_on(world: World) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await world.ask(("traceparent", trace))

    assert (await world.recorded()).parent == trace


async def test_keys_of_others_are_none_of_ours(world: World) -> None:
    got = await world.ask(
        ("terrace-criticality-bin", b"\xff\x00"), ("terrace-tier-bin", b"CF"), ("x-anything", "hunter2"), ("tier", "CF")
    )

    assert got == (DEEP, {})


async def test_of_a_key_that_is_given_twice_the_last_value_counts(world: World) -> None:
    assert await world.ask(("terrace-tier", "POPULARITY"), ("terrace-tier", "CF")) == below(CF, FORCED)
    assert (await world.refused(("terrace-tier", "CF"), ("terrace-tier", "none"))).code().name == "INVALID_ARGUMENT"


def test_metadata_may_be_missing_and_may_be_bytes() -> None:
    assert read_metadata(None) == read_metadata(()) == CallOptions()
    assert read_metadata([("traceparent", b"\xff")]) == CallOptions()
    for key in ("terrace-criticality", "terrace-exercise", "terrace-tier"):
        with pytest.raises(InvalidRequestError, match=key):
            read_metadata([(key, b"user")])


@pytest.mark.parametrize(
    ("method", "tier", "got"),
    [
        ("Recommend", "POPULARITY", below(POPULARITY, FORCED)),
        ("Recommend", "CF", below(CF, FORCED)),
        ("Recommend", "PRECOMPUTED", below(CF, FORCED)),
        ("Recommend", "DEEP", Got(DEEP, {})),
        ("RankItems", "CF", below(CF, FORCED)),
        ("SimilarItems", "POPULARITY", Got(POPULARITY, {CF: FORCED, PRECOMPUTED: NOT_ASKED, DEEP: NOT_ASKED})),
        ("SimilarItems", "CF", Got(CF, {PRECOMPUTED: NOT_ASKED, DEEP: NOT_ASKED})),
        ("SimilarItems", "DEEP", Got(CF, {PRECOMPUTED: NOT_ASKED, DEEP: NOT_ASKED})),
    ],
)
async def test_a_caller_may_name_the_highest_tier(world: World, method: str, tier: str, got: Got) -> None:
    assert await world.ask(("terrace-tier", tier), method=method) == got


async def test_a_share_of_users_calls_is_answered_from_each_lower_rung() -> None:
    """With a share of a tenth: dice below .1 mean popularity, from .1 to .2 CF."""
    async with served([0.0, 0.099, 0.1, 0.199, 0.2, 0.999], 0.1) as world:
        got = [await world.ask() for _ in range(6)]

    assert got == [below(POPULARITY, EXERCISED)] * 2 + [below(CF, EXERCISED)] * 2 + [Got(DEEP, {})] * 2


def a_list(*rows: int) -> PrecomputedList:
    return PrecomputedList(np.array(rows, np.int32), np.linspace(1, 0, len(rows), dtype=np.float32), 900.0)


@asynccontextmanager
async def with_lists(draws: list[float]) -> AsyncIterator[World]:
    """A server whose store holds a list for every caller."""
    store = MemoryUserStore(("purchase",), RowSpace("toy", toy.ITEMS))
    await store.write_lists({"ada": a_list(*range(1, 60, 5), *range(2, 60, 5))})
    async with served(draws, 0.1, store=store) as world:
        yield world


async def test_where_users_have_lists_that_rung_is_exercised_too_and_for_recommendations_only() -> None:
    """With a share of a tenth: dice from .2 to .3 mean PRECOMPUTED, once a user had a list."""
    async with with_lists([0.2, 0.2, 0.299, 0.2, 0.31, 0.1]) as world:
        first, *got = [await world.ask(method=method) for method in ("Recommend",) * 3 + ("RankItems",)]
        above, cf = await world.ask(), await world.ask()

    assert first == (DEEP, {})
    assert got == [Got(PRECOMPUTED, {DEEP: EXERCISED})] * 2 + [Got(DEEP, {})]
    assert above == (DEEP, {})
    assert cf == (CF, {PRECOMPUTED: EXERCISED, DEEP: EXERCISED})


async def test_a_call_that_finds_no_room_on_the_deep_rung_is_answered_from_its_list() -> None:
    async with with_lists([0.9]) as world:
        world.server.admission._backlog_s = NO_ROOM_S
        lowered = await world.ask()
        forced = await world.ask(("terrace-tier", "CF"))
        world.server.admission.delay_s = 1e3
        late = await world.ask()

    assert lowered == (PRECOMPUTED, {DEEP: OVERLOADED})
    assert forced == (CF, {PRECOMPUTED: FORCED, DEEP: FORCED})
    assert late == (POPULARITY, {CF: OVERLOADED, PRECOMPUTED: OVERLOADED, DEEP: OVERLOADED})


async def test_a_caller_may_ask_for_the_list() -> None:
    async with with_lists([0.9, 0.9]) as world:
        listed = await world.ask(("terrace-tier", "PRECOMPUTED"))
        world.server.admission._backlog_s = NO_ROOM_S
        busy = await world.ask(("terrace-tier", "PRECOMPUTED"))

    assert listed == busy == (PRECOMPUTED, {DEEP: FORCED})


async def test_similar_items_are_exercised_on_popularity_only() -> None:
    async with served([0.099, 0.1], 0.1) as world:
        got = [await world.ask(method="SimilarItems") for _ in range(2)]

    assert got[0] == (POPULARITY, {CF: EXERCISED, PRECOMPUTED: NOT_ASKED, DEEP: NOT_ASKED})
    assert got[1].tier is CF


@pytest.mark.parametrize(
    "metadata",
    [("terrace-exercise", "off"), ("terrace-criticality", "prefetch"), ("terrace-criticality", "batch")],
)
async def test_who_does_not_want_it_and_who_is_no_user_is_not_exercised(metadata: Pair) -> None:
    async with served([], 0.25) as world:
        assert await world.ask(metadata) == (DEEP, {})


async def test_exercise_may_be_said_to_be_on() -> None:
    async with served([0.0], 0.1) as world:
        assert await world.ask(("terrace-exercise", "on")) == below(POPULARITY, EXERCISED)


async def test_nothing_is_exercised_while_overloaded() -> None:
    async with served([], 0.25) as world:
        world.server.admission._backlog_s = NO_ROOM_S
        assert await world.ask() == below(CF, OVERLOADED)


async def test_without_a_share_no_dice_are_rolled() -> None:
    async with served([]) as world:
        assert (await world.ask()).tier is DEEP


@pytest.mark.parametrize(
    ("draw", "tier", "got"),
    [
        (0.15, "POPULARITY", below(POPULARITY, FORCED)),
        (0.15, "CF", below(CF, EXERCISED)),
        (0.05, "CF", below(POPULARITY, EXERCISED)),
    ],
)
async def test_of_two_caps_the_lower_one_gives_the_reason(draw: float, tier: str, got: Got) -> None:
    async with served([draw], 0.1) as world:
        assert await world.ask(("terrace-tier", tier)) == got


async def test_overload_keeps_calls_from_the_deep_rung_and_a_late_event_loop_from_cf(world: World) -> None:
    world.server.admission._backlog_s = NO_ROOM_S
    assert await world.ask() == below(CF, OVERLOADED)
    assert await world.ask(method="RankItems") == below(CF, OVERLOADED)
    assert (await world.ask(method="SimilarItems")).tier is CF
    assert await world.ask(("terrace-tier", "POPULARITY")) == below(POPULARITY, FORCED)

    world.server.admission.delay_s = 1e3
    assert await world.ask() == below(POPULARITY, OVERLOADED)
    assert await world.ask(("terrace-tier", "CF")) == below(POPULARITY, OVERLOADED)
    assert await world.ask(method="SimilarItems") == (
        POPULARITY,
        {CF: OVERLOADED, PRECOMPUTED: NOT_ASKED, DEEP: NOT_ASKED},
    )


@pytest.mark.parametrize("kind", ["batch", "prefetch"])
@pytest.mark.parametrize("method", METHODS)
async def test_under_pressure_what_can_wait_is_told_not_to_come_back(world: World, kind: str, method: str) -> None:
    world.press()
    refused = await world.refused(("terrace-criticality", kind), method=method)

    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.details() == f"overloaded: {kind} calls are shed for now, do not retry"
    assert ("grpc-retry-pushback-ms", "-1") in tuple(refused.trailing_metadata() or ())
    call = await world.recorded()
    assert (call.status, call.criticality, call.answer) == ("RESOURCE_EXHAUSTED", kind, None)
    assert world.server.admission.shed[Criticality(kind)] == 1


async def test_under_pressure_users_are_answered(world: World) -> None:
    world.press()

    assert (await world.ask()).tier is DEEP


class BrokenStore(MemoryUserStore):
    """Shows that it was read."""

    async def read(self, user_id: str, timeout_s: float = 1.0, report: object = None) -> UserState:  # noqa: ARG002
        raise RuntimeError("secret: hunter2")


async def test_an_overloaded_server_does_not_read_the_store() -> None:
    async with served(store=BrokenStore(())) as world:
        world.server.admission.delay_s = 1e3
        assert await world.ask() == below(POPULARITY, OVERLOADED)
        world.server.admission.delay_s = 0.0
        refused = await world.refused()
    assert refused.code() is grpc.StatusCode.INTERNAL  # it was read


async def test_an_error_of_the_program_is_told_by_its_id_only_and_holds_no_permit() -> None:
    async with served(store=BrokenStore(())) as world:
        refused = await world.refused()
        call = await world.recorded()

        assert refused.code() is grpc.StatusCode.INTERNAL
        assert refused.details() == f"internal error; recommendation_id {call.recommendation_id}"
        assert "hunter2" not in str(refused.trailing_metadata())
        assert (call.status, call.answer) == ("INTERNAL", None)
        assert world.server.admission.in_flight == 0


async def test_a_flood_of_errors_is_a_log_line_with_an_id_and_not_a_flood_of_lines(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with served(store=BrokenStore(())) as world:
        for _ in range(30):
            assert (await world.refused()).code() is grpc.StatusCode.INTERNAL
        first = (await world.recorded()).recommendation_id

    assert [line for line in caplog.messages if "failed" in line] == [
        f"Recommend failed with RuntimeError; recommendation_id {first}"
    ]
    assert "hunter2" in caplog.text  # the traceback is there


async def test_a_wall_clock_that_is_set_back_changes_no_duration(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    hour_ns = 3600 * 10**9
    shows = iter(range(10**18, 0, -hour_ns))
    monkeypatch.setattr("time.time_ns", lambda: next(shows))
    await world.ask()
    call = await world.recorded()

    assert call.started_ns == 10**18
    assert 0 < call.duration_s < AMPLE_MS


async def test_a_caller_that_goes_away_gives_its_permit_back_and_is_recorded_as_such() -> None:
    started = threading.Event()

    def hang(stop: StopSignal | None) -> None:
        started.set()
        toy.hang_until_stopped(stop)

    settings = Settings(default_deadline_ms=AMPLE_MS, max_request_ms=AMPLE_MS, score_timeout_ms=AMPLE_MS)
    async with (
        running(settings, toy.bundle(scorer=toy.ToyScorer(hang))) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        world = World(server, channel)
        call = asyncio.ensure_future(world.call())
        await asyncio.to_thread(started.wait, 20)
        assert server.admission.in_flight == 1
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        told = await world.recorded()

        assert (told.status, told.answer) == ("CANCELLED", None)
        assert server.admission.in_flight == 0
        assert {breaker.opened for breaker in server.pipeline.breakers.values()} == {0}


class AbortedError(Exception):
    """As gRPC's own, which has no name."""


class Context:
    """The part of gRPC's context that the edge uses, for what no real caller can time."""

    def __init__(self, left_s: float | None, *metadata: Pair) -> None:
        self._left_s, self._metadata = left_s, metadata
        self.aborted: tuple[Any, ...] = ()

    def time_remaining(self) -> float | None:
        return self._left_s

    def invocation_metadata(self) -> tuple[Pair, ...]:
        return self._metadata

    async def abort(self, *how: Any) -> None:
        self.aborted = how
        raise AbortedError


def edge(calls: list[Call]) -> CallGuard:
    made = CallGuard(Settings(exercise_share=0.0), Admission(), calls.append)
    made.versions = object()  # type: ignore[assignment]  # the methods below ask it nothing
    return made


@pytest.mark.parametrize("left_s", [0.0, -0.001, -1e9])
async def test_a_call_whose_deadline_had_passed_on_arrival_is_not_begun(left_s: float) -> None:
    calls: list[Call] = []
    begun: list[bytes] = []

    async def method(_pipeline: object, raw: bytes, *_: object) -> EncodedAnswer:
        begun.append(raw)
        raise AssertionError

    context = Context(left_s, ("terrace-criticality", "batch"))
    guarded_by = edge(calls)
    with pytest.raises(AbortedError):
        await guarded_by.guard("Recommend", DEEP, method)(b"", context)  # type: ignore[arg-type]
    await asyncio.sleep(0)

    assert guarded_by.arrived == 1  # one that expired in the queue shows that there is one
    assert context.aborted[:2] == (grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline had passed on arrival")
    assert [(call.status, call.criticality, call.answer) for call in calls] == [("DEADLINE_EXCEEDED", "batch", None)]
    assert begun == []


@pytest.mark.parametrize(("left_s", "above_the_floor_s"), [(0.3, 0.22), (None, 0.02), (9.0, 0.42)])
async def test_admission_hears_of_the_budget_above_the_floor(left_s: float | None, above_the_floor_s: float) -> None:
    class Admits(Admission):
        def admit(self, criticality: Criticality, left_s: float, ceiling: Tier) -> Permit | None:
            heard.append((criticality, left_s, ceiling))
            return super().admit(criticality, left_s, ceiling)

    async def method(*_: object) -> EncodedAnswer:
        raise InvalidRequestError("enough")

    heard: list[tuple[Criticality, float, Tier]] = []
    settings = Settings(reserve_ms=80, default_deadline_ms=100, max_request_ms=500)
    made = CallGuard(settings, Admits(), [].append)
    made.versions = object()  # type: ignore[assignment]  # not asked
    with pytest.raises(AbortedError):
        await made.guard("SimilarItems", CF, method)(b"", Context(left_s))  # type: ignore[arg-type]

    assert heard == [(Criticality.USER, pytest.approx(above_the_floor_s, abs=0.03), CF)]


@pytest.mark.parametrize(("tier", "held"), [("POPULARITY", 0), ("CF", 0), ("DEEP", 1)])
async def test_a_call_that_asks_for_a_lower_tier_takes_no_room_on_the_deep_rung(tier: str, held: int) -> None:
    async def method(*_: object) -> EncodedAnswer:
        in_flight.append(admission.in_flight)
        raise InvalidRequestError("enough")

    in_flight: list[int] = []
    admission = Admission()
    made = CallGuard(Settings(exercise_share=0.0), admission, [].append)
    made.versions = object()  # type: ignore[assignment]  # not asked
    with pytest.raises(AbortedError):
        await made.guard("Recommend", DEEP, method)(b"", Context(0.3, ("terrace-tier", tier)))  # type: ignore[arg-type]

    assert in_flight == [held]


@pytest.mark.parametrize(("name", "learns"), [("Recommend", True), ("RankItems", False)])
async def test_what_answers_cost_is_learnt_from_recommendations_alone(name: str, *, learns: bool) -> None:
    async def method(*_: object) -> EncodedAnswer:
        return EncodedAnswer(replace(ANSWER, tier=DEEP, stage_ms={"retrieve": 0.1, "score": 0.1}), b"")

    admission = Admission()
    before = admission.thread_s
    made = CallGuard(Settings(exercise_share=0.0), admission, [].append)
    made.versions = object()  # type: ignore[assignment]  # not asked
    await made.guard(name, DEEP, method)(b"", Context(0.3))  # type: ignore[arg-type]

    assert (admission.thread_s < before) is learns


async def test_a_cancellation_goes_on_to_whoever_cancelled() -> None:
    calls: list[Call] = []
    begun = asyncio.Event()

    async def method(*_: object) -> EncodedAnswer:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    served_by = edge(calls)
    task = asyncio.ensure_future(served_by.guard("Recommend", DEEP, method)(b"", Context(5.0)))  # type: ignore[arg-type]
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)

    assert [call.status for call in calls] == ["CANCELLED"]
    assert served_by._admission.in_flight == 0


@pytest.mark.parametrize(("why", "overran"), [(Reason.LATE, True), (Reason.NO_TIME, False)])
async def test_admission_is_told_what_an_answer_took_of_the_store_and_of_the_thread_and_whether_it_was_late(
    why: Reason, overran: bool
) -> None:
    class Remembers(Admission):
        def give_back(self, permit: Permit, reached: Tier | None, **how: Any) -> None:
            given_back.append((reached, how))
            super().give_back(permit, reached, **how)

    async def method(*_: object) -> EncodedAnswer:
        return EncodedAnswer(replace(ANSWER, skipped={DEEP: why}), b"")

    given_back: list[tuple[Tier | None, dict[str, Any]]] = []
    made = CallGuard(Settings(exercise_share=0.0), Remembers(), [].append)
    made.versions = object()  # type: ignore[assignment]  # not asked
    await made.guard("Recommend", DEEP, method)(b"", Context(0.1))  # type: ignore[arg-type]

    times = {"waited_s": pytest.approx(0.01), "thread_s": pytest.approx(0.005)}
    assert given_back == [(CF, times | {"overran": overran})]
