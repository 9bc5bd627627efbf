"""A port that workers share, and nobody else."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from server.listening import PortError, connections, reserved_port, stop_listening


def listener(port: int) -> socket.socket:
    """A socket that listens as gRPC's do."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen()
    return sock


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_reserved_port_is_free_for_listeners_that_share_it(host: str) -> None:
    with reserved_port(host, 0) as port, closing(listener(port)), closing(listener(port)):
        assert port > 0


def test_a_port_that_is_reserved_or_listened_on_cannot_be_reserved() -> None:
    with reserved_port("127.0.0.1", 0) as port:
        with pytest.raises(PortError, match=f"cannot listen on 127.0.0.1:{port}"), reserved_port("127.0.0.1", port):
            pass
        worker = listener(port)
    with closing(worker), pytest.raises(PortError, match="Choose another port"), reserved_port("127.0.0.1", port):
        pass


def test_a_port_whose_last_connections_have_just_ended_can_be_reserved() -> None:
    with reserved_port("127.0.0.1", 0) as port, closing(listener(port)) as worker:
        caller = socket.create_connection(("127.0.0.1", port))
        answering, _ = worker.accept()
        answering.close()  # the side that closes first keeps the port in TIME_WAIT
        assert caller.recv(1) == b""
        caller.close()
    with reserved_port("127.0.0.1", port) as again:
        assert again == port


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
def test_a_host_that_is_not_this_one_is_named(host: str) -> None:
    with pytest.raises(PortError, match=f"cannot listen on {host}:0"), reserved_port(host, 0):
        pass


def test_new_connections_go_to_who_still_listens_and_those_there_are_go_on() -> None:
    with reserved_port("127.0.0.1", 0) as port, closing(listener(port)) as leaving:
        early = socket.create_connection(("127.0.0.1", port))
        answering, _ = leaving.accept()
        stop_listening(port)
        with closing(listener(port)) as staying:
            late = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
            accepted = [staying.accept()[0] for _ in late]
            answering.sendall(b"x")
            with pytest.raises(OSError, match="Invalid argument"):
                leaving.accept()

            assert early.recv(1) == b"x"
            for sock in (early, answering, *late, *accepted):
                sock.close()


def test_connections_of_this_process_on_the_port_are_counted() -> None:
    with reserved_port("127.0.0.1", 0) as port, closing(listener(port)) as worker:
        assert connections(port) == 0
        caller = socket.create_connection(("127.0.0.1", port))
        answering, _ = worker.accept()

        assert connections(port) == 1  # the caller's own end is on another port
        answering.close()
        assert connections(port) == 0
        caller.close()
