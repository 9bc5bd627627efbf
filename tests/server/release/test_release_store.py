"""The release document in a real Valkey: two operators, damage, rights, a store that is away, clocks that jump."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.release import Release, ReleaseDocumentError, ReleaseError
from server.release.release_store import STALE_S, LostRaceError, ReleaseStore, ReleaseStoreError
from server.release.replica_report import ReplicaReport
from tests.server.release.conftest import PATIENT_S
from tests.server.release.replicas import replica, report

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis


def first(_: Release | None) -> Release:
    return Release.of("v1")


def staged(release: Release | None) -> Release:
    assert release is not None
    return release.stage("v2", 0.1)


async def test_there_is_no_document_until_somebody_makes_one(store: ReleaseStore) -> None:
    assert await store.read() is None

    written = await store.change(first, "ada")

    assert await store.read() == written
    assert (written.live_version, written.revision, written.changed_by) == ("v1", 1, "ada")
    assert written.document_id


async def test_every_change_is_one_revision_of_the_same_document_however_many_steps_it_has(store: ReleaseStore) -> None:
    one = await store.change(first, "ada")
    two = await store.change(lambda _: one.stage("v2", 0.5).rollback("slow").freeze("v2", "slow"), "guard")

    assert (two.revision, two.document_id, two.changed_by) == (2, one.document_id, "guard")
    assert two.frozen == {"v2": "slow"}


async def test_of_two_operators_at_once_the_second_is_told_what_the_first_did(valkey: str, store: ReleaseStore) -> None:
    """Both look at revision 1 before either writes."""
    await store.change(first, "ada")

    def meanwhile(release: Release | None) -> Release:
        other = "import asyncio, sys; from tests.server.release.test_release_store import change; asyncio.run(change(*sys.argv[1:]))"
        subprocess.run([sys.executable, "-c", other, valkey, store.namespace], check=True)
        return staged(release)

    with pytest.raises(LostRaceError, match=r"revision 2 is there already, by bob at .*: v9 staged .* repeat"):
        await store.change(meanwhile, "ada")

    found = await store.read()
    assert found is not None
    assert (found.candidate, found.revision) == ("v9", 2)


async def change(url: str, namespace: str) -> None:
    """What the other operator does."""
    store = ReleaseStore(url, namespace, timeout_s=PATIENT_S)
    await store.change(lambda release: (release or Release.of("v1")).stage("v9"), "bob")
    await store.close()


async def test_of_many_operators_at_once_each_write_is_one_revision_and_the_others_are_told(
    valkey: str, store: ReleaseStore
) -> None:
    await store.change(first, "ada")
    stores = [ReleaseStore(valkey, store.namespace, timeout_s=PATIENT_S) for _ in range(8)]
    outcomes = await asyncio.gather(
        *(each.change(staged, f"operator {n}") for n, each in enumerate(stores)), return_exceptions=True
    )
    written = [outcome for outcome in outcomes if isinstance(outcome, Release)]

    assert all(isinstance(outcome, Release | LostRaceError) for outcome in outcomes)
    assert sorted(release.revision for release in written) == list(range(2, 2 + len(written)))
    assert await store.read() in written
    for each in stores:
        await each.close()


async def test_a_document_that_is_deleted_meanwhile_is_not_made_again_by_accident(
    store: ReleaseStore, client: Redis, valkey: str
) -> None:
    await store.change(first, "ada")

    def meanwhile(release: Release | None) -> Release:
        delete = f"import redis; redis.Redis.from_url({valkey!r}).delete({store.key!r})"
        subprocess.run([sys.executable, "-c", delete], check=True)
        return staged(release)

    with pytest.raises(LostRaceError, match="there is no release document"):
        await store.change(meanwhile, "ada")
    assert await client.exists(store.key) == 0


async def test_a_document_that_is_made_anew_is_another_one(store: ReleaseStore, client: Redis) -> None:
    one = await store.change(first, "ada")
    await client.delete(store.key)
    two = await store.change(first, "ada")

    assert one.revision == two.revision == 1
    assert one.document_id != two.document_id


@pytest.mark.parametrize(
    ("stored", "said"),
    [(b'{"format_version": 2}', "format_version 2"), (b"{", "is not readable"), (b"", "is not readable")],
)
async def test_a_document_of_another_format_is_named_by_its_key_and_stays_as_it_is(
    store: ReleaseStore, client: Redis, stored: bytes, said: str
) -> None:
    await client.set(store.key, stored)

    for refused in (store.read, lambda: store.change(first, "ada")):
        with pytest.raises(ReleaseDocumentError, match=said) as error:
            await refused()
        assert store.key in str(error.value)
    assert await client.get(store.key) == stored


async def test_a_key_of_another_type_is_an_error_of_the_store(store: ReleaseStore, client: Redis) -> None:
    await client.lpush(store.key, "x")

    with pytest.raises(ReleaseStoreError, match="WRONGTYPE"):
        await store.read()


async def test_what_a_change_refuses_leaves_the_document_as_it_was(store: ReleaseStore) -> None:
    one = await store.change(first, "ada")

    with pytest.raises(ReleaseError, match="no version is staged"):
        await store.change(lambda _: one.promote(), "ada")
    assert await store.read() == one


async def test_a_wall_clock_that_jumps_back_changes_no_order(valkey: str, namespace: str) -> None:
    hours = iter([3600.0, 0.0, 7200.0])
    store = ReleaseStore(valkey, namespace, timeout_s=PATIENT_S, now_s=lambda: next(hours))
    one = await store.change(first, "ada")
    two = await store.change(staged, "ada")
    three = await store.change(lambda _: two.promote(), "ada")
    await store.close()

    assert [each.revision for each in (one, two, three)] == [1, 2, 3]
    assert [each.changed_at[11:16] for each in (one, two, three)] == ["01:00", "00:00", "02:00"]


@pytest.fixture
async def restricted(valkey: str, namespace: str, client: Redis) -> AsyncIterator[str]:
    """URL of a user who may look at everything and change nothing."""
    await client.execute_command("ACL", "SETUSER", namespace, "on", ">hunter2", "~*", "+@read", "+eval", "+time")
    yield valkey.replace("unix://", f"unix://{namespace}:hunter2@")
    await client.execute_command("ACL", "DELUSER", namespace)


async def test_a_url_without_rights_is_told_what_it_needs_and_may_still_look(
    restricted: str, namespace: str, store: ReleaseStore
) -> None:
    await store.change(first, "ada")
    await report(store, replica("a", "v1"))
    looking = ReleaseStore(restricted, namespace, timeout_s=PATIENT_S)

    assert (await looking.read(), len(await looking.replicas())) == (await store.read(), 1)
    for refused in (lambda: looking.change(staged, "eve"), lambda: looking.report(replica("b"))):
        with pytest.raises(ReleaseStoreError, match="the store refuses this user") as error:
            await refused()
        assert f"SET, DEL, HGETALL, HSET, HDEL and EXPIRE on {store.key}" in str(error.value)
        assert "hunter2" not in str(error.value)
    await looking.close()


async def test_a_wrong_password_is_told_from_a_store_that_is_away(restricted: str, namespace: str) -> None:
    store = ReleaseStore(restricted.replace("hunter2", "hunter3"), namespace, timeout_s=PATIENT_S)

    with pytest.raises(ReleaseStoreError, match="the store refuses this user") as error:
        await store.read()
    assert "hunter3" not in str(error.value)
    await store.close()


async def test_nobody_there_is_one_clear_error_without_the_password(namespace: str) -> None:
    store = ReleaseStore("redis://:hunter2@127.0.0.1:1", namespace, timeout_s=PATIENT_S)

    calls = (store.read, store.replicas, lambda: store.change(first, "ada"), lambda: store.report(replica("a")))
    for refused in calls:
        with pytest.raises(ReleaseStoreError, match=r"cannot be reached.*Is it up") as error:
            await refused()
        assert "hunter2" not in str(error.value)
    await store.close()


async def test_a_store_that_never_answers_is_waited_for_no_longer_than_was_said(namespace: str) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    store = ReleaseStore(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", namespace, timeout_s=0.05)

    async with asyncio.timeout(PATIENT_S):
        with pytest.raises(ReleaseStoreError, match=r"cannot be reached within 0\.05 s"):
            await store.read()
    await store.close()
    server.close()


async def test_a_change_that_was_not_answered_may_have_been_made_and_says_so(
    valkey: str, store: ReleaseStore, client: Redis
) -> None:
    """The store answered the look, and lets the write wait."""
    pause = f"import redis; redis.Redis.from_url({valkey!r}).execute_command('CLIENT', 'PAUSE', 600000, 'WRITE')"

    def paused(release: Release | None) -> Release:
        subprocess.run([sys.executable, "-c", pause], check=True)
        store._timeout_s = 0.05
        return first(release)

    try:
        with pytest.raises(ReleaseStoreError, match="not known whether the change was made"):
            await store.change(paused, "ada")
    finally:
        await client.execute_command("CLIENT", "UNPAUSE")


@pytest.mark.parametrize("url", ["http://x", "redis://"])
def test_a_url_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="store URL"):
        ReleaseStore(url, "ns")


def test_a_namespace_has_no_braces() -> None:
    with pytest.raises(ValueError, match="braces"):
        ReleaseStore("redis://localhost", "a{b}")


async def test_replicas_are_as_they_reported_last_in_the_order_of_their_ids(store: ReleaseStore) -> None:
    await report(store, replica("b", "v1"), replica("a"), replica("b", "v1", "v2", rejected={"v3": "damaged"}))
    found = await store.replicas()

    assert [each.replica_id for each in found] == ["a", "b"]
    assert abs(found[1].at_s - time.time()) < 3600  # the store runs on this machine
    assert replace(found[1], at_s=0.0) == replica("b", "v1", "v2", rejected={"v3": "damaged"})


async def test_who_has_not_reported_for_a_while_is_gone_and_removed_by_the_next_who_reports(
    store: ReleaseStore, client: Redis
) -> None:
    """Also a report from the future, where the store's clock jumped back: it would never grow old."""
    now = (await client.time())[0]
    key = f"terrace:{store.namespace}:replicas"
    text = replica("x", "v1").to_json()
    for replica_id, at in (("old", now - STALE_S - 5), ("future", now + 3600), ("broken", "soon"), ("here", now)):
        await client.hset(key, replica_id, f"{at} {text}")

    seen = [each.replica_id for each in await store.replicas()]
    await report(store, replica("new", "v1"))

    assert seen == ["here"]
    assert {name.decode() for name in await client.hkeys(key)} - {"here"} == {"new"}
    assert 0 < await client.ttl(key) <= 2 * STALE_S


