"""Other processes: started, asked for their CPU time and memory, and ended."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from loadtests import cores
from loadtests.users import NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from types import TracebackType

_STOP_S = 15.0


def cpu_s(pid: int) -> float:
    """CPU seconds that a process and all its threads have used, to the nanosecond.

    By the clock that clock_getcpuclockid(3) names; ``/proc/<pid>/stat`` counts in hundredths of a second.
    """
    return time.clock_gettime((~pid << 3) | 2)


def memory_mb(pid: int) -> dict[str, float]:
    """``VmRSS``, ``RssAnon``, ``RssFile`` and ``VmHWM`` (the peak of ``VmRSS``) of a process in MB of 10^6 bytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.findall(r"^(VmRSS|RssAnon|RssFile|VmHWM):\s+(\d+) kB$", status, re.MULTILINE)
    return {name: int(kilobytes) * 1024 / 1e6 for name, kilobytes in found}


def proportional_mb(pid: int) -> dict[str, float]:
    """``Pss`` (a page that n processes share counts 1/n) and ``Private`` memory of a process in MB of 10^6 bytes."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    found = {name: int(kilobytes) * 1024 / 1e6 for name, kilobytes in re.findall(r"(?m)^(\w+):\s+(\d+) kB$", rollup)}
    return {"Pss": found["Pss"], "Private": found["Private_Clean"] + found["Private_Dirty"]}


def children(pid: int) -> list[int]:
    """Process ids of what a process started and what has not ended."""
    found: list[int] = []
    for task in Path("/proc", str(pid), "task").glob("*/children"):
        with suppress(OSError):  # ended meanwhile
            found += [int(child) for child in task.read_text(encoding="ascii").split()]
    return found


def descendants(pid: int) -> list[int]:
    """Process ids of what a process started, and what those started, parents first; without what has ended."""
    return [each for child in children(pid) for each in (child, *descendants(child))]


def descriptors_and_threads(pid: int) -> tuple[int, int]:
    """Open file descriptors and threads of a process."""
    return tuple(len(list(Path("/proc", str(pid), what).iterdir())) for what in ("fd", "task"))  # type: ignore[return-value]


class Child:
    """A Python process of ours that prints one line when it is ready."""

    def __init__(self, module: str, *arguments: str, log: Path | None = None, on: AbstractSet[int] = cores.ALL) -> None:
        """Start it and wait for that line.

        Args:
            module: what ``python -m`` runs.
            arguments: its command line.
            log: file for what it writes to standard error, which is shown otherwise.
            on: the cores that it may use.

        Raises:
            RuntimeError: it ended before it was ready; the log says why.
        """
        self.name = module
        started_s = time.monotonic()
        self.log = log
        with ExitStack() as stack:
            stack.enter_context(cores.on(on))
            self.process = subprocess.Popen(  # noqa: S603 - our own command
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stack.enter_context(log.open("w", encoding="utf-8")) if log else None,
                text=True,
            )
        self.ready = self.line()
        self.start_s = time.monotonic() - started_s

    def line(self) -> str:
        """The next line that it prints.

        Raises:
            RuntimeError: it ended instead.
        """
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            where = self.log or "what it printed above"
            raise RuntimeError(f"{self.name} ended with code {self.process.wait()}; see {where}")
        return line.strip()

    def send(self, what: str) -> None:
        """Send a line."""
        if self.process.stdin is not None:
            self.process.stdin.write(f"{what}\n")
            self.process.stdin.flush()

    def ask(self, what: str) -> str:
        """Send a line, wait for one."""
        self.send(what)
        return self.line()

    def cpu_s(self) -> float:
        """CPU seconds so far."""
        return cpu_s(self.process.pid)

    def close(self) -> None:
        """Ask it to end, and wait."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        """The running process."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self.close()


class Server(Child):
    """``terrace serve`` on a free port."""

    def __init__(
        self, bundle: Path, store_url: str, *options: str, log: Path | None = None, on: AbstractSet[int] = cores.ALL
    ) -> None:
        """Start it and wait until it is ready to answer.

        Args:
            bundle: folder of the bundle; or of bundles, of which the release document in the store says the live one.
            store_url: of the user store.
            options: more of ``terrace serve``.
            log: file for what it logs, which is shown otherwise.
            on: the cores that it may use.
        """
        where = (
            "--bundle" if (bundle / "manifest.json").exists() else "--bundles",
            str(bundle),
            "--store-url",
            store_url,
            "--port",
            "0",
            "--namespace",
            NAMESPACE,
            "--lame-duck-s",
            "0",
        )
        super().__init__("terrace.cli", "serve", *where, *options, log=log, on=on)
        self.address = self.ready.split()[-1]

    @property
    def pids(self) -> list[int]:
        """Process ids of the supervisor and of what it started."""
        return [self.process.pid, *descendants(self.process.pid)]

    @property
    def loaders(self) -> list[int]:
        """Process ids of its loader processes: one, but while workers are replaced."""
        return children(self.process.pid)

    @property
    def workers(self) -> list[int]:
        """Process ids of its workers, those that start or leave among them."""
        return [worker for loader in self.loaders for worker in children(loader)]

    def cpu_s(self) -> float:
        """CPU seconds so far of all its processes that run."""
        return sum(cpu_s(pid) for pid in self.pids)

    def memory_mb(self) -> dict[str, float]:
        """``Pss`` and ``Private`` of all its processes in MB of 10^6 bytes: what is shared is counted once."""
        found = [proportional_mb(pid) for pid in self.pids]
        return {name: sum(each[name] for each in found) for name in ("Pss", "Private")}


class FaultyServer(Child):
    """A server whose model breaks on command; see ``loadtests.faulty_server``."""

    def __init__(
        self, bundle: Path, store_url: str, *, log: Path | None = None, on: AbstractSet[int] = cores.ALL
    ) -> None:
        """Start it and wait until it is ready to answer; its log goes to ``log``, or is shown."""
        super().__init__("loadtests.faulty_server", str(bundle), store_url, log=log, on=on)
        self.address = self.ready.split()[-1]
