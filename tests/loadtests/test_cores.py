"""Callers and server share no core where there are two."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from loadtests import cores
from loadtests.processes import Child

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("all_cores", "server", "callers"),
    [
        ({3}, {3}, {3}),
        ({0, 1}, {0}, {1}),
        ({4, 6, 9}, {4, 6}, {9}),
        ({0, 1, 2, 3}, {0, 1}, {2, 3}),
    ],
)
def test_the_server_has_the_larger_half(all_cores: set[int], server: set[int], callers: set[int]) -> None:
    assert cores.halves(all_cores) == (server, callers)


def test_a_process_that_is_started_on_cores_stays_there_and_its_parent_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shows_cores.py").write_text("import os\nprint(sorted(os.sched_getaffinity(0)))\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    before = os.sched_getaffinity(0)
    last = {max(before)}
    with Child("shows_cores", on=last) as child:
        assert child.ready == str(sorted(last))
    assert os.sched_getaffinity(0) == before
