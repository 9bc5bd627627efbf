"""A run that failed because the machine had no time is told from one that failed."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.faults.__main__ import main
from tests.faults.chaos import ROOT
from tests.faults.machine import INVALID

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


@pytest.mark.parametrize(("busy_runs", "status", "runs"), [(0, 0, 1), (2, 0, 3), (9, 75, 4)])
def test_a_run_that_is_not_valid_is_made_again_until_one_is_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, busy_runs: int, status: int, runs: int
) -> None:
    made: list[list[str]] = []

    def run(command: list[str], *, check: bool) -> subprocess.CompletedProcess[bytes]:
        assert not check
        made.append(command)
        return subprocess.CompletedProcess(command, INVALID if len(made) <= busy_runs else 0)

    monkeypatch.setattr("tests.faults.__main__.subprocess.run", run)

    assert main(["-m", "not faults_long"]) == status
    assert len(made) == runs
    assert "--last-failed" not in made[0]
    assert all(command[-1] == "--last-failed" for command in made[1:])
    assert all("not faults_long" in command for command in made)


def test_a_failure_is_not_made_good_by_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[list[str]] = []

    def run(command: list[str], *, check: bool) -> subprocess.CompletedProcess[bytes]:
        assert not check
        made.append(command)
        return subprocess.CompletedProcess(command, pytest.ExitCode.TESTS_FAILED)

    monkeypatch.setattr("tests.faults.__main__.subprocess.run", run)

    assert main([]) == pytest.ExitCode.TESTS_FAILED
    assert len(made) == 1
