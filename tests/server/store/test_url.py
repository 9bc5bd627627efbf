"""A store URL is understood, or refused with what is wrong with it and without what is secret in it."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis, RedisCluster, SSLConnection, UnixDomainSocketConnection

from server.store.url import StoreUrl
from server.store.user_store import RedisUserStore


@pytest.mark.parametrize(
    ("url", "kind", "addresses", "service", "options"),
    [
        ("redis://redis", "standalone", (("redis", 6379),), "", {}),
        ("redis://ada:p%40ss@redis:7000/3", "standalone", (("redis", 7000),), "", {"username": "ada", "password": "p@ss", "db": 3}),
        ("redis://:secret@[::1]:7000", "standalone", (("::1", 7000),), "", {"password": "secret"}),
        ("rediss://redis?ssl_cert_reqs=none", "standalone", (("redis", 6379),), "", {"ssl_cert_reqs": "none"}),
        ("unix:///run/valkey.sock?db=2", "standalone", (("/run/valkey.sock", 0),), "", {"db": 2}),
        ("redis+sentinel://:pw@a,b:1/users/2", "sentinel", (("a", 26379), ("b", 1)), "users", {"password": "pw", "db": 2}),
        ("rediss+sentinel://a/users?sentinel_password=x", "sentinel", (("a", 26379),), "users", {}),
        ("redis+cluster://a,b:7001", "cluster", (("a", 6379), ("b", 7001)), "", {}),
    ],
)  # fmt: skip
def test_a_url_says_what_it_says(
    url: str, kind: str, addresses: tuple[tuple[str, int], ...], service: str, options: dict[str, object]
) -> None:
    understood = StoreUrl.parse(url)

    assert (understood.kind, understood.addresses, understood.service) == (kind, addresses, service)
    assert understood.options == options


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("", "must start with one of redis://"),
        ("http://:hunter2@host", "must start with one of redis://"),
        ("redis://:hunter2@host:port", "port"),
        ("redis://hunter2:8/x", "database that is no number"),
        ("redis://hunter2:x@y:hunter2", "port"),
        ("redis://:hunter2@a:99999", "port"),
        ("redis://[hunter2", "no URL"),
        ("redis://:hunter2@", "names no host"),
        ("redis://:hunter2@a,b", "several hosts"),
        ("redis://:hunter2@a?socket_timeout=5", "not for a URL: socket_timeout"),
        ("redis://:hunter2@a?ssl_ca_certs=x", "unknown: 'ssl_ca_certs'"),
        ("redis://a?db=hunter2", "value is none"),
        ("redis://a?sentinel_password=hunter2", "not for a URL: sentinel_password"),
        ("unix://:hunter2@host/path", "unix:///path"),
        ("unix://", "unix:///path"),
        ("redis+sentinel://:hunter2@a:1,b:2", "names no service"),
        ("redis+sentinel://:hunter2@a/users/x", "database that is no number"),
        ("redis+cluster://:hunter2@a/1", "a Cluster has none"),
    ],
)
def test_a_bad_url_is_refused_by_what_is_wrong_and_never_repeated(url: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong) as refused:
        RedisUserStore(url, "ns", ())

    assert "hunter2" not in str(refused.value)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_a_namespace_with_a_brace_is_refused() -> None:
    with pytest.raises(ValueError, match="namespace"):
        RedisUserStore("redis://a", "{ns}", ())


@pytest.mark.parametrize(
    ("url", "class_name"),
    [("redis://a", "Connection"), ("rediss://a", SSLConnection.__name__), ("unix:///a", UnixDomainSocketConnection.__name__)],
)  # fmt: skip
def test_a_connection_never_retries_and_is_of_the_kind_that_the_url_asks_for(url: str, class_name: str) -> None:
    understood = StoreUrl.parse(url)
    connection = understood.connection(understood.addresses[0], 0.05)

    assert type(connection).__name__ == class_name
    assert connection.retry.get_retries() == 0
    assert (connection.socket_connect_timeout, connection.socket_timeout) == (0.05, None)


async def test_tls_and_credentials_reach_the_sentinels_and_the_servers() -> None:
    understood = StoreUrl.parse("rediss+sentinel://ada:pw@a/users?sentinel_password=watch&ssl_cert_reqs=none")
    server, sentinel = understood.connection(("m", 1)), understood.sentinel_connection(("a", 2))

    assert isinstance(server, SSLConnection)
    assert isinstance(sentinel, SSLConnection)
    assert (server.username, server.password) == ("ada", "pw")
    assert (sentinel.username, sentinel.password) == (None, "watch")


@pytest.mark.parametrize(
    ("url", "client_class"),
    [
        ("rediss://:pw@127.0.0.1/3", Redis),
        ("unix:///run/valkey.sock", Redis),
        ("rediss+sentinel://ada:pw@127.0.0.1/users/3?sentinel_password=watch", Redis),
        ("rediss+cluster://:pw@127.0.0.1?ssl_cert_reqs=none", RedisCluster),
    ],
)
async def test_a_client_for_writing_is_made_without_connecting(url: str, client_class: type) -> None:
    client = StoreUrl.parse(url).client(1.0)

    assert isinstance(client, client_class)
    await client.aclose()
