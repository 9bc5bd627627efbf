"""Which server holds a key: known at once for a single one, found in the background behind Sentinels and in a Cluster.

Nobody ever waits for this. Until it is known, and after it changed, reads are misses; each failure asks for a refresh.
Refreshes run one at a time, with pauses.

redis-py finds servers too, but on the way of a command, which then waits: ``RedisCluster`` refreshes and sends again when a
slot has moved, and ``Sentinel.discover_master`` does not ask the server that is named whether it is a master. Writes, for
which nobody waits, go through them (``StoreUrl.client``). The rule for slots is redis-py's ``key_slot``.
"""

from __future__ import annotations

import asyncio
import logging
import random
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio.connection import AbstractConnection

    from server.store.url import Address, Kind, StoreUrl

REFRESH_EVERY_S = 0.25
"""Rest between two refreshes."""
MAX_AGE_S = 10.0
"""What was found longer ago than this is refreshed, though nothing fails: a master that became a replica answers."""
ASK_S = 0.5
"""Longest wait for one server or Sentinel that is asked."""
_log = logging.getLogger(__name__)


class Topology(ABC):
    """Where keys are.

    Attributes:
        last_error: why the last refresh found nothing; empty when it did.
    """

    def __init__(self, url: StoreUrl) -> None:
        """Prepare; asks nobody."""
        self.last_error = "not asked for yet"
        self._url = url
        self._refreshing: asyncio.Task[None] | None = None
        self._refreshed_s = float("-inf")
        self._found_s = float("-inf")

    @abstractmethod
    def address(self, key: bytes) -> Address | None:
        """The server that holds the key; None when it is not known."""

    def refresh(self) -> None:
        """Find the servers again in the background, unless that is under way."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh())

    def refresh_if_stale(self) -> None:
        """``refresh`` when what is known is old, or nothing is."""
        if asyncio.get_running_loop().time() - self._found_s > MAX_AGE_S:
            self.refresh()

    async def close(self) -> None:
        """Stop finding servers."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait([self._refreshing])

    @abstractmethod
    async def _find(self) -> None:
        """Ask, and remember the answer; raises when nobody has one."""

    async def _refresh(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._refreshed_s + REFRESH_EVERY_S - loop.time()))
        try:
            await self._find()
        except (RedisError, OSError, TimeoutError, LookupError, TypeError, ValueError) as error:
            self.last_error = f"{type(error).__name__}: {error}"
            _log.debug("the user store's servers are not found: %s", self.last_error)
        else:
            self.last_error, self._found_s = "", loop.time()
        finally:
            self._refreshed_s = loop.time()


class OneServer(Topology):
    """Every key is on the one server of the URL."""

    def address(self, key: bytes) -> Address:  # noqa: ARG002 - see the class
        """See ``Topology.address``."""
        return self._url.addresses[0]

    def refresh(self) -> None:
        """There is nothing to find."""

    refresh_if_stale = refresh

    async def _find(self) -> None:
        """See ``refresh``."""


class SentinelMaster(Topology):
    """Every key is on the master that the Sentinels name.

    Sentinels are asked one after the other, and the server that one names is asked whether it is the master, as
    Redis's guidelines for clients say: a Sentinel that is cut off may name a former one.
    """

    def __init__(self, url: StoreUrl) -> None:
        """See ``Topology``."""
        super().__init__(url)
        self._master: Address | None = None
        self._sentinels = list(url.addresses)

    def address(self, key: bytes) -> Address | None:  # noqa: ARG002 - one server has all keys
        """See ``Topology.address``."""
        return self._master

    async def _find(self) -> None:
        last: Exception = LookupError(f"no Sentinel knows the service {self._url.service}")
        for sentinel in tuple(self._sentinels):
            try:
                named = await _ask(
                    self._url.sentinel_connection(sentinel), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._url.service
                )
                if named is None:
                    continue
                master = named[0].decode(), int(named[1])
                role = await _ask(self._url.connection(master), "ROLE")
                if role[0] != b"master":
                    raise LookupError(f"{master[0]}:{master[1]} is named as master and is none")  # noqa: TRY301 - as any
            except (RedisError, OSError, TimeoutError, LookupError) as error:
                last = error
                continue
            if master != self._master:
                _log.info("the user store's master is %s:%d", *master)
            self._master = master
            self._sentinels.remove(sentinel)
            self._sentinels.insert(0, sentinel)  # the next refresh begins with one that answers
            return
        raise last


class ClusterSlots(Topology):
    """A key is on the master of its slot, which is the hash of its tag: keys of one tag lie together."""

    def __init__(self, url: StoreUrl) -> None:
        """See ``Topology``."""
        super().__init__(url)
        self._slots: Sequence[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._masters: set[Address] = set()

    def address(self, key: bytes) -> Address | None:
        """See ``Topology.address``."""
        return self._slots[key_slot(key)]

    async def _find(self) -> None:
        nodes = list({*self._url.addresses, *self._masters})
        random.shuffle(nodes)  # one that is cut off from the others answers too
        last: Exception = LookupError("no node of the Cluster knows any slot")
        for node in nodes:
            try:
                ranges = await _ask(self._url.connection(node), "CLUSTER", "SLOTS")
            except (RedisError, OSError, TimeoutError) as error:
                last = error
                continue
            if ranges:
                slots: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
                masters = set()
                for first, end, master, *_ in ranges:
                    # a node that does not know its own address leaves it out
                    address = (master[0] or b"").decode() or node[0], int(master[1])
                    slots[first : end + 1] = [address] * (end + 1 - first)
                    masters.add(address)
                self._slots, self._masters = slots, masters
                return
        raise last


def topology_of(url: StoreUrl) -> Topology:
    """What finds the servers of this URL."""
    kinds: dict[Kind, type[Topology]] = {"standalone": OneServer, "sentinel": SentinelMaster, "cluster": ClusterSlots}
    return kinds[url.kind](url)


async def _ask(connection: AbstractConnection, *command: str) -> Any:
    """One command on a connection of its own."""
    try:
        async with asyncio.timeout(ASK_S):
            await connection.send_command(*command, check_health=False)
            return await connection.read_response()
    finally:
        await connection.disconnect(nowait=True)
