"""URLs of Redis and Valkey: one server, a service behind Sentinels, a Cluster.

    redis://[user:password@]host[:port][/db]            rediss://... with TLS       unix://[user:password@]/path[?db=1]
    redis+sentinel://[user:password@]host[:port],host[:port]/service[/db]           rediss+sentinel://...
    redis+cluster://[user:password@]host[:port],host[:port]                         rediss+cluster://...

User and password are those of the servers; Sentinels' own are ``?sentinel_username=...&sentinel_password=...``.
Other options: ``client_name``, ``ssl_*`` of redis-py. What bounds a read (timeouts, retries, connections) is not in
a URL: it is the deployment's to set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.asyncio import Connection, Redis, RedisCluster, Sentinel, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

Kind: TypeAlias = Literal["standalone", "sentinel", "cluster"]
Address: TypeAlias = tuple[str, int]
"""Host and port, or path and 0 of a unix socket."""
_SCHEMES: Mapping[str, tuple[Kind, type[AbstractConnection]]] = {
    "redis": ("standalone", Connection),
    "rediss": ("standalone", SSLConnection),
    "unix": ("standalone", UnixDomainSocketConnection),
    "redis+sentinel": ("sentinel", Connection),
    "rediss+sentinel": ("sentinel", SSLConnection),
    "redis+cluster": ("cluster", Connection),
    "rediss+cluster": ("cluster", SSLConnection),
}
_PORTS: Mapping[Kind, int] = {"standalone": 6379, "sentinel": 26379, "cluster": 6379}
_PLAIN_OPTIONS = frozenset({"client_name", "db", "sentinel_username", "sentinel_password"})


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A URL that was understood.

    Attributes:
        addresses: the server, the Sentinels or any nodes of the Cluster; never empty.

        service: what Sentinels call the servers; empty elsewhere.

        options: of redis-py's connections to the servers.

        sentinel_options: of redis-py's connections to the Sentinels.
    """

    kind: Kind
    connection_class: type[AbstractConnection]
    addresses: tuple[Address, ...]
    service: str
    options: Mapping[str, Any]
    sentinel_options: Mapping[str, Any]

    @classmethod
    def parse(cls, url: str) -> StoreUrl:
        """Understand a URL.

        Raises:
            ValueError: it is not one of a store; the message never repeats the URL, which may hold a password.
        """
        try:
            parts = urlsplit(url)
        except ValueError:
            raise ValueError("the store URL is no URL") from None
        if parts.scheme not in _SCHEMES:
            raise ValueError(f"the store URL must start with one of {', '.join(f'{s}://' for s in _SCHEMES)}")
        kind, connection_class = _SCHEMES[parts.scheme]
        credentials, _, hosts = parts.netloc.rpartition("@")
        options = _options(parts, kind)
        sentinel_options = {
            name: options.pop(f"sentinel_{name}") for name in ("username", "password") if f"sentinel_{name}" in options
        }
        username, _, password = credentials.partition(":")
        options |= {k: unquote(v) for k, v in {"username": username, "password": password}.items() if v}
        service = ""
        if connection_class is UnixDomainSocketConnection:
            if hosts or not parts.path:
                raise ValueError("the store URL must be unix:///path")
            addresses: tuple[Address, ...] = ((unquote(parts.path), 0),)
        else:
            addresses = tuple(_address(host, _PORTS[kind]) for host in hosts.split(","))
            service, db = _path(parts.path, kind)
            if db:
                options["db"] = db
        if kind == "standalone" and len(addresses) > 1:
            raise ValueError(
                "the store URL names several hosts: it must start with redis+sentinel:// or redis+cluster://"
            )
        found = cls(kind, connection_class, addresses, service, options, sentinel_options)
        try:
            found.connection(addresses[0])
        except TypeError as error:
            raise ValueError(f"the store URL has an option that is unknown: {str(error).rpartition(' ')[2]}") from None
        return found

    def connection(self, address: Address, connect_timeout_s: float | None = None) -> AbstractConnection:
        """A connection to a server, not yet open: no retries, no timeout of its own but for connecting."""
        return self._connection(address, connect_timeout_s, self.options)

    def sentinel_connection(self, address: Address) -> AbstractConnection:
        """A connection to a Sentinel, not yet open."""
        tls = {name: value for name, value in self.options.items() if name.startswith("ssl_")}
        return self._connection(address, None, {**tls, **self.sentinel_options})

    def client(self, timeout_s: float) -> Redis | RedisCluster:
        """What writes: a client of redis-py that finds its way by itself and never retries.

        Args:
            timeout_s: for connecting, and for every answer.
        """
        options: dict[str, Any] = {
            **self.options,
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
        }
        tls = self.connection_class is SSLConnection
        if self.kind == "cluster":
            nodes = [ClusterNode(host, port) for host, port in self.addresses]
            return RedisCluster(startup_nodes=nodes, ssl=tls, **options)
        if self.kind == "sentinel":
            common = {name: value for name, value in options.items() if name.startswith(("ssl_", "socket_", "retry"))}
            sentinels = Sentinel(  # type: ignore[no-untyped-call]  # redis-py
                self.addresses,
                sentinel_kwargs={**common, "ssl": tls, **self.sentinel_options},
                ssl=tls,
                **options,
            )
            master: Redis = sentinels.master_for(self.service)
            return master
        (host, port), *_ = self.addresses
        where = {"host": host, "port": port} if port else {"unix_socket_path": host}
        return Redis(ssl=tls, **where, **options)

    def _connection(
        self, address: Address, connect_timeout_s: float | None, options: Mapping[str, Any]
    ) -> AbstractConnection:
        host, port = address
        where: dict[str, Any] = {"host": host, "port": port} if port else {"path": host}
        return self.connection_class(
            **where,
            **options,
            protocol=2,  # no greeting: a connection is ready once it is open
            driver_info=None,
            socket_timeout=None,  # whoever asks bounds the whole; redis-py's costs a task for each write
            socket_connect_timeout=connect_timeout_s,
            retry=Retry(NoBackoff(), 0),
        )


