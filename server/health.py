"""The gRPC health service: whether the process can answer from some rung, and from which."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grpc_health.v1 import health, health_pb2

from core.types import Tier

if TYPE_CHECKING:
    from collections.abc import Container

_SERVING, _NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class Health(health.aio.HealthServicer):
    """Statuses under ``""`` and the service's name (some rung), and ``<service>/<rung>`` for each rung.

    A rung's status says what was found at start: NOT_SERVING where the bundle has no such rung or it is disabled. What
    happens later (breakers, overload) is on the metrics: it comes and goes, and no answer waits for it.
    """

    def __init__(self, service: str) -> None:
        """Nothing is known before ``set_rungs``.

        Args:
            service: full name of the gRPC service.
        """
        super().__init__()
        self._service = service

    async def set_rungs(self, rungs: Container[Tier]) -> None:
        """Say from which rungs calls are answered; from none before the process is warm."""
        serving = [tier in rungs for tier in Tier]
        for tier, serves in zip(Tier, serving, strict=True):
            await self.set(f"{self._service}/{tier.name}", _SERVING if serves else _NOT_SERVING)
        for name in ("", self._service):
            await self.set(name, _SERVING if any(serving) else _NOT_SERVING)
