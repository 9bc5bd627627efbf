"""Measures how long the machine keeps a process waiting that does nothing: ``python -m tests.faults.idle_process``.

Sleeps a millisecond at a time. Prints one JSON object when it is ready and one for each line on standard input: for how long
it has been measuring, by how much it woke late in all and at most. ``start`` begins anew, ``report`` goes on.
"""

from __future__ import annotations

import json
import os
import select
import time

TICK_S = 0.001
NOTICED_S = 0.002
"""A wake-up that is late by less is on time: timers are no more exact."""


def main() -> None:
    """Go on until standard input ends."""
    begun_s, late_s, longest_s = time.monotonic(), 0.0, 0.0
    _print({})
    while True:
        due_s = time.monotonic() + TICK_S
        asked, _, _ = select.select([0], [], [], TICK_S)
        now_s = time.monotonic()
        if now_s - due_s > NOTICED_S:
            late_s += now_s - due_s
            longest_s = max(longest_s, now_s - due_s)
        if not asked:
            continue
        command = os.read(0, 64)
        if not command:
            return
        _print({"seconds": now_s - begun_s, "late_s": late_s, "longest_ms": longest_s * 1000})
        if command.strip() == b"start":
            begun_s, late_s, longest_s = time.monotonic(), 0.0, 0.0


def _print(found: dict[str, float]) -> None:
    os.write(1, f"{json.dumps(found)}\n".encode())


if __name__ == "__main__":
    main()
