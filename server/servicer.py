"""The gRPC edge: bytes to a checked request, the pipeline, its answer to bytes.

Parses for itself, so that malformed bytes are the caller's error and no text of an exception leaves
the process.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message

from core.types import Reason, Tier
from server import checks
from server.deadline import Deadline
from terrace.v1 import recommendation_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from core.types import Recommendation
    from server.pipeline import Pipeline
    from server.settings import Settings

SERVICE = "terrace.v1.RecommendationService"
_REASONS = {reason: cast("pb.Reason", pb.Reason.Value(f"REASON_{reason.name}")) for reason in Reason}
_TIERS = {tier: cast("pb.Tier", pb.Tier.Value(f"TIER_{tier.name}")) for tier in Tier}
_M = TypeVar("_M", bound=Message)
_Context = grpc.aio.ServicerContext[bytes, bytes]
_log = logging.getLogger(__name__)


class Servicer:
    """Answers the calls of ``terrace.v1.RecommendationService`` from a pipeline, once it has one."""

    def __init__(self, settings: Settings, *, now_s: Callable[[], float] = time.time) -> None:
        """Answer UNAVAILABLE until ``pipeline`` is set.

        Args:
            settings: budgets and surfaces.
            now_s: wall clock, seconds since the epoch.
        """
        self.pipeline: Pipeline | None = None
        self._settings = settings
        self._now_s = now_s

    def handler(self) -> grpc.GenericRpcHandler:
        """What a gRPC server registers; works on bytes."""
        methods = {"Recommend": self._recommend, "SimilarItems": self._similar_items, "RankItems": self._rank_items}
        guarded: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            name: grpc.unary_unary_rpc_method_handler(self._guard(method)) for name, method in methods.items()
        }
        return grpc.method_handlers_generic_handler(SERVICE, guarded)

    def _guard(
        self, method: Callable[[Pipeline, bytes, Deadline, str], Awaitable[bytes]]
    ) -> Callable[[bytes, _Context], Awaitable[bytes]]:
        async def call(raw: bytes, context: _Context) -> bytes:
            recommendation_id = uuid.uuid4().hex
            if self.pipeline is None:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "not serving; try another server")
            try:
                return await method(self.pipeline, raw, self._deadline(context), recommendation_id)
            except asyncio.CancelledError:
                raise
            except checks.InvalidRequestError as refusal:
                status, text = grpc.StatusCode.INVALID_ARGUMENT, str(refusal)
            except Exception:  # noqa: BLE001 - its text must not reach the caller
                _log.exception("recommendation %s failed", recommendation_id)
                status, text = grpc.StatusCode.INTERNAL, f"internal error; recommendation_id {recommendation_id}"
            return await context.abort(status, text)

        return call

    async def _recommend(self, pipeline: Pipeline, raw: bytes, deadline: Deadline, recommendation_id: str) -> bytes:
        request = checks.recommend(_parse(pb.RecommendRequest, raw), self._settings.surfaces, self._now_s)
        answer = await pipeline.recommend(request, deadline)
        return pb.RecommendResponse(
            items=self._items(pipeline, answer), info=_info(answer, recommendation_id)
        ).SerializeToString()

    async def _similar_items(self, pipeline: Pipeline, raw: bytes, deadline: Deadline, recommendation_id: str) -> bytes:
        message = _parse(pb.SimilarItemsRequest, raw)
        answer = await pipeline.similar(message.item_id, checks.similar(message), deadline)
        return pb.SimilarItemsResponse(
            items=self._items(pipeline, answer), info=_info(answer, recommendation_id)
        ).SerializeToString()

    async def _rank_items(self, pipeline: Pipeline, raw: bytes, deadline: Deadline, recommendation_id: str) -> bytes:
        item_ids, request = checks.rank(_parse(pb.RankItemsRequest, raw), self._now_s)
        answer = await pipeline.rank(item_ids, request, deadline)
        known = pipeline.bundle.catalogue.row_of
        unknown = [pb.RecommendedItem(item_id=item_id) for item_id in item_ids if item_id not in known]
        return pb.RankItemsResponse(
            items=[*self._items(pipeline, answer), *unknown],
            unknown_items=len(unknown),
            info=_info(answer, recommendation_id),
        ).SerializeToString()

    def _deadline(self, context: _Context) -> Deadline:
        left_s = context.time_remaining()
        longest_s = self._settings.max_request_ms / 1000
        return Deadline.after(min(self._settings.default_deadline_ms / 1000 if left_s is None else left_s, longest_s))

    @staticmethod
    def _items(pipeline: Pipeline, answer: Recommendation) -> list[pb.RecommendedItem]:
        ids, floor = pipeline.bundle.catalogue.ids, pipeline.bundle.popularity.name
        items = []
        columns = (answer.rows, answer.scores, answer.proposed, answer.explained_by)
        for row, score, bits, because in zip(*(column.tolist() for column in columns), strict=True):
            items.append(
                pb.RecommendedItem(
                    item_id=ids[row],
                    score=score if score == score else None,  # noqa: PLR0124 - NaN: not scored
                    sources=_names(answer.sources, bits, floor),
                    explained_by=ids[because] if because >= 0 else "",
                )
            )
        return items


@lru_cache(maxsize=4096)
def _names(sources: tuple[str, ...], bits: int, floor: str) -> tuple[str, ...]:
    return tuple(name for i, name in enumerate(sources) if bits >> i & 1) or (floor,)


def _parse(kind: type[_M], raw: bytes) -> _M:
    try:
        return kind.FromString(raw)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        raise checks.InvalidRequestError(f"not a {kind.DESCRIPTOR.full_name} message") from None


def _info(answer: Recommendation, recommendation_id: str) -> pb.AnswerInfo:
    return pb.AnswerInfo(
        recommendation_id=recommendation_id,
        tier=_TIERS[answer.tier],
        skipped=[pb.SkippedTier(tier=_TIERS[t], reason=_REASONS[r]) for t, r in answer.skipped.items()],
        bundle_version=answer.bundle_version,
        scored_rows=answer.scored_rows,
        pool_rows=answer.pool_rows,
        stages=[pb.StageTime(stage=stage, duration_ms=ms) for stage, ms in answer.stage_ms.items()],
        dropped_sources=[pb.DroppedSource(source=s, reason=_REASONS[r]) for s, r in answer.dropped.items()],
    )
