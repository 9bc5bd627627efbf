"""A run counts only where the machine was free and kept its speed."""

from __future__ import annotations

import pytest

from loadtests import machine, targets
from loadtests.machine import FREE, STEADY, Machine
from tests.loadtests.toy_runs import overload

FAST = Machine(1.0, 1e7)


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        (FAST, FAST, ""),
        (FAST, Machine(FREE, 1e7 * STEADY), ""),
        (FAST, Machine(FREE - 0.01, 1e7), "other processes"),
        (Machine(FREE - 0.01, 1e7), FAST, "other processes"),
        (FAST, Machine(1.0, 0.99e7 * STEADY), "changed its speed"),
        (Machine(1.0, 0.99e7 * STEADY), FAST, "changed its speed"),
    ],
)
def test_a_machine_that_others_use_or_that_changes_its_speed_is_trouble(
    before: Machine, after: Machine, word: str
) -> None:
    said = machine.trouble(before, after)

    assert word in said
    assert bool(said) == bool(word)


def test_a_process_that_counts_gets_a_part_of_the_cores() -> None:
    found = machine.measure(0.05)

    assert 0 < found.free <= 1.01
    assert found.speed > 0


def test_a_run_on_a_machine_in_trouble_is_invalid_and_says_why() -> None:
    run = overload()
    assert targets.invalid(run) == ""
    run.conditions["machine_trouble"] = "others"  # type: ignore[index]

    assert targets.invalid(run) == "others"
