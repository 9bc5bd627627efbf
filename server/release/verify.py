"""Is a bundle fit to be served? Found out in a process of its own: a damaged index can crash the library that reads it.

That process is ``server.release.checks``. It prints a JSON line when a check begins, when it ends, and when there are no
more, so that whoever asks sees the check that a crash belongs to. Nothing here loads what may crash, or numpy.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TIME_LIMIT_S = 600.0
"""A bundle that takes longer than this to verify is refused."""
_HANDED_DOWN = (
    "PATH",
    "HOME",
    "TMPDIR",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
)
"""Environment that the process gets; no address or password of a store is among it."""
_BEGINNING = "start"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a bundle.

    Attributes:
        name: see ``server.release.checks.CHECKS``; ``start`` where the process ended before the first of them.

        passed: whether the bundle is sound in this respect.

        text: what was found; where it is wrong, the file and what to do.
    """

    name: str
    passed: bool
    text: str


def verify_bundle(folder: Path, public_keys: Sequence[Path] = (), time_limit_s: float = TIME_LIMIT_S) -> list[Check]:
    """Check a bundle folder; this process opens nothing of it.

    Args:
        folder: of the bundle.
        public_keys: files of keys, one of which must have signed it; none takes bundles that nobody signed.
        time_limit_s: the longest that all checks may take together, seconds.

    Returns:
        The checks that were made, in order. The bundle is fit to be served when the last of them passed; after one that
        did not there are no others.
    """
    command = [sys.executable, "-P", "-X", "faulthandler", "-m", "server.release.checks", str(folder)]
    command += [part for path in public_keys for part in ("--public-key", str(path))]
    environment = {name: os.environ[name] for name in _HANDED_DOWN if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)  # the same program as this one
    with subprocess.Popen(  # noqa: S603 - our own command
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        in_time = True
        try:
            printed, complaints = process.communicate(timeout=time_limit_s)
        except subprocess.TimeoutExpired:
            in_time = False
            _kill(process)
            printed, complaints = process.communicate()
        except BaseException:
            _kill(process)
            raise
    if complaints:
        _log.warning("verifying %s: %s", folder, complaints.strip())
    checks, under_way = _read(printed)
    if under_way is None:
        return checks
    ended = _ending(process.returncode) if in_time else f"took longer than {time_limit_s:g} s"
    text = f"{folder}: the process that verifies it {ended} during the check {under_way!r}. Build or copy it again"
    return [*checks, Check(under_way, passed=False, text=text)]


def _kill(process: subprocess.Popen[str]) -> None:
    """End the process and those that it started, which may keep its output open."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _read(printed: str) -> tuple[list[Check], str | None]:
    """The checks that ended, and the name of the one under way when the process did; None when it had come to an end."""
    checks: list[Check] = []
    under_way = _BEGINNING
    for line in printed.splitlines(keepends=True):
        if not line.endswith("\n"):  # it died while it wrote
            break
        if not line.startswith('{"'):  # printed by a library while it was imported
            continue
        report = json.loads(line)
        if "done" in report:
            return checks, None
        under_way = report["check"]
        if "passed" in report:
            checks.append(Check(under_way, report["passed"], report["text"]))
    return checks, under_way


def _ending(code: int) -> str:
    return f"ended with exit code {code}" if code >= 0 else f"died of {signal.Signals(-code).name}"
