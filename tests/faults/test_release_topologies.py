"""The release document behind Sentinels and in a Cluster: through a failover, and while its slot moves."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING, TypeVar

import pytest
from redis.crc import key_slot

from core.release import Release
from server.release.release_store import ReleaseStore, ReleaseStoreError
from tests.faults.valkeys import SERVICE, cluster, sentinel_set_up, wait_until
from tests.server.release.replicas import replica, report

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from tests.faults.valkeys import Cluster, SentinelSetUp

FOUND_S = 30.0
T = TypeVar("T")


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[SentinelSetUp]:
    with sentinel_set_up(tmp_path / "servers") as set_up:
        yield set_up


@pytest.fixture(scope="module")
def three_masters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster") / "servers") as three:
        yield three


@pytest.fixture
async def clustered(three_masters: Cluster) -> AsyncIterator[ReleaseStore]:
    store = ReleaseStore(three_masters.url, uuid.uuid4().hex, timeout_s=FOUND_S)
    yield store
    await store.close()


async def sooner_or_later(work: Callable[[], Awaitable[T]]) -> T:
    """The result, once the store is found again."""
    end_s = time.monotonic() + FOUND_S
    while True:
        try:
            return await work()
        except ReleaseStoreError:
            assert time.monotonic() < end_s
            await asyncio.sleep(0.05)


def first(_: Release | None) -> Release:
    return Release.of("v1")


def staged(release: Release | None) -> Release:
    return (release or Release.of("v0")).stage("v2")


async def test_after_a_failover_the_document_is_read_and_changed_on_the_new_master(sentinels: SentinelSetUp) -> None:
    store = ReleaseStore(sentinels.url, "ns", timeout_s=FOUND_S)
    one = await store.change(first, "ada")
    old, new = sorted(sentinels.servers, key=lambda server: server.port != sentinels.master_port)
    wait_until(lambda: new.ask("EXISTS", store.key), "the replica has the document")
    old.kill()
    wait_until(lambda: sentinels.master_port == new.port, f"a new master of {SERVICE}")

    assert await sooner_or_later(store.read) == one
    two = await sooner_or_later(lambda: store.change(staged, "ada"))
    await sooner_or_later(lambda: store.report(replica("a", "v1")))
    found = await store.replicas()
    await store.close()

    assert (two.revision, two.document_id) == (2, one.document_id)
    assert [each.replica_id for each in found] == ["a"]


async def test_in_a_cluster_a_document_lies_on_one_node_and_its_replicas_may_on_another(
    clustered: ReleaseStore,
) -> None:
    one = await clustered.change(first, "ada")
    await report(clustered, replica("a", "v1"))

    assert await clustered.read() == one
    assert [each.replica_id for each in await clustered.replicas()] == ["a"]


async def test_a_document_whose_slot_moves_is_read_and_changed_all_the_while(
    clustered: ReleaseStore, three_masters: Cluster
) -> None:
    one = await clustered.change(first, "ada")
    slot = key_slot(clustered.key.encode())
    source, target = three_masters.begin_move(slot)
    before = await clustered.read()
    three_masters.move_keys(slot, source, target)
    two = await clustered.change(staged, "ada")
    three_masters.end_move(slot, target)
    after = await clustered.read()

    assert (before, after) == (one, two)
    assert two.revision == 2
