"""The methods of the service: bytes to a checked request, the pipeline, its answer to bytes.

Parses for itself, so that malformed bytes are the caller's error.
"""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message

from core.types import Reason, Tier
from server.edge import checks
from server.edge.call_guard import EncodedAnswer
from terrace.v1 import recommendation_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

    from core.types import Recommendation
    from server.edge.call_guard import CallGuard
    from server.rungs.pipeline import Pipeline
    from server.rungs.request_record import RequestRecord
    from server.rungs.shadow import Shadow
    from server.rungs.versions import Versions
    from server.settings import Settings

SERVICE = "terrace.v1.RecommendationService"
_REASONS = {reason: cast("pb.Reason", pb.Reason.Value(f"REASON_{reason.name}")) for reason in Reason}
_TIERS = {tier: cast("pb.Tier", pb.Tier.Value(f"TIER_{tier.name}")) for tier in Tier}
_M = TypeVar("_M", bound=Message)


class Servicer:
    """The three calls of ``terrace.v1.RecommendationService``."""

    def __init__(
        self, settings: Settings, shadow: Shadow | None = None, *, now_s: Callable[[], float] = time.time
    ) -> None:
        """Keep the parts.

        Args:
            settings: surfaces.
            shadow: is offered every answer of ``Recommend``.
            now_s: wall clock, seconds since the epoch.
        """
        self._settings = settings
        self._shadow = shadow
        self._now_s = now_s

    def handler(self, edge: CallGuard) -> grpc.GenericRpcHandler:
        """What a gRPC server registers; works on bytes, behind ``edge``."""
        methods = (
            ("Recommend", Tier.DEEP, self.recommend),
            ("SimilarItems", Tier.CF, self.similar_items),
            ("RankItems", Tier.DEEP, self.rank_items),
        )
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            name: grpc.unary_unary_rpc_method_handler(edge.guard(name, ceiling, method))
            for name, ceiling, method in methods
        }
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    async def recommend(
        self, versions: Versions, raw: bytes, record: RequestRecord, recommendation_id: str
    ) -> EncodedAnswer:
        """``Recommend``, from bytes to bytes; raises ``InvalidRequestError``."""
        request = checks.recommend(_parse(pb.RecommendRequest, raw), self._settings.surfaces, self._now_s)
        pipeline = versions.pipeline_for(request.user_id, record)
        answer = await pipeline.recommend(request, record)
        message = pb.RecommendResponse(items=_items(pipeline, answer), info=_info(answer, recommendation_id))
        if self._shadow is not None:
            self._shadow.offer(versions, request, record, answer, pipeline)
        return EncodedAnswer(answer, message.SerializeToString())

    async def similar_items(
        self, versions: Versions, raw: bytes, record: RequestRecord, recommendation_id: str
    ) -> EncodedAnswer:
        """``SimilarItems``, from bytes to bytes; raises ``InvalidRequestError``."""
        asked = _parse(pb.SimilarItemsRequest, raw)
        request = checks.similar(asked)
        pipeline = versions.pipeline_for(asked.item_id, record)
        answer = await pipeline.similar(asked.item_id, request, record)
        message = pb.SimilarItemsResponse(items=_items(pipeline, answer), info=_info(answer, recommendation_id))
        return EncodedAnswer(answer, message.SerializeToString())

    async def rank_items(
        self, versions: Versions, raw: bytes, record: RequestRecord, recommendation_id: str
    ) -> EncodedAnswer:
        """``RankItems``, from bytes to bytes; raises ``InvalidRequestError``."""
        item_ids, request = checks.rank(_parse(pb.RankItemsRequest, raw), self._now_s)
        pipeline = versions.pipeline_for(request.user_id, record)
        answer = await pipeline.rank(item_ids, request, record)
        known = pipeline.bundle.catalogue.row_of
        unknown = [pb.RecommendedItem(item_id=item_id) for item_id in item_ids if item_id not in known]
        message = pb.RankItemsResponse(
            items=[*_items(pipeline, answer), *unknown],
            unknown_items=len(unknown),
            info=_info(answer, recommendation_id),
        )
        return EncodedAnswer(answer, message.SerializeToString())


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
