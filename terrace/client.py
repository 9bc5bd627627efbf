"""What a calling service imports: typed questions and answers over gRPC, blocking or with asyncio."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

import grpc
import grpc.aio

from terrace.v1 import recommendation_pb2 as pb
from terrace.v1.recommendation_pb2_grpc import RecommendationServiceStub

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Answer", "AsyncClient", "Client", "Event", "Filters", "Item", "Tier"]

DEFAULT_TIMEOUT_MS = 100.0
# One retry, on another server, and only of calls that no server has worked on. No `timeout` in here:
# grpcio lets such calls expire almost two seconds early, so every call carries its own.
_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{"service": "terrace.v1.RecommendationService"}],
            "retryPolicy": {
                "maxAttempts": 2,
                "initialBackoff": "0.01s",
                "maxBackoff": "0.05s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
    "loadBalancingConfig": [{"round_robin": {}}],
}
_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


class Tier(IntEnum):
    """The rung of the ladder that answered; a higher number is a better answer."""

    POPULARITY = pb.TIER_POPULARITY
    CF = pb.TIER_CF
    PRECOMPUTED = pb.TIER_PRECOMPUTED
    DEEP = pb.TIER_DEEP


@dataclass(frozen=True, slots=True)
class Event:
    """Something the user did that the server may not know yet.

    Attributes:
        timestamp_s: seconds since the Unix epoch, UTC; None means now.
    """

    item_id: str
    event_type: str
    timestamp_s: float | None = None
    value: float = 0.0


@dataclass(frozen=True, slots=True)
class Filters:
    """What may be in the list; empty and None ask for nothing. Bounds: ``Filters`` in the proto file."""

    categories: tuple[str, ...] = ()
    exclude_categories: tuple[str, ...] = ()
    min_price: float | None = None
    max_price: float | None = None
    include_unavailable: bool = False
    attributes: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Item:
    """One item of an answer.

    Attributes:
        score: higher is better, comparable within this answer only; None = not scored.

        sources: generators that proposed it.

        explained_by: the item of the user's history that speaks most for it, or empty.
    """

    item_id: str
    score: float | None
    sources: tuple[str, ...]
    explained_by: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Items, best first, and how they came to be.

    Attributes:
        recommendation_id: names this answer; feedback refers to it.

        skipped: for each tier above ``tier`` why it did not answer, such as "no_time".

        dropped_sources: what the answer was made without, and why.

        stage_ms: wall time of each stage on the server, milliseconds.

        unknown_items: of ``rank_items``: how many the catalogue does not have.
    """

    items: tuple[Item, ...]
    recommendation_id: str
    tier: Tier
    skipped: Mapping[Tier, str]
    bundle_version: str
    scored_rows: int
    pool_rows: int
    stage_ms: Mapping[str, float]
    dropped_sources: Mapping[str, str]
    unknown_items: int = 0

    @property
    def item_ids(self) -> tuple[str, ...]:
        """Ids of the items, best first."""
        return tuple(item.item_id for item in self.items)


class RecommendOptions(TypedDict, total=False):
    """What ``recommend`` may be asked besides the user; bounds: ``RecommendRequest`` in the proto file."""

    limit: int
    surface: str
    filters: Filters
    exclude: Sequence[str]
    recent_events: Sequence[Event]
    context: Mapping[str, str]


class SimilarOptions(TypedDict, total=False):
    """What ``similar_items`` may be asked besides the item; bounds: ``SimilarItemsRequest`` in the proto file."""

    limit: int
    surface: str
    filters: Filters
    exclude: Sequence[str]


class RankOptions(TypedDict, total=False):
    """What ``rank_items`` may be asked besides user and items; bounds: ``RankItemsRequest`` in the proto file."""

    surface: str
    recent_events: Sequence[Event]
    context: Mapping[str, str]


