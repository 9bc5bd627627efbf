"""The listening port that workers share, below gRPC: reserving it, leaving it, and who is still connected.

Linux spreads new connections over the sockets that listen on a port with ``SO_REUSEPORT``. It does so without asking who
else listens, so that a process that was forgotten takes calls from the one that is meant: whoever starts reserves the
port first.
"""

from __future__ import annotations

import os
import socket
import stat
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class PortError(Exception):
    """The port cannot be taken; the message says what to do."""


@contextmanager
def reserved_port(host: str, port: int) -> Iterator[int]:
    """Keep a port for sockets of this user that listen with ``SO_REUSEPORT``; nothing listens on it yet.

    Args:
        host: name or address to listen on.
        port: 0 takes a free one.

    Yields:
        The port.

    Raises:
        PortError: somebody has it, or the host has no such address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with closing(socket.socket(family, kind, protocol)) as alone:
            # Without SO_REUSEPORT this fails where anybody listens; connections that have ended may linger.
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(address)
            port = alone.getsockname()[1]
    except OSError as error:
        raise PortError(
            f"cannot listen on {host}:{port} ({error.strerror or error}). Is another server running there? Choose another port"
        ) from None
    with closing(socket.socket(family, kind, protocol)) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            held.bind((address[0], port, *address[2:]))
        except OSError as error:
            raise PortError(f"cannot keep port {port} of {host} ({error.strerror}). Choose another port") from None
        yield port


def stop_listening(port: int) -> None:
    """Take this process out of those that new connections are spread over; connections that it has go on.

    The listening socket is gRPC's, which has no call for this.
    """
    for sock in _sockets(port, listening=True):
        sock.shutdown(socket.SHUT_RDWR)


def connections(port: int) -> int:
    """Connections that this process has on the port."""
    return sum(1 for _ in _sockets(port, listening=False))


def _sockets(port: int, *, listening: bool) -> Iterator[socket.socket]:
    """Copies of this process's TCP sockets on the port, each closed when the next is asked for."""
    for entry in Path("/proc/self/fd").iterdir():
        sock = _copy(int(entry.name))
        if sock is None:
            continue
        with closing(sock):
            try:
                if sock.family not in {socket.AF_INET, socket.AF_INET6} or sock.getsockname()[1] != port:
                    continue
                listens = bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
                if not listens and not listening:
                    sock.getpeername()  # raises for a socket that is bound and no more
            except OSError:
                continue
            if listens is listening:
                yield sock


def _copy(descriptor: int) -> socket.socket | None:
    """Another handle on a socket; None where the descriptor is none, or was closed meanwhile."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return None
        return socket.socket(fileno=os.dup(descriptor))
    except OSError:
        return None
