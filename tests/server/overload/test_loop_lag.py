"""How late the event loop is, in virtual time."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from server.overload.loop_lag import EVERY_S, LoopLag
from tests.server.virtual import VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    monkeypatch.setattr("server.overload.loop_lag.time", SimpleNamespace(monotonic=loop.time))
    yield loop
    loop.close()


def watch(loop: VirtualLoop, *busy_s: float) -> tuple[list[float], float]:
    """What is told while the loop computes for so long at a time, and the worst of it."""
    told: list[float] = []

    async def live() -> float:
        lag = LoopLag(told.append)
        for seconds in busy_s:
            loop.spend(seconds)
            await asyncio.sleep(EVERY_S * 1.01)
        lag.close()
        return lag.worst_s

    worst_s = loop.run(live())
    before = len(told)
    loop.settle()
    assert len(told) == before  # closed is closed
    return told, worst_s


def test_a_loop_that_does_nothing_is_never_late(loop: VirtualLoop) -> None:
    told, worst_s = watch(loop, *[0.0] * 20)

    assert len(told) >= 20
    assert (set(told), worst_s) == ({0.0}, 0.0)


def test_what_is_within_the_grain_of_timers_is_no_lag(loop: VirtualLoop) -> None:
    told, _ = watch(loop, 0.0, EVERY_S + 0.0009, 0.0)

    assert max(told) == pytest.approx(0, abs=1e-9)


def test_a_computation_on_the_loop_is_told_once_and_the_worst_fades(loop: VirtualLoop) -> None:
    told, worst_s = watch(loop, 0.0, 0.1, *[0.0] * 10)

    late_s = max(told)
    assert late_s == pytest.approx(0.1 - EVERY_S - 0.001, abs=EVERY_S / 10)
    assert sum(told) == pytest.approx(late_s)
    assert 0.9 * late_s < worst_s < late_s


def test_of_two_lags_the_longer_is_the_worst(loop: VirtualLoop) -> None:
    told, worst_s = watch(loop, 0.03, 0.0, 0.2, 0.0)

    assert worst_s == pytest.approx(max(told), rel=0.01)
    assert max(told) > 0.19
