"""Runs the faults, and again those alone that are not valid: ``python -m tests.faults [arguments of pytest]``.

A run in which all that failed did so while the machine had no time says nothing (``machine.INVALID``). It is made again
``MOST_RUNS`` times in all, for those tests alone; a failure of any other kind ends it at once.
"""

from __future__ import annotations

import subprocess
import sys

from tests.faults.machine import INVALID

MOST_RUNS = 4


def main(arguments: list[str]) -> int:
    """Run until the run is valid; returns pytest's exit status, or ``INVALID`` where none was."""
    run = [sys.executable, "-m", "pytest", "tests/faults", *arguments]
    status = subprocess.run(run, check=False).returncode
    for again in range(2, MOST_RUNS + 1):
        if status != INVALID:
            break
        sys.stdout.write(
            f"\nnot valid: the machine had no time; run {again} of at most {MOST_RUNS}, those tests alone\n"
        )
        sys.stdout.flush()
        status = subprocess.run([*run, "--last-failed"], check=False).returncode
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
