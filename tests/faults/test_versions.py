"""Bundles are exchanged under load: every answer is of one version from its items to its reasons, and versions only grow."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.faults.chaos_world import USERS, VERSIONS

if TYPE_CHECKING:
    from tests.faults.chaos import Callers, ChaosServer
    from tests.faults.run_length import RunLength

RATE = 30


async def test_answers_under_way_keep_their_version_and_all_that_follow_have_the_next(
    server: ChaosServer, callers: Callers, length: RunLength, figures: dict[str, object]
) -> None:
    """The invariants I3 and I5 look at every answer; here is that there was something to see."""
    callers.mix = replace(callers.mix, users=USERS[5:])  # of whom both catalogues know something
    server.command("scorer slow 30")
    exchanged_s = []
    for version in VERSIONS[1:]:
        await callers.run(RATE, length.seconds)
        server.command(f"load {version}")
        await callers.until(lambda: server.stats()["parts"]["scorer"]["running"] > 0, RATE, 5.0, "a run of the model")
        server.command("exchange")
        exchanged_s.append(time.monotonic())
    await callers.run(RATE, length.seconds)
    calls = await callers.since(0)
    figures["calls"] = Counter(f"{call.version} {call.tier or call.status}" for call in calls)

    assert {call.version for call in calls if call.ok} == set(VERSIONS)
    for version, moment_s in zip(VERSIONS, exchanged_s, strict=False):
        assert any(call.version == version and call.ended_s > moment_s for call in calls), version
    for version in VERSIONS:
        deep = [call for call in calls if call.version == version and call.tier == "DEEP"]
        assert any(item.explained_by for call in deep for item in call.items), version
