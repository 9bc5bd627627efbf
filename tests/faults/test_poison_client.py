"""A caller who sends nothing but nonsense, or far too much, is that caller's trouble and nobody else's.

The others are measured side by side: quiet seconds and seconds with the poison take turns, and what quiet turns differ
by among themselves is the noise of the measurement.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.faults.callers import INVALID, OK, SHED, Phase
from tests.faults.figures import note
from tests.faults.machine import MachineTooBusyError
from tests.faults.server_under_load import server_under_load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.server_under_load import ServerUnderLoad

TURNS = 6
TURN_S = 1.5
ATTEMPTS = 3
DEADLINE_MS = 100.0
USERS = 0.3
"""Share of the capacity that the others use."""
NONSENSE_PER_S = 200.0
NONSENSE, CHECKS = (0.0, 0.0, 0.0, NONSENSE_PER_S), (0.0, 0.0, 0.0, 0.0, NONSENSE_PER_S)
MOST_NOISE = 0.75
"""What turns without poison may differ by, as a share of the usual p99: above that nothing could be told from them."""
FLOOD = 10 * 0.05
"""Ten times what is set aside for batch calls, as a share of the capacity."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerUnderLoad]:
    with server_under_load(tmp_path_factory.mktemp("calls")) as load:
        yield load


def side_by_side(
    server: ServerUnderLoad, name: str, usual: tuple[float, ...], poison: tuple[float, ...], turns: int
) -> None:
    """Users are answered as quickly with ``poison`` as with ``usual`` (calls a second by ``callers.WHO``) beside them.

    A measurement in which turns alike differ too much tells nothing: it is made again, ``ATTEMPTS`` times in all.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _compare(server, name, usual, poison, turns)
        except MachineTooBusyError:
            if attempt == ATTEMPTS:
                raise
        else:
            return


def _compare(
    server: ServerUnderLoad, name: str, usual: tuple[float, ...], poison: tuple[float, ...], turns: int
) -> None:
    users = USERS * server.capacity()
    quiet, poisoned = (Phase(TURN_S, (users + more, *rest)) for more, *rest in (usual, poison))

    calls = server.run([quiet, poisoned] * (turns + 1))

    measured = calls.between(2 * TURN_S, math.inf)  # the first turns find idle processes
    others, poisoners = measured.of("user"), measured.of("batch", "invalid")
    parts = [others.between(i * TURN_S, (i + 1) * TURN_S) for i in range(2, 2 * turns + 2)]
    p99 = np.array([part.percentile_ms(99) for part in parts])
    without, with_it = p99[::2], p99[1::2]
    usual_ms, noise_ms = float(np.median(without)), float(np.ptp(without))
    found = {
        "p99_without_ms": without.round(1).tolist(),
        "p99_with_ms": with_it.round(1).tolist(),
        "noise_ms": noise_ms,
        "median_without_ms": others.where(others.meant_s % (2 * TURN_S) < TURN_S).percentile_ms(50),
        "median_with_ms": others.where(others.meant_s % (2 * TURN_S) >= TURN_S).percentile_ms(50),
        "users_in_time": others.in_time(DEADLINE_MS).mean(),
        "poison_ends": {int(code): poisoners.share(int(code)) for code in np.unique(poisoners.status)},
    }
    note(name, found)
    assert not others.share(SHED), found
    assert found["users_in_time"] >= 0.995, found
    assert set(calls.of("invalid").status.tolist()) <= {INVALID, SHED}, found
    assert set(calls.of("batch").status.tolist()) <= {OK, SHED}, found
    assert {breaker["opened"] for breaker in server.stats()["breakers"].values()} == {0}, found
    if noise_ms > MOST_NOISE * usual_ms:
        text = f"turns without poison differ by {noise_ms:.1f} ms where {usual_ms:.1f} ms is usual (at most {MOST_NOISE:.0%})"
        raise MachineTooBusyError(f"machine too busy: {text}; {found}")
    assert np.median(with_it) <= 1.1 * usual_ms + noise_ms, found


def test_nonsense_slows_the_others_no_more_than_as_many_health_checks(server: ServerUnderLoad) -> None:
    """What is refused costs what a call through gRPC costs at least."""
    side_by_side(server, "nonsense", CHECKS, NONSENSE, TURNS)


def test_a_flood_of_batch_calls_slows_users_no_more_than_as_many_calls_of_users(server: ServerUnderLoad) -> None:
    """A server with room answers batch calls too, and they cost what others cost: users wait, but no longer than for each
    other, and for no other rung."""
    flood = FLOOD * server.capacity()
    side_by_side(server, "flood of batch calls", (flood,), (0.0, 0.0, flood), TURNS)


@pytest.mark.faults_long
def test_nonsense_for_a_minute_slows_the_others_no_more_than_as_many_health_checks(server: ServerUnderLoad) -> None:
    side_by_side(server, "nonsense for a minute", CHECKS, NONSENSE, 20)
