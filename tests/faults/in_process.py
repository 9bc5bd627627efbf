"""A client that calls the methods of a server directly, without gRPC in between, to make more calls than a channel lets through."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import grpc

from server.edge.servicer import SERVICE, Servicer
from tests.faults.fuzzer import KINDS

if TYPE_CHECKING:
    from server.settings import Settings
    from tests.server.running import Running


class Outcome(NamedTuple):
    """What came of a call: the response's bytes where the code is OK, else the text."""

    code: grpc.StatusCode
    text: str
    data: bytes


class InProcessClient:
    """Calls what gRPC would call, with the same bytes."""

    def __init__(self, server: Running, settings: Settings) -> None:
        handler = Servicer(settings, now_s=lambda: 1000.0).handler(server.edge)
        found = {name: handler.service(_details(f"/{SERVICE}/{name}")) for name in KINDS}
        self._methods = {name: method.unary_unary for name, method in found.items() if method is not None}

    async def call(self, method: str, data: bytes, *metadata: tuple[str, str]) -> Outcome:
        """One call without a deadline of its own."""
        try:
            answer = await cast("Any", self._methods[method])(data, _Context(metadata))
        except _AbortedError as aborted:
            return Outcome(aborted.code, aborted.text, b"")
        return Outcome(grpc.StatusCode.OK, "", answer)


def _details(method: str) -> grpc.HandlerCallDetails:
    return cast("grpc.HandlerCallDetails", SimpleNamespace(method=method, invocation_metadata=()))


class _AbortedError(Exception):
    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


class _Context:
    """The part of ``grpc.aio.ServicerContext`` that the server uses."""

    def __init__(self, metadata: tuple[tuple[str, str], ...]) -> None:
        self._metadata = metadata

    def time_remaining(self) -> None:
        return None

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    async def abort(self, code: grpc.StatusCode, details: str, _trailing: object) -> None:
        raise _AbortedError(code, details)