class Client:
    """A connection for blocking code; safe to share between threads. Make one and keep it.

    Every call raises ``grpc.RpcError`` when no server answered in time or the request was refused.
    """

    def __init__(self, target: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        """Connect on first use.

        Args:
            target: ``host:port`` or any gRPC name; ``dns:///name:port`` spreads calls over all addresses.
            credentials: for TLS; without, the connection is plain text.
        """
        self._channel = (
            grpc.insecure_channel(target, options=_OPTIONS)
            if credentials is None
            else grpc.secure_channel(target, credentials, options=_OPTIONS)
        )
        self._stub: Any = RecommendationServiceStub(self._channel)  # type: ignore[no-untyped-call]  # generated

    def recommend(
        self, user_id: str, *, timeout_ms: float = DEFAULT_TIMEOUT_MS, **asked: Unpack[RecommendOptions]
    ) -> Answer:
        """Items for a user."""
        request = pb.RecommendRequest(user_id=user_id, **_fields(asked))
        return _answer(self._stub.Recommend(request, timeout=timeout_ms / 1000))

    def similar_items(
        self, item_id: str, *, timeout_ms: float = DEFAULT_TIMEOUT_MS, **asked: Unpack[SimilarOptions]
    ) -> Answer:
        """Items that go with an item, never the item itself."""
        request = pb.SimilarItemsRequest(item_id=item_id, **_fields(asked))
        return _answer(self._stub.SimilarItems(request, timeout=timeout_ms / 1000))

    def rank_items(
        self,
        user_id: str,
        item_ids: Sequence[str],
        *,
        timeout_ms: float = DEFAULT_TIMEOUT_MS,
        **asked: Unpack[RankOptions],
    ) -> Answer:
        """The given items in the user's order, each once."""
        request = pb.RankItemsRequest(user_id=user_id, item_ids=item_ids, **_fields(asked))
        return _answer(self._stub.RankItems(request, timeout=timeout_ms / 1000))

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        """Ready for calls."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.close()


class AsyncClient:
    """A connection for asyncio; belongs to the event loop that it was made in. Otherwise as ``Client``."""

    def __init__(self, target: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        """Connect on first use; see ``Client``."""
        self._channel = (
            grpc.aio.insecure_channel(target, options=_OPTIONS)
            if credentials is None
            else grpc.aio.secure_channel(target, credentials, options=_OPTIONS)
        )
        self._stub: Any = RecommendationServiceStub(self._channel)  # type: ignore[no-untyped-call]  # generated

    async def recommend(
        self, user_id: str, *, timeout_ms: float = DEFAULT_TIMEOUT_MS, **asked: Unpack[RecommendOptions]
    ) -> Answer:
        """Items for a user."""
        request = pb.RecommendRequest(user_id=user_id, **_fields(asked))
        return _answer(await self._stub.Recommend(request, timeout=timeout_ms / 1000))

    async def similar_items(
        self, item_id: str, *, timeout_ms: float = DEFAULT_TIMEOUT_MS, **asked: Unpack[SimilarOptions]
    ) -> Answer:
        """Items that go with an item, never the item itself."""
        request = pb.SimilarItemsRequest(item_id=item_id, **_fields(asked))
        return _answer(await self._stub.SimilarItems(request, timeout=timeout_ms / 1000))

    async def rank_items(
        self,
        user_id: str,
        item_ids: Sequence[str],
        *,
        timeout_ms: float = DEFAULT_TIMEOUT_MS,
        **asked: Unpack[RankOptions],
    ) -> Answer:
        """The given items in the user's order, each once."""
        request = pb.RankItemsRequest(user_id=user_id, item_ids=item_ids, **_fields(asked))
        return _answer(await self._stub.RankItems(request, timeout=timeout_ms / 1000))

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        """Ready for calls."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection."""
        await self.close()


def _fields(asked: RecommendOptions | SimilarOptions | RankOptions) -> dict[str, Any]:
    """The options as fields of a request message."""
    fields: dict[str, Any] = dict(asked)
    if "exclude" in fields:
        fields["exclude_item_ids"] = fields.pop("exclude")
    if "filters" in fields:
        fields["filters"] = _filters(fields["filters"])
    if "recent_events" in fields:
        fields["recent_events"] = [_event(event) for event in fields["recent_events"]]
    return fields


def _event(event: Event) -> pb.Event:
    message = pb.Event(item_id=event.item_id, event_type=event.event_type, value=event.value)
    if event.timestamp_s is not None:
        message.time.FromMicroseconds(round(event.timestamp_s * 1e6))
    return message


def _filters(filters: Filters) -> pb.Filters:
    return pb.Filters(
        categories=filters.categories,
        exclude_categories=filters.exclude_categories,
        min_price=filters.min_price,
        max_price=filters.max_price,
        include_unavailable=filters.include_unavailable,
        attributes={name: pb.AttributeValues(values=values) for name, values in filters.attributes.items()},
    )


def _reason(reason: int) -> str:
    return pb.Reason.Name(reason).removeprefix("REASON_").lower() if reason in pb.Reason.values() else f"{reason}"


def _answer(response: pb.RecommendResponse | pb.SimilarItemsResponse | pb.RankItemsResponse) -> Answer:
    info = response.info
    return Answer(
        items=tuple(
            Item(
                item_id=item.item_id,
                score=item.score if item.HasField("score") else None,
                sources=tuple(item.sources),
                explained_by=item.explained_by,
            )
            for item in response.items
        ),
        recommendation_id=info.recommendation_id,
        tier=Tier(info.tier),
        skipped={Tier(entry.tier): _reason(entry.reason) for entry in info.skipped},
        bundle_version=info.bundle_version,
        scored_rows=info.scored_rows,
        pool_rows=info.pool_rows,
        stage_ms={entry.stage: entry.duration_ms for entry in info.stages},
        dropped_sources={entry.source: _reason(entry.reason) for entry in info.dropped_sources},
        unknown_items=response.unknown_items if isinstance(response, pb.RankItemsResponse) else 0,
    )
