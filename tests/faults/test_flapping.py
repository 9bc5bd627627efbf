"""Redis and the model are whole and broken in turns: breakers do not flap along, and nobody is late."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.faults.fault_proxy import BLACK_HOLE, HEALTHY
from tests.faults.history import nearly_all, outcomes, percentile_ms, spread, unanswered
from tests.faults.run_length import DEADLINE_MS

if TYPE_CHECKING:
    from tests.faults.chaos import Callers, ChaosServer
    from tests.faults.fault_proxy import ProxyThread
    from tests.faults.run_length import RunLength

RATE = 60
TURN_S = 1.0
OPENINGS_A_MINUTE = 20


async def test_what_flaps_is_probed_one_call_at_a_time_and_ever_more_seldom(
    server: ChaosServer, callers: Callers, redis_proxy: ProxyThread, length: RunLength, figures: dict[str, object]
) -> None:
    lasts_s = length.flapping_s
    callers.mix = replace(callers.mix, recent=True)  # who is deep without the store meets the model too
    await callers.run(RATE, 1.0)
    callers.broken()
    begun_s = time.monotonic()
    load = asyncio.create_task(callers.run(RATE, lasts_s))
    for turn in range(round(lasts_s / TURN_S)):
        broken = turn % 2 == 0
        redis_proxy.mode = BLACK_HOLE if broken else HEALTHY
        server.command("scorer slow 1000" if broken else "scorer heal")
        await asyncio.sleep(begun_s + (turn + 1) * TURN_S - time.monotonic())
    redis_proxy.mode = HEALTHY
    server.command("scorer heal")
    calls = await load
    stats = server.stats()
    callers.healed()
    back_s = await callers.until(
        lambda: {server.breaker("scorer"), server.breaker("user_store")} == {"closed"}, RATE, 40.0, "the breakers close"
    )
    await callers.run(RATE, 1.0)
    figures |= {"breakers": stats["breakers"], "back_s": back_s, "calls_ms": spread(calls), "calls": outcomes(calls)}

    for name in ("scorer", "user_store"):
        assert 1 <= stats["breakers"][name]["opened"] <= min(OPENINGS_A_MINUTE, 3 + lasts_s / 3), name
        assert stats["parts"][name]["most_probing"] <= 1
    assert nearly_all(len(calls) - len(unanswered(calls)), len(calls)), outcomes(calls)
    assert percentile_ms(calls, 99) <= DEADLINE_MS
