"""The event loop stands still for half a second: who has time left is answered, and a moment later all is as before."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from tests.faults.history import spread, told

if TYPE_CHECKING:
    from tests.faults.chaos import Callers, ChaosServer
    from tests.faults.forms import Form

STALL_MS = 500.0
RATE = 50
LIMIT_BACK_S = 2.0


async def test_after_a_stall_of_the_event_loop_all_is_as_before(
    server: ChaosServer, callers: Callers, form: Form, figures: dict[str, object]
) -> None:
    await callers.run(RATE, max(form.seconds, 1.0))
    limit = server.stats()["limit"]
    callers.broken()
    stalled_s = time.monotonic()
    server.tell(f"loop stall {STALL_MS}")
    hasty = asyncio.create_task(callers.run(RATE, 0.3))
    patient = asyncio.create_task(callers.run(RATE, 0.3, deadline_ms=2000.0))
    hasty_calls, patient_calls = await hasty, await patient
    await asyncio.sleep(stalled_s + STALL_MS / 1000 - time.monotonic())
    callers.healed()
    lag_ms = server.stats()["lag_worst_ms"]
    metrics = server.metrics()
    healthy = await callers.serving()
    back_s = await callers.until(lambda: server.stats()["limit"] >= limit, RATE, 10.0, "the limit is back")
    after = await callers.run(RATE, 1.0)
    figures |= {
        "hasty": told(hasty_calls),
        "patient": told(patient_calls),
        "lag_ms": lag_ms,
        "limit_back_s": back_s,
        "after": told(after),
        "after_ms": spread(after),
    }

    assert {call.status for call in hasty_calls} <= {"OK", "DEADLINE_EXCEEDED"}
    assert all(call.status == "OK" for call in patient_calls)
    assert lag_ms > 0.8 * STALL_MS
    assert metrics["terrace_loop_lag_seconds"] > 0.8 * STALL_MS / 1000
    assert healthy
    assert back_s <= LIMIT_BACK_S * callers.bounds.slack
    assert callers.bounds.enough(told(after).get("DEEP", 0), len(after)), told(after)
