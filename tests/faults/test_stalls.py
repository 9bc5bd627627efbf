"""The event loop stands still for 0.4 s: who has time left is answered, and a moment later all is as before."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from tests.faults.history import nearly_all, outcomes, spread

if TYPE_CHECKING:
    from tests.faults.chaos import Callers, ChaosServer
    from tests.faults.run_length import RunLength

STALL_MS = 400.0
"""Less than the longest budget of a call (``max_request_ms``), so that whoever waits through it can be answered in time."""
RATE = 50
BACK_S = 2.0
DELAY_MS = 5.0
"""Queueing delay with which every call of the form's deadline may climb to the deep rung."""


async def test_after_a_stall_of_the_event_loop_all_is_as_before(
    server: ChaosServer, callers: Callers, length: RunLength, figures: dict[str, object]
) -> None:
    await callers.run(RATE, max(length.seconds, 1.0))
    callers.broken()
    stalled_s = time.monotonic()
    server.command(f"loop stall {STALL_MS}")
    short = asyncio.create_task(callers.run(RATE, 0.3))
    long = asyncio.create_task(callers.run(RATE, 0.3, deadline_ms=2000.0))
    short_calls, long_calls = await short, await long
    await asyncio.sleep(stalled_s + STALL_MS / 1000 - time.monotonic())
    callers.healed()
    lag_ms = server.stats()["lag_worst_ms"]
    metrics = server.metrics()
    healthy = await callers.serving()
    back_s = await callers.until(lambda: server.stats()["delay_ms"] < DELAY_MS, RATE, 10.0, "calls wait no more")
    after = await callers.run(RATE, 1.0)
    figures |= {
        "short_deadline": outcomes(short_calls),
        "long_deadline": outcomes(long_calls),
        "lag_ms": lag_ms,
        "back_s": back_s,
        "after": outcomes(after),
        "after_ms": spread(after),
    }

    assert {call.status for call in short_calls} <= {"OK", "DEADLINE_EXCEEDED"}
    assert all(call.status == "OK" for call in long_calls)
    assert lag_ms > 0.8 * STALL_MS
    assert metrics["terrace_loop_lag_seconds"] > 0.8 * STALL_MS / 1000
    assert healthy
    assert back_s <= BACK_S
    assert nearly_all(outcomes(after).get("DEEP", 0), len(after)), outcomes(after)
