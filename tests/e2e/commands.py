"""The program as a user types it."""

from __future__ import annotations

import subprocess
import sys


def terrace(*arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command and hold its exit code against what is expected."""
    done = subprocess.run(
        [sys.executable, "-m", "terrace.cli", *arguments], capture_output=True, text=True, check=False, timeout=280
    )
    assert expect == done.returncode, done.stderr
    return done
