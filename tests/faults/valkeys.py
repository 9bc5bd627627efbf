"""Real Valkeys on ports of the loopback: single ones, a Sentinel set-up, a Cluster."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from server.store.embedded import _binary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

SLOTS = 16_384
SERVICE = "users"
_READY_S = 20.0
_POLL_S = 0.02


def wait_until(holds: Callable[[], Any], what: str) -> None:
    """Poll until it holds; errors of Redis count as "not yet".

    Raises:
        AssertionError: it never did.
    """
    end_s = time.monotonic() + _READY_S
    while time.monotonic() < end_s:
        with suppress(redis.RedisError):
            if holds():
                return
        time.sleep(_POLL_S)
    raise AssertionError(f"waited for {_READY_S:.0f} s in vain: {what}")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listened on a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class Valkey:
    """One server process in a folder of its own; a context manager."""

    def __init__(self, folder: Path, port: int, *options: str, config: str | None = None) -> None:
        folder.mkdir(parents=True)
        command = [_binary()]
        if config is not None:
            (folder / "sentinel.conf").write_text(config, encoding="utf-8")
            command += [str(folder / "sentinel.conf"), "--sentinel"]
        command += ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
        command += ["--repl-diskless-sync-delay", "0", *options]
        self.port = port
        self.client = redis.Redis(port=port, socket_timeout=5, retry=Retry(NoBackoff(), 0))
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask(self, *command: str | int) -> Any:
        return self.client.execute_command(*command)

    def kill(self) -> None:
        """End it as a crash does."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Self:
        wait_until(self.client.ping, f"Valkey on port {self.port}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        self.kill()


class SentinelSetUp:
    """A master, a replica that follows it, and a Sentinel that watches."""

    def __init__(self, sentinel: Valkey, servers: tuple[Valkey, Valkey]) -> None:
        self.sentinel, self.servers = sentinel, servers

    @property
    def url(self) -> str:
        """The first of the Sentinels in it never answers."""
        return f"redis+sentinel://127.0.0.1:1,127.0.0.1:{self.sentinel.port}/{SERVICE}"

    @property
    def master_port(self) -> int:
        return int(self.sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])


@contextmanager
def sentinel_set_up(folder: Path) -> Iterator[SentinelSetUp]:
    """Ready for a failover, which takes about two seconds."""
    first, second, third = free_ports(3)
    watch = f"""
sentinel monitor {SERVICE} 127.0.0.1 {first} 1
sentinel down-after-milliseconds {SERVICE} 500
sentinel failover-timeout {SERVICE} 3000
"""
    with (
        Valkey(folder / "master", first) as master,
        Valkey(folder / "replica", second, "--replicaof", f"127.0.0.1 {first}") as replica,
    ):
        wait_until(lambda: replica.client.info()["master_link_status"] == "up", "the replica follows")
        with Valkey(folder / "sentinel", third, config=watch) as sentinel:
            wait_until(
                lambda: len(sentinel.ask("SENTINEL", "REPLICAS", SERVICE)) == 1, "the Sentinel knows the replica"
            )
            yield SentinelSetUp(sentinel, (master, replica))


class Cluster:
    """Three masters, a third of the slots each."""

    def __init__(self, nodes: tuple[Valkey, ...]) -> None:
        self.nodes = nodes

    @property
    def url(self) -> str:
        """The first of its nodes never answers."""
        return f"redis+cluster://127.0.0.1:1,127.0.0.1:{self.nodes[0].port}"

    def node_of(self, slot: int) -> Valkey:
        for first, end, master, *_ in self.nodes[0].ask("CLUSTER", "SLOTS"):
            if first <= slot <= end:
                return next(node for node in self.nodes if node.port == master[1])
        raise LookupError(f"slot {slot} is nobody's")

    def begin_move(self, slot: int) -> tuple[Valkey, Valkey]:
        """Mark a slot as moving to another node; from where and to where."""
        source = self.node_of(slot)
        target = next(node for node in self.nodes if node is not source)
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", _id(source))
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", _id(target))
        return source, target

    def move_keys(self, slot: int, source: Valkey, target: Valkey) -> None:
        """Move a slot's keys: whoever asks the source for one is told to ask the target."""
        keys = source.ask("CLUSTER", "GETKEYSINSLOT", slot, 100)
        source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)

    def end_move(self, slot: int, target: Valkey) -> None:
        """Give the slot to the target, for good."""
        for node in (target, *self.nodes):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", _id(target))


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Ready for use."""
    ports = free_ports(6)
    with ExitStack() as stack:
        nodes = tuple(
            stack.enter_context(
                Valkey(folder / str(port), port, "--cluster-enabled", "yes", "--cluster-port", str(bus))
            )
            for port, bus in zip(ports[:3], ports[3:], strict=True)
        )
        bounds = [SLOTS * i // 3 for i in range(4)]
        for node, first, end in zip(nodes, bounds, bounds[1:], strict=False):
            node.ask("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        for node, bus in zip(nodes[1:], ports[4:], strict=True):
            nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        for node in nodes:
            wait_until(
                lambda node=node: (
                    node.client.cluster("info")["cluster_state"] == "ok" and len(node.ask("CLUSTER", "SLOTS")) == 3
                ),
                "the Cluster is whole",
            )
        yield Cluster(nodes)


def _id(node: Valkey) -> str:
    return str(node.ask("CLUSTER", "MYID").decode())
