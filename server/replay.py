"""The serving code without a network and a clock: for evaluation and for golden answers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from core.types import Tier
from server.deadline import Deadline
from server.fan_out import WorkPool
from server.ladder import Ascent
from server.pipeline import Pipeline
from server.settings import Settings
from server.user_store import MemoryUserStore
from server.warm_up import record_golden

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from core.bundle import Bundle
    from core.query import Request
    from core.types import Recommendation, UserState


class Replay:
    """Drives the pipeline of one bundle from synchronous code, one request after the other."""

    def __init__(self, bundle: Bundle) -> None:
        """Start threads and an event loop; ``close`` ends them."""
        self.bundle = bundle
        self._runner = asyncio.Runner()
        self._work = WorkPool(threads=1, slots=len(bundle.generators) + 1)
        store = MemoryUserStore(bundle.manifest.seen_types)
        self._pipeline = Pipeline(bundle, store, self._work, Settings())

    def recommend(self, request: Request, user: UserState, now_s: float, max_tier: Tier = Tier.DEEP) -> Recommendation:
        """The answer without a deadline, from ``max_tier`` or the best rung below.

        Args:
            request: what is asked.
            user: what is known of the user.
            now_s: the moment of asking, seconds since the epoch.
            max_tier: the highest rung.
        """
        ascent = Ascent(Deadline.never(), max_tier)
        return self._runner.run(self._pipeline.answer(request, user, ascent, now_s=now_s))

    def golden(self, events: Sequence[tuple[str, str, float]], limit: int = 20) -> dict[str, Any]:
        """One entry for ``Manifest.golden``; see ``server.warm_up.record_golden``."""
        return self._runner.run(record_golden(self._pipeline, events, limit))

    def close(self) -> None:
        """End the threads and the event loop."""
        self._work.close()
        self._runner.close()

    def __enter__(self) -> Self:
        """Ready to answer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