async def test_a_report_of_another_format_is_a_replica_that_is_there_and_not_ready(
    store: ReleaseStore, client: Redis
) -> None:
    now = (await client.time())[0]
    key = f"terrace:{store.namespace}:replicas"
    await client.hset(key, "newer", f"{now} {json.dumps({'format_version': 9})}")
    await client.hset(key, "damaged", f"{now} {{")
    damaged, newer = await store.replicas()

    assert "format_version 9" in str(newer.missing("v1"))
    assert "not readable" in str(damaged.missing("v1"))


REPORT = json.loads(replica("a", "v1").to_json())


@pytest.mark.parametrize(
    "wrong",
    [
        {"loaded": "v1"},
        {"loaded": [1]},
        {"rejected": ["v2"]},
        {"rejected": {"v2": None}},
        {"host": 7},
        {"revision": "1"},
        {"workers_ready": True},
        {"answers_from": 3},
        {"more": 1},
    ],
)
def test_a_report_with_a_wrong_field_is_not_taken_for_a_replica_that_is_ready(wrong: dict[str, object]) -> None:
    assert ReplicaReport.from_json("a", json.dumps(REPORT), 1.0).missing("v1") is None
    assert "its report" in str(ReplicaReport.from_json("a", json.dumps(REPORT | wrong), 1.0).missing("v1"))


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_no_bytes_of_a_report_raise(text: bytes | str) -> None:
    assert ReplicaReport.from_json("a", text, 1.0).missing("v1")


def test_a_replica_without_workers_or_that_refused_a_version_cannot_give_it_to_users() -> None:
    assert replica("a", "v1", "v2").missing("v2") is None
    assert "not loaded yet (loaded: v1)" in str(replica("a", "v1").missing("v2"))
    assert "refused: sha" in str(replica("a", "v1", "v2", rejected={"v2": "sha"}).missing("v2"))
    assert "none of its 4 workers" in str(replica("a", "v1", workers_ready=0, workers_wanted=4).missing("v1"))


def test_what_follows_the_document_loads_neither_grpc_nor_numpy() -> None:
    """The supervisor forks."""
    modules = (
        "server.release.follower, server.release.local_copy, server.release.operations, server.release.release_store"
    )
    program = f"import sys, {modules}; print(sorted({{'grpc', 'numpy', 'google.protobuf'}} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