async def close_client(client: Redis | RedisCluster) -> None:
    """Close what ``StoreUrl.client`` made, and the connections to Sentinels, which redis-py leaves open."""
    await client.aclose()
    if isinstance(client, Redis) and isinstance(client.connection_pool, SentinelConnectionPool):
        await client.connection_pool.sentinel_manager.aclose()


def _options(parts: SplitResult, kind: Kind) -> dict[str, Any]:
    allowed = _PLAIN_OPTIONS if kind == "sentinel" else _PLAIN_OPTIONS - {"sentinel_username", "sentinel_password"}
    for name, _ in parse_qsl(parts.query):
        if name not in allowed and not name.startswith("ssl_"):
            raise ValueError(f"the store URL has an option that is not for a URL: {name}")
    try:
        options: dict[str, Any] = {**parse_url(f"redis://?{parts.query}")}
    except ValueError:
        raise ValueError("the store URL has an option whose value is none") from None
    return options


def _address(host: str, port: int) -> Address:
    name, colon, digits = host.rpartition(":")
    if not colon or host.endswith("]"):
        name, digits = host, str(port)
    if not (digits.isascii() and digits.isdecimal() and 0 < int(digits) < 65536):
        raise ValueError("the store URL has a port that is none; a password must be percent-encoded")
    if not name:
        raise ValueError("the store URL names no host")
    return name.removeprefix("[").removesuffix("]"), int(digits)


def _path(path: str, kind: Kind) -> tuple[str, int]:
    """Service and database in the path of a URL."""
    first, _, rest = path.strip("/").partition("/")
    service, db = (unquote(first), rest) if kind == "sentinel" else ("", path.strip("/"))
    if kind == "sentinel" and not service:
        raise ValueError("the store URL names no service: redis+sentinel://host:port/service")
    if db and not (db.isascii() and db.isdecimal()):
        raise ValueError("the store URL has a database that is no number")
    if kind == "cluster" and db not in {"", "0"}:
        raise ValueError("the store URL has a database, and a Cluster has none")
    return service, int(db or 0)
