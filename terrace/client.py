"""What a calling service imports: typed questions and answers over gRPC, blocking or with asyncio.

On errors. A call that got no answer raises a ``TerraceError``, which is a ``grpc.RpcError``; its class says why
(``DeadlineExceededError``, ``UnavailableError``, ``OverloadedError``, ``InvalidRequestError``, ``InternalError``), its
message what to do.

On retries. A call that no server has begun to work on (UNAVAILABLE) is tried once more by the client itself, elsewhere
where the target has several addresses. Do not add retries of your own: an ``OverloadedError`` means that the server
sheds load, and a retry makes that worse; a ``DeadlineExceededError`` means that the time is gone. Show what you have
instead. Give every call its ``timeout_ms``, and never a ``timeout`` in a service config: grpcio lets those calls expire
almost two seconds early.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self, Unpack

import grpc
import grpc.aio

from terrace.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidRequestError,
    OverloadedError,
    TerraceError,
    UnavailableError,
    error_of,
)
from terrace.messages import (
    Answer,
    Criticality,
    Event,
    Filters,
    Item,
    Tier,
    answer_of,
    fields_of,
    metadata_of,
    text_of,
    texts_of,
)
from terrace.v1 import recommendation_pb2 as pb
from terrace.v1.recommendation_pb2_grpc import RecommendationServiceStub

if TYPE_CHECKING:
    from collections.abc import Sequence

    from terrace.messages import CallOptions, RankOptions, RecommendOptions, SimilarOptions

__all__ = [
    "Answer",
    "AsyncClient",
    "Client",
    "Criticality",
    "DeadlineExceededError",
    "Event",
    "Filters",
    "InternalError",
    "InvalidRequestError",
    "Item",
    "OverloadedError",
    "TerraceError",
    "Tier",
    "UnavailableError",
]

DEFAULT_TIMEOUT_MS = 100.0
# One retry, on another server, and only of calls that no server has worked on.
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


class Client:
    """A connection for blocking code; safe to share between threads. Make one and keep it.

    Every call raises a ``TerraceError`` when no server answered in time or the request was refused.
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
        self._target = target
        self._stub: Any = RecommendationServiceStub(self._channel)  # type: ignore[no-untyped-call]  # generated

    def recommend(
        self, user_id: str, *, timeout_ms: float = DEFAULT_TIMEOUT_MS, **asked: Unpack[RecommendOptions]
    ) -> Answer:
        """Items for a user."""
        request = pb.RecommendRequest(user_id=text_of("user_id", user_id), **fields_of(asked))
        return self._call(self._stub.Recommend, request, timeout_ms, asked)

    def similar_items(
        self, item_id: str, *, timeout_ms: float = DEFAULT_TIMEOUT_MS, **asked: Unpack[SimilarOptions]
    ) -> Answer:
        """Items that go with an item, never the item itself."""
        request = pb.SimilarItemsRequest(item_id=text_of("item_id", item_id), **fields_of(asked))
        return self._call(self._stub.SimilarItems, request, timeout_ms, asked)

    def rank_items(
        self,
        user_id: str,
        item_ids: Sequence[str],
        *,
        timeout_ms: float = DEFAULT_TIMEOUT_MS,
        **asked: Unpack[RankOptions],
    ) -> Answer:
        """The given items in the user's order, each once."""
        request = pb.RankItemsRequest(
            user_id=text_of("user_id", user_id), item_ids=texts_of("item_ids", item_ids), **fields_of(asked)
        )
        return self._call(self._stub.RankItems, request, timeout_ms, asked)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _call(self, method: Any, request: Any, timeout_ms: float, asked: CallOptions) -> Answer:
        try:
            return answer_of(method(request, timeout=timeout_ms / 1000, metadata=metadata_of(asked)))
        except grpc.RpcError as error:
            raise error_of(error, self._target) from None

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
        self._target = target
        self._stub: Any = RecommendationServiceStub(self._channel)  # type: ignore[no-untyped-call]  # generated

    async def recommend(
        self, user_id: str, *, timeout_ms: float = DEFAULT_TIMEOUT_MS, **asked: Unpack[RecommendOptions]
    ) -> Answer:
        """Items for a user."""
        request = pb.RecommendRequest(user_id=text_of("user_id", user_id), **fields_of(asked))
        return await self._call(self._stub.Recommend, request, timeout_ms, asked)

    async def similar_items(
        self, item_id: str, *, timeout_ms: float = DEFAULT_TIMEOUT_MS, **asked: Unpack[SimilarOptions]
    ) -> Answer:
        """Items that go with an item, never the item itself."""
        request = pb.SimilarItemsRequest(item_id=text_of("item_id", item_id), **fields_of(asked))
        return await self._call(self._stub.SimilarItems, request, timeout_ms, asked)

    async def rank_items(
        self,
        user_id: str,
        item_ids: Sequence[str],
        *,
        timeout_ms: float = DEFAULT_TIMEOUT_MS,
        **asked: Unpack[RankOptions],
    ) -> Answer:
        """The given items in the user's order, each once."""
        request = pb.RankItemsRequest(
            user_id=text_of("user_id", user_id), item_ids=texts_of("item_ids", item_ids), **fields_of(asked)
        )
        return await self._call(self._stub.RankItems, request, timeout_ms, asked)

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def _call(self, method: Any, request: Any, timeout_ms: float, asked: CallOptions) -> Answer:
        try:
            return answer_of(await method(request, timeout=timeout_ms / 1000, metadata=metadata_of(asked)))
        except grpc.RpcError as error:
            raise error_of(error, self._target) from None

    async def __aenter__(self) -> Self:
        """Ready for calls."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection."""
        await self.close()
