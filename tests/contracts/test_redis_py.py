"""What server/store relies upon in redis-py beside its documented interface: an upgrade that changes it fails here."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import redis
from redis.asyncio.sentinel import SentinelConnectionPool

from server.store.url import StoreUrl

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from redis.asyncio.connection import AbstractConnection

PING = b"*1\r\n$4\r\nPING\r\n"
BLOCKED = b"*3\r\n$5\r\nBLPOP\r\n$7\r\nnothing\r\n$1\r\n1\r\n"


@pytest.fixture
async def connection(valkey: str) -> AsyncIterator[AbstractConnection]:
    url = StoreUrl.parse(valkey)
    connection = url.connection(url.addresses[0], 5.0)
    assert connection._writer is None
    await connection.connect()
    yield connection
    await connection.disconnect(nowait=True)


def at_once(work: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that must not wait for anything: nobody can cancel it half way."""
    with pytest.raises(StopIteration) as returned:
        work.send(None)
    return returned.value.value


async def test_sending_waits_for_nothing_and_checks_nothing(connection: AbstractConnection) -> None:
    at_once(connection.send_packed_command(PING, check_health=False))

    assert await connection.read_response(disconnect_on_error=False) == b"PONG"


async def test_bytes_that_nobody_asked_for_are_seen_without_waiting(connection: AbstractConnection) -> None:
    before = at_once(connection.can_read())
    await connection.send_packed_command(PING, check_health=False)
    while not at_once(connection.can_read()):  # noqa: ASYNC110 - the reply is on its way
        await asyncio.sleep(0)
    await connection.read_response(disconnect_on_error=False)

    assert before is False
    assert at_once(connection.can_read()) is False


async def test_the_other_sides_end_is_seen_without_waiting(connection: AbstractConnection) -> None:
    await connection.send_packed_command(b"*1\r\n$4\r\nQUIT\r\n", check_health=False)
    await connection.read_response(disconnect_on_error=False)
    while not (connection._writer.is_closing() or at_once(connection.can_read())):  # noqa: ASYNC110 - it is on its way
        await asyncio.sleep(0)


async def test_a_read_that_is_cancelled_leaves_the_connection_open_and_its_reply_to_the_next_read(
    connection: AbstractConnection,
) -> None:
    await connection.send_packed_command(BLOCKED + PING, check_health=False)
    reading = asyncio.create_task(connection.read_response(disconnect_on_error=False))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait([reading])

    assert reading.cancelled()
    assert connection.is_connected
    assert await connection.read_response(disconnect_on_error=False) is None
    assert await connection.read_response(disconnect_on_error=False) == b"PONG"


async def test_a_reply_that_is_an_error_leaves_the_connection_in_step(connection: AbstractConnection) -> None:
    await connection.send_command("SET", "a text", "x", check_health=False)
    await connection.send_command("LRANGE", "a text", 0, 1, check_health=False)
    await connection.send_packed_command(PING, check_health=False)
    await connection.read_response(disconnect_on_error=False)
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        await connection.read_response(disconnect_on_error=False)

    assert await connection.read_response(disconnect_on_error=False) == b"PONG"


async def test_a_connection_is_aborted_and_then_closed_without_waiting(connection: AbstractConnection) -> None:
    connection._writer.transport.abort()
    at_once(connection.disconnect(nowait=True))

    assert connection._writer is None
    assert not connection.is_connected


async def test_a_client_behind_sentinels_has_them_where_they_are_closed() -> None:
    client = StoreUrl.parse("redis+sentinel://127.0.0.1:1/users").client(1.0)

    assert isinstance(client.connection_pool, SentinelConnectionPool)
    assert len(client.connection_pool.sentinel_manager.sentinels) == 1
    await client.aclose()


def test_a_slot_that_moved_is_an_ask_error() -> None:
    assert issubclass(redis.exceptions.MovedError, redis.exceptions.AskError)
