"""``python -m tests.mutations [NAME ...]``: puts each fault of ``table`` into a copy of the tree and runs its tests.

Exit code 1: a text is not there exactly once, a test fails without any fault, or a fault is not noticed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutations.table import MUTATIONS, Mutation

ROOT = Path(__file__).parents[2]
_FAILED = 1
"""Exit code of pytest where tests ran and some failed; others say that none ran."""
_LONGEST_S = 120.0
"""For the tests of one fault; those that hang have noticed nothing."""


def copy_tree(folder: Path) -> None:
    """Copy what git knows or would know of the working tree."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],  # noqa: S607 - the git of the developer
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def failing(folder: Path, tests: list[str]) -> tuple[int, list[str], str]:
    """Exit code of pytest over these tests in a copy of the tree, ids of those that failed, and all that it printed."""
    # No bytecode: a file that changes twice in a second would be taken for the one before.
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", *tests]
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, check=False, capture_output=True, text=True, timeout=_LONGEST_S
        )
    except subprocess.TimeoutExpired:
        return 124, [], f"not done after {_LONGEST_S:.0f} s"
    failed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    return done.returncode, failed, done.stdout + done.stderr


def noticed(mutation: Mutation, folder: Path) -> tuple[bool, str]:
    """Whether the tests of a fault notice it, and which did or what happened instead."""
    path = folder / mutation.file
    sound = path.read_text(encoding="utf-8")
    if sound.count(mutation.old) != 1:
        return False, f"the text to change is in {mutation.file} {sound.count(mutation.old)} times: adapt the table"
    path.write_text(sound.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        code, failed, printed = failing(folder, list(mutation.tests))
    finally:
        path.write_text(sound, encoding="utf-8")
    if code == _FAILED and failed:
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        return True, failed[0] + more
    if code == 0:
        return False, f"SURVIVED {', '.join(mutation.tests)}"
    return False, f"pytest ended with {code}: {printed[-2000:]}"


def main(names: list[str]) -> int:
    """Run the faults of these names, all by default, and print a line for each."""
    chosen = [mutation for mutation in MUTATIONS if not names or mutation.name in names]
    if unknown := set(names) - {mutation.name for mutation in MUTATIONS}:
        print(f"no mutation is called {', '.join(sorted(unknown))}", file=sys.stderr)  # noqa: T201 - a script's output
        return 1
    with tempfile.TemporaryDirectory(prefix="terrace-mutations-") as name:
        folder = Path(name)
        copy_tree(folder)
        code, failed, printed = failing(folder, sorted({test for mutation in chosen for test in mutation.tests}))
        if code:
            print(f"tests fail without any fault: {failed or printed[-2000:]}", file=sys.stderr)  # noqa: T201
            return 1
        survived = 0
        for mutation in chosen:
            begun_s = time.monotonic()
            caught, text = noticed(mutation, folder)
            survived += not caught
            mark = "caught" if caught else "MISSED"
            print(f"{mark} {mutation.name} ({time.monotonic() - begun_s:.0f} s)\n       {text}", flush=True)  # noqa: T201
    print(f"{len(chosen) - survived} of {len(chosen)} faults are noticed")  # noqa: T201
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
