"""A run that failed because the machine had no time is told from one that failed."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.faults.chaos import ROOT

if TYPE_CHECKING:
    from pathlib import Path

HOOKS = "from tests.faults.conftest import pytest_runtest_makereport, pytest_sessionfinish\n"
TESTS = {
    "sound": "def test_sound(): pass\n",
    "busy": """
import pytest
from tests.faults.machine import MachineTooBusyError

@pytest.fixture
def judged():
    yield
    raise MachineTooBusyError("machine too busy")

def test_busy(judged): pass
""",
    "wrong": "def test_wrong(): assert 1 == 2\n",
}


@pytest.mark.parametrize(
    ("ran", "status"),
    [(["sound"], 0), (["sound", "busy"], 75), (["sound", "wrong"], 1), (["busy", "wrong"], 1)],
)
def test_only_where_all_that_failed_had_no_time_the_run_is_to_be_made_again(
    tmp_path: Path, ran: list[str], status: int
) -> None:
    (tmp_path / "conftest.py").write_text(HOOKS, encoding="utf-8")
    for name in ran:
        (tmp_path / f"test_{name}.py").write_text(TESTS[name], encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == status, done.stdout
