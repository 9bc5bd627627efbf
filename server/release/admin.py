"""The gRPC service ``terrace.v1.ReleaseService``: what operators do, for programs, in a small process of its own."""

from __future__ import annotations

import asyncio
import logging
import signal
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from core.release import Release, ReleaseArgumentError, ReleaseError, Slot
from server.release.operations import Operations, UnknownVersionError
from server.release.release_store import LostRaceError, ReleaseStoreError
from server.telemetry.rate_limited_log import RateLimitedLog
from terrace.v1 import release_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from server.release.operations import PromotionCheck, Status
    from server.release.release_store import ReleaseStore

SERVICE = "terrace.v1.ReleaseService"
DRAIN_S = 5.0
"""How long calls may take to end after SIGTERM, seconds."""
MAX_MESSAGE_BYTES = 64 * 1024
MAX_TEXT = 1_000
"""Characters of a status text at most: it travels in a header."""
ANSWER_S = 1.0
"""Time of a caller's deadline that is left to answer in when waiting for replicas has to end."""
_STATUS: tuple[tuple[type[ReleaseError], grpc.StatusCode], ...] = (
    (ReleaseArgumentError, grpc.StatusCode.INVALID_ARGUMENT),
    (UnknownVersionError, grpc.StatusCode.NOT_FOUND),
    (LostRaceError, grpc.StatusCode.ABORTED),
    (ReleaseStoreError, grpc.StatusCode.UNAVAILABLE),
    (ReleaseError, grpc.StatusCode.FAILED_PRECONDITION),
)
_OPTIONS = (("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES))
_SLOTS = {Slot.BLUE: pb.SLOT_BLUE, Slot.GREEN: pb.SLOT_GREEN}
_log = logging.getLogger(__name__)

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
_M = TypeVar("_M", bound=Message)


class AdminError(Exception):
    """The process cannot serve; the message says what to do."""


class ReleaseAdmin:
    """The calls of the service, over ``Operations``."""

    def __init__(
        self,
        store: ReleaseStore,
        *,
        known_versions: Callable[[], Iterable[str]] | None = None,
        promotion_check: PromotionCheck | None = None,
    ) -> None:
        """Keep the parts; arguments as for ``Operations``."""
        self._store = store
        self._known_versions = known_versions
        self._promotion_check = promotion_check
        self._limited_log = RateLimitedLog(_log)

    def handler(self) -> grpc.GenericRpcHandler:
        """What a gRPC server registers; works on bytes, so that malformed ones are the caller's error."""
        methods = {
            "Stage": self._guarded(pb.StageRequest, self.stage),
            "SetShare": self._guarded(pb.SetShareRequest, self.set_share),
            "Promote": self._guarded(pb.PromoteRequest, self.promote),
            "Rollback": self._guarded(pb.RollbackRequest, self.rollback),
            "Freeze": self._guarded(pb.FreezeRequest, self.freeze),
            "Unfreeze": self._guarded(pb.UnfreezeRequest, self.unfreeze),
            "GetStatus": self._guarded(pb.GetStatusRequest, self.get_status),
        }
        handlers: Mapping[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()
        }
        return grpc.method_handlers_generic_handler(SERVICE, dict(handlers))

    async def stage(self, request: pb.StageRequest, context: Context) -> pb.StageResponse:
        """``Stage``; waits for replicas as long as the caller's deadline allows."""
        left_s = context.time_remaining()
        release = await self._operations(request.options, context).stage(
            request.version,
            request.share if request.HasField("share") else None,
            force=request.options.force,
            expected_revision=_expected(request.options),
            wait_s=None if left_s is None else max(0.0, left_s - ANSWER_S),
        )
        return pb.StageResponse(release=_release(release))

    async def set_share(self, request: pb.SetShareRequest, context: Context) -> pb.SetShareResponse:
        """``SetShare``."""
        release = await self._operations(request.options, context).share(
            request.share, force=request.options.force, expected_revision=_expected(request.options)
        )
        return pb.SetShareResponse(release=_release(release))

    async def promote(self, request: pb.PromoteRequest, context: Context) -> pb.PromoteResponse:
        """``Promote``."""
        release = await self._operations(request.options, context).promote(
            force=request.options.force, expected_revision=_expected(request.options)
        )
        return pb.PromoteResponse(release=_release(release))

    async def rollback(self, request: pb.RollbackRequest, context: Context) -> pb.RollbackResponse:
        """``Rollback``."""
        release = await self._operations(request.options, context).rollback(
            request.reason, force=request.options.force, expected_revision=_expected(request.options)
        )
        return pb.RollbackResponse(release=_release(release))

    async def freeze(self, request: pb.FreezeRequest, context: Context) -> pb.FreezeResponse:
        """``Freeze``."""
        release = await self._operations(request.options, context).freeze(
            request.version, request.reason, expected_revision=_expected(request.options)
        )
        return pb.FreezeResponse(release=_release(release))

    async def unfreeze(self, request: pb.UnfreezeRequest, context: Context) -> pb.UnfreezeResponse:
        """``Unfreeze``."""
        release = await self._operations(request.options, context).unfreeze(
            request.version, expected_revision=_expected(request.options)
        )
        return pb.UnfreezeResponse(release=_release(release))

    async def get_status(self, _: pb.GetStatusRequest, context: Context) -> pb.GetStatusResponse:
        """``GetStatus``."""
        return _status(await self._operations(pb.ChangeOptions(), context).status())

    def _operations(self, options: pb.ChangeOptions, context: Context) -> Operations:
        return Operations(
            self._store,
            options.by or context.peer(),
            known_versions=self._known_versions,
            promotion_check=self._promotion_check,
        )

    def _guarded(
        self, kind: type[_M], method: Callable[[_M, Context], Awaitable[Message]]
    ) -> Callable[[bytes, Context], Awaitable[bytes]]:
        """A method as gRPC calls it; no text of an exception that is not meant for callers leaves the process."""

        async def call(raw: bytes, context: Context) -> bytes:
            code, text = grpc.StatusCode.INTERNAL, "internal error; the log of the server says more"
            try:
                return (await method(_parse(kind, raw), context)).SerializeToString()
            except ReleaseError as refusal:
                code, text = next(code for of, code in _STATUS if isinstance(refusal, of)), str(refusal)[:MAX_TEXT]
            except Exception as error:  # noqa: BLE001 - its text must not reach the caller
                self._limited_log.exception(f"{kind.DESCRIPTOR.name} failed with {type(error).__name__}")
            await context.abort(code, text)
            raise AssertionError  # abort raises

        return call


async def serve(admin: ReleaseAdmin, host: str, port: int, on_ready: Callable[[int], None]) -> None:
    """Answer until SIGTERM or SIGINT, then finish the calls in flight.

    Args:
        admin: the calls.
        host: address to listen on.
        port: 0 takes a free one.
        on_ready: called with the port once calls are answered.

    Raises:
        AdminError: the port cannot be taken.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = grpc.aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers((admin.handler(),))
    status = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError:
        raise AdminError(f"cannot listen on {address}. Is another server running there? Choose another port") from None
    await server.start()
    for name in ("", SERVICE):  # whether the store is there says each call: no probe falls with it
        await status.set(name, health_pb2.HealthCheckResponse.SERVING)
    on_ready(bound)
    await stop.wait()
    await status.enter_graceful_shutdown()
    await server.stop(DRAIN_S)


def _parse(kind: type[_M], raw: bytes) -> _M:
    try:
        return kind.FromString(raw)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        raise ReleaseArgumentError(f"not a {kind.DESCRIPTOR.full_name} message") from None


def _expected(options: pb.ChangeOptions) -> int | None:
    return options.expected_revision if options.HasField("expected_revision") else None


def _release(release: Release) -> pb.Release:
    changed_at = datetime.fromisoformat(release.changed_at) if release.changed_at else None
    return pb.Release(
        live=_SLOTS[release.live],
        blue_version=release.slots[Slot.BLUE] or "",
        green_version=release.slots[Slot.GREEN] or "",
        candidate_share=release.candidate_share,
        shadow_share=release.shadow_share,
        previous_version=release.previous or "",
        frozen=release.frozen,
        revision=release.revision,
        document_id=release.document_id,
        changed_at=changed_at,
        changed_by=release.changed_by,
        note=release.note,
    )


def _status(status: Status) -> pb.GetStatusResponse:
    replicas = []
    for replica in status.replicas:
        fields: dict[str, Any] = {
            name: getattr(replica, name)
            for name in ("replica_id", "host", "revision", "loaded", "rejected", "workers_wanted", "workers_ready")
        }
        reported_at = Timestamp(seconds=int(replica.at_s))
        replicas.append(
            pb.Replica(
                **fields,
                answers_from=replica.answers_from or "",
                reported_at=reported_at,
                not_ready=status.not_ready.get(replica.replica_id, ""),
            )
        )
    return pb.GetStatusResponse(
        release=_release(status.release) if status.release else None,
        replicas=replicas,
        ready_replicas=len(replicas) - len(status.not_ready),
    )
