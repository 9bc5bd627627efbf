"""What a call raises that got no answer: one class per thing a caller can do about it.

Every one is a ``grpc.RpcError``, so that code written for gRPC's own errors goes on working.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import grpc

if TYPE_CHECKING:
    from collections.abc import Iterable

Trailing: TypeAlias = tuple[tuple[str, str | bytes], ...]

_STOP_RETRYING = "grpc-retry-pushback-ms"


class TerraceError(grpc.RpcError):
    """A call that got no answer, for a reason that no subclass names.

    Args:
        code: the status of the call.
        details: what the server or gRPC says about it; never holds a value of the request.
        trailing: metadata that came with the status.
    """

    advice: ClassVar[str] = ""
    """What the caller can do about it."""

    def __init__(self, code: grpc.StatusCode, details: str, trailing: Trailing = ()) -> None:
        super().__init__(code, details, trailing)
        self._code, self._details, self._trailing = code, details, trailing

    def code(self) -> grpc.StatusCode:
        """The status of the call."""
        return self._code

    def details(self) -> str:
        """What the server or gRPC says about it."""
        return self._details

    def trailing_metadata(self) -> Trailing:  # type: ignore[override]  # the stubs name a private class of grpcio
        """Metadata that came with the status, key and value."""
        return self._trailing

    def __str__(self) -> str:
        """Status, details and advice."""
        return f"{self._code.name}: {self._details}" + (f". {self.advice}" if self.advice else "")


class DeadlineExceededError(TerraceError):
    """There was no answer within ``timeout_ms``."""

    advice = (
        "Show what you have, and do not retry: the time is gone. If it happens often, give calls a longer timeout_ms "
        "or see why the server or the way to it is slow"
    )


class UnavailableError(TerraceError):
    """No server could be reached, or it is starting or stopping. The client has tried twice."""

    advice = (
        "Show what you have, and do not retry: the client has. Is the address right, and does a server listen there "
        "and report SERVING to its health check?"
    )


class OverloadedError(TerraceError):
    """The server sheds this kind of call (``criticality`` prefetch or batch) for now."""

    advice = "Do not retry: that makes it worse. Skip this prefetch, or go on with the batch later"


class InvalidRequestError(TerraceError):
    """The request is outside the bounds of the contract or too large; the details name the field and its bound."""

    advice = "Correct the request: it will be refused again"


class InternalError(TerraceError):
    """The server failed; its log has the recommendation id of the details, and the error."""

    advice = "Show what you have; the server's log has the error beside the recommendation id"


_KINDS: dict[grpc.StatusCode, type[TerraceError]] = {
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.INTERNAL: InternalError,
}


def error_of(error: grpc.RpcError, target: str) -> TerraceError:
    """The typed error for one of gRPC's.

    Args:
        error: as a call to ``target`` raised it; has ``code``, ``details`` and ``trailing_metadata``.
        target: who was called, to be named where nobody answered.
    """
    code: grpc.StatusCode = error.code()
    pairs: Iterable[Any] = error.trailing_metadata() or ()
    trailing = tuple((key, value) for key, value in pairs)
    details = error.details() or "no details"
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        # A request that is too large has the same code, but says nothing of retries.
        shed = any(key == _STOP_RETRYING for key, _ in trailing)
        return (OverloadedError if shed else InvalidRequestError)(code, details, trailing)
    if code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
        details = f"{target}: {details}"
    return _KINDS.get(code, TerraceError)(code, details, trailing)
