"""``terrace serve`` as a deployment starts it, and the processes that it starts."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from loadtests.processes import descendants
from terrace.v1 import recommendation_pb2 as pb
from terrace.v1.recommendation_pb2_grpc import RecommendationServiceStub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(holds: Callable[[], object], what: str) -> None:
    """Wait for a condition of other processes."""
    end_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end_s, what
        time.sleep(0.02)


def call(target: str, enough: threading.Event, answered: list[str], failed: list[str]) -> None:
    """Ask over one connection of its own, as a client without a retry policy, until it is enough; notes what came."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    request = pb.RecommendRequest(user_id=f"user-{threading.get_ident()}", limit=5)
    with grpc.insecure_channel(target, options=options) as channel:
        stub = RecommendationServiceStub(channel)
        while not enough.is_set():
            try:
                answered.append(stub.Recommend(request, timeout=20).info.bundle_version)
            except grpc.RpcError as error:
                failed.append(f"{error.code()}: {error.details()}")


@contextmanager
def callers(target: str, count: int) -> Iterator[tuple[list[list[str]], list[str]]]:
    """What so many callers are answered meanwhile, and the errors they get."""
    enough = threading.Event()
    answered: list[list[str]] = [[] for _ in range(count)]
    failed: list[str] = []
    threads = [threading.Thread(target=call, args=(target, enough, versions, failed)) for versions in answered]
    for thread in threads:
        thread.start()
    try:
        yield answered, failed
    finally:
        enough.set()
        for thread in threads:
            thread.join()


class Served:
    """A server and what it started.

    Attributes:
        line: the first line that it printed; empty before ``wait``.

        target: where it answers; empty before ``wait``.
    """

    def __init__(self, child: subprocess.Popen[str], metrics_port: int, log: Path) -> None:
        self.child = child
        self.line = self.target = ""
        self._metrics_port = metrics_port
        self._log = log

    def wait(self) -> None:
        """Until it answers, or has ended."""
        assert self.child.stdout is not None
        self.line = self.child.stdout.readline().strip()
        self.target = self.line.split()[-1] if self.line else ""

    @property
    def log(self) -> str:
        """What it wrote on standard error so far."""
        return self._log.read_text(encoding="utf-8")

    @property
    def loaders(self) -> list[int]:
        """Process ids of its loader processes."""
        started = descendants(self.child.pid)
        workers = {worker for pid in started for worker in descendants(pid)}
        return [pid for pid in started if pid not in workers and b"server.release.loader_process" in _command(pid)]

    @property
    def workers(self) -> list[int]:
        """Process ids of its workers, those that leave among them."""
        return [worker for loader in self.loaders for worker in descendants(loader)]

    def metrics(self) -> str:
        """Its page of metrics."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics_port}/metrics", timeout=PATIENCE_S) as page:
            text: str = page.read().decode()
        return text

    def values(self, name: str) -> dict[str, float]:
        """The samples of a metric, by their labels as they are written."""
        found = re.findall(rf"(?m)^{name}(\{{.*\}})? (\S+)$", self.metrics())
        return {labels: float(value) for labels, value in found}


def runs(pid: int) -> bool:
    """Whether a process has not ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:  # noqa: PTH123 - gone at any moment
            return stat.read().rsplit(")", 1)[1].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@contextmanager
def serving(*arguments: str, log: Path, expect: int = 0, environment: dict[str, str] | None = None) -> Iterator[Served]:
    """What ``starting`` starts, once it answers."""
    with starting(*arguments, log=log, expect=expect, environment=environment) as served:
        served.wait()
        yield served


@contextmanager
def starting(
    *arguments: str, log: Path, expect: int = 0, environment: dict[str, str] | None = None
) -> Iterator[Served]:
    """``terrace serve`` with metrics and nothing exercised; without a store unless ``arguments`` name one."""
    port = free_port()
    common = ["--port", "0", "--metrics-port", str(port), "--lame-duck-s", "0", "--exercise-share", "0"]
    store = [] if "--store-url" in arguments else ["--store-url", "unix:///nowhere"]
    with (
        log.open("w", encoding="utf-8") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "terrace.cli", "serve", *common, *store, *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
        ) as child,
    ):
        try:
            yield Served(child, port, log)
        finally:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
            try:
                child.wait(PATIENCE_S)
            finally:
                child.kill()
    assert child.returncode == expect, log.read_text(encoding="utf-8")
