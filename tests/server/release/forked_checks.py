"""Verifies many bundles, each in a fork of one process that has imported all it takes: a crash is one bundle's own.

Reads a folder a line; writes a JSON line for each: the last check, its verdict and text, and the signal that ended the
process, if one did.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.release.checks import check_bundle

if TYPE_CHECKING:
    from collections.abc import Mapping

HANG_S = 120


def outcome(folder: Path) -> dict[str, Any]:
    """What a process of its own says of a bundle."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(HANG_S)
        os.close(reading)
        reports: list[Mapping[str, Any]] = []

        def report(found: Mapping[str, Any]) -> None:
            reports.append(found)
            os.write(writing, json.dumps(found).encode() + b"\n")

        check_bundle(folder, None, report)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        *_, last = file.read().splitlines()
    _, status = os.waitpid(child, 0)
    died_of = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else None
    return {"died_of": died_of, **json.loads(last)}


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(json.dumps(outcome(Path(line.rstrip("\n")))) + "\n")
        sys.stdout.flush()
