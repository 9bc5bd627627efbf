"""What a deployment may choose about one serving process; every number has its unit in its name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of one serving process.

    Attributes:
        host: address to listen on; a host name or an IP address.

        port: 0 takes a free one.

        store_url: ``redis://``, ``rediss://`` or ``unix://`` of the user store; None keeps users in memory.

        namespace: separates deployments that share one store.

        default_deadline_ms: budget of a call that names no deadline.

        max_request_ms: longest budget, whatever the caller asks for.

        reserve_ms: part of the budget kept back to finish an answer once the deep rung has given up.

        floor_ms: with less than this left, no rung above popularity is started.

        store_share: part of the budget that the user store may take.

        store_timeout_ms: longest wait for the user store, whatever its share would be.

        store_connections: open connections to the user store at most.

        retrieve_share: part of the remaining budget that the slow generators may take.

        threads: threads that run slow generators and the model. One thread and the event loop keep two cores busy; more
            only take the interpreter from each other.

        slots: jobs that may wait or run on those threads; a job that finds none free does not start.

        surfaces: surface -> whether items of the user's own past may come back there; others say no.

        warm_up_requests: requests answered before the process calls itself ready, at each of several sizes.

        drain_s: how long calls in flight may take to end when the process is asked to stop.
    """

    host: str = "127.0.0.1"
    port: int = 50051
    store_url: str | None = None
    namespace: str = "default"
    default_deadline_ms: float = 100.0
    max_request_ms: float = 500.0
    reserve_ms: float = 4.0
    floor_ms: float = 1.0
    store_share: float = 0.3
    store_timeout_ms: float = 30.0
    store_connections: int = 32
    retrieve_share: float = 0.4
    threads: int = 1
    slots: int = 16
    surfaces: Mapping[str, bool] = field(default_factory=dict)
    warm_up_requests: int = 5
    drain_s: float = 5.0

    def __post_init__(self) -> None:
        """Refuse settings that no server could run with.

        Raises:
            ValueError: a setting is out of range; the message names it and its bound.
        """
        for name in ("default_deadline_ms", "max_request_ms", "store_timeout_ms", "drain_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be above 0")
        for name in ("reserve_ms", "floor_ms", "warm_up_requests"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be 0 or more")
        for name in ("store_share", "retrieve_share"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must lie between 0 and 1")
        for name in ("threads", "slots", "store_connections"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least 1")
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port is {self.port}, it must lie between 0 and 65535")
