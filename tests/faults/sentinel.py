"""Says when the machine kept a process waiting: ``python -m tests.faults.sentinel``.

Sleeps a millisecond at a time and prints, whenever it wakes late, at which moment (monotonic clock) and how late, in seconds.
"""

from __future__ import annotations

import sys
import time

TICK_S, NOTICED_S = 0.001, 0.002


def main() -> None:
    """Go on until killed."""
    while True:
        due_s = time.monotonic() + TICK_S
        time.sleep(TICK_S)
        now_s = time.monotonic()
        if now_s - due_s > NOTICED_S:
            sys.stdout.write(f"{now_s:.6f} {now_s - due_s:.6f}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
