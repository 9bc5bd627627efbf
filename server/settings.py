"""What a deployment may choose about one serving process; every number has its unit in its name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_BOUNDS: tuple[tuple[tuple[str, ...], Callable[[float], bool], str], ...] = (
    (
        (
            "default_deadline_ms",
            "max_request_ms",
            "store_timeout_ms",
            "score_timeout_ms",
            "drain_s",
            "max_connection_age_s",
        ),
        lambda value: value > 0,
        "be above 0",
    ),
    (("reserve_ms", "floor_ms", "warm_up_requests", "lame_duck_s"), lambda value: value >= 0, "be 0 or more"),
    (("store_share", "retrieve_share"), lambda value: 0 < value < 1, "lie between 0 and 1"),
    (("reserve_share",), lambda value: 0 <= value <= 0.9, "lie between 0 and 0.9"),
    (("exercise_share",), lambda value: 0 <= value <= 0.25, "lie between 0 and 0.25"),
    (("trace_share", "refresh_share"), lambda value: 0 <= value <= 1, "lie between 0 and 1"),
    (("threads", "max_jobs", "store_connections"), lambda value: value >= 1, "be at least 1"),
    (("port", "metrics_port"), lambda value: 0 <= value <= 65535, "lie between 0 and 65535"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of one serving process.

    Attributes:
        host: address to listen on; a host name or an IP address.

        port: 0 takes a free one.

        store_url: of the user store, see ``server.store.url``; None keeps users in memory.

        public_keys: paths of keys in PEM; a bundle that none of them signed is not used. Without any, nobody needs to have
            signed it.

        namespace: separates deployments that share one store.

        default_deadline_ms: budget of a call that names no deadline.

        max_request_ms: longest budget, whatever the caller asks for.

        reserve_ms: part of the budget kept back, at least, to finish an answer once the deep rung has given up.

        reserve_share: the same as a share of what is left of the budget; the larger of both counts.

        floor_ms: with less than this left, no rung above popularity is started.

        store_share: part of the budget that the user store may take.

        store_timeout_ms: longest wait for the user store, whatever its share would be; a store whose reply takes longer
            has failed, however long or short its caller waited.

        store_connections: open connections to the user store at most.

        retrieve_share: part of the deep rung's remaining time that its user tower, and each slow generator, may take.

        score_timeout_ms: longest run of the model, however long the budget is; one that takes longer hangs.

        exercise_share: part of users' calls that is answered from each lower rung on purpose; 0 for none.

        threads: threads that run slow generators and the model. One thread and the event loop keep two cores busy; more
            only take the interpreter from each other.

        max_jobs: jobs that may wait or run on those threads; a job that finds none free does not start.

        surfaces: surface -> whether items of the user's own past may come back there; others say no.

        precomputed_first: surfaces that take the precomputed list of a user who has one, and do not try ``DEEP`` then.

        refresh_share: part of the ``DEEP`` answers after which the user's precomputed list is written anew; 0 for none.

        warm_up_requests: requests answered before the process calls itself ready, at each of several sizes.

        lame_duck_s: how long calls are answered on, while health says NOT_SERVING already, when the process is asked to
            stop: the time that callers and load balancers have to turn elsewhere. 0 for none.

        drain_s: how long calls in flight may take to end after that, while no new ones are taken.

        max_connection_age_s: age at which a connection is closed, gracefully, so that callers spread over the workers there
            are; a worker that is replaced ends once its connections have.

        otlp_endpoint: collector of metrics and spans, ``http://host:port``; None for none.

        metrics_port: port on which Prometheus finds ``/metrics``, on ``host``; 0 takes a free one, None for none.

        trace_share: part of the calls without a caller's trace that are traced.
    """

    host: str = "127.0.0.1"
    port: int = 50051
    store_url: str | None = None
    public_keys: Sequence[str] = ()
    namespace: str = "default"
    default_deadline_ms: float = 100.0
    max_request_ms: float = 500.0
    reserve_ms: float = 4.0
    reserve_share: float = 0.15
    floor_ms: float = 1.0
    store_share: float = 0.3
    store_timeout_ms: float = 30.0
    store_connections: int = 32
    retrieve_share: float = 0.4
    score_timeout_ms: float = 50.0
    exercise_share: float = 0.005
    threads: int = 1
    max_jobs: int = 64
    surfaces: Mapping[str, bool] = field(default_factory=dict)
    precomputed_first: Sequence[str] = ()
    refresh_share: float = 0.0
    warm_up_requests: int = 5
    lame_duck_s: float = 5.0
    drain_s: float = 5.0
    max_connection_age_s: float = 30.0
    otlp_endpoint: str | None = None
    metrics_port: int | None = None
    trace_share: float = 0.01

    def __post_init__(self) -> None:
        """Refuse settings that no server could run with.

        Raises:
            ValueError: a setting is out of range; the message names it and its bound.
        """
        for names, fits, bound in _BOUNDS:
            for name in names:
                value = getattr(self, name)
                if value is not None and not fits(value):
                    raise ValueError(f"{name} is {value}, it must {bound}")
