"""What a replica goes by while the store comes, goes, loses changes or holds something else."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

import pytest

from core.release import Release
from server.release.follower import FollowState, ReleaseFollower
from server.release.local_copy import LocalCopy
from server.release.release_store import ReleaseStore
from server.store.embedded import EmbeddedStore
from tests.server.release.conftest import PATIENT_S

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis


class Replica:
    """A follower, and every document that it was given."""

    def __init__(self, store: ReleaseStore, path: Path) -> None:
        self.taken: list[Release] = []
        self.copy = LocalCopy(path)
        self.refuses = 0
        self.follower = ReleaseFollower(store, self.copy, self.take)

    def take(self, release: Release) -> None:
        if self.refuses:
            self.refuses -= 1
            raise RuntimeError("the generation did not start")
        self.taken.append(release)

    async def look(self) -> FollowState | None:
        await self.follower.look()
        return self.follower.state


@pytest.fixture
def replica(store: ReleaseStore, tmp_path: Path) -> Replica:
    return Replica(store, tmp_path / "release.json")


async def begin(store: ReleaseStore) -> Release:
    return await store.change(lambda _: Release.of("v1").stage("v2"), "ada")


async def share(store: ReleaseStore, part: float) -> Release:
    return await store.change(lambda release: (release or Release.of("v1")).with_share(part), "ada")


async def test_every_new_document_is_given_once_and_copied(store: ReleaseStore, replica: Replica) -> None:
    assert await replica.look() is FollowState.ABSENT
    one = await begin(store)
    assert [await replica.look(), await replica.look()] == [FollowState.CURRENT] * 2
    two = await share(store, 0.1)
    await replica.look()

    assert replica.taken == [one, two]
    assert replica.follower.release == replica.copy.read() == two
    assert replica.follower.counts[FollowState.CURRENT] == 3


async def test_a_replica_starts_from_its_copy_while_the_store_is_away(tmp_path: Path) -> None:
    kept = Release.of("v1").stage("v2", 0.2)
    store = ReleaseStore("redis://127.0.0.1:1", "ns", timeout_s=PATIENT_S)
    replica = Replica(store, tmp_path / "release.json")
    replica.copy.write(kept)

    assert await replica.look() is FollowState.AWAY
    assert await replica.look() is FollowState.AWAY
    assert replica.taken == [kept]
    await store.close()


async def test_a_store_that_has_lost_everything_does_not_make_a_replica_forget_when_it_starts_again(
    replica: Replica,
) -> None:
    kept = Release.of("v1").stage("v2", 0.2)
    replica.copy.write(kept)

    assert await replica.look() is FollowState.ABSENT
    assert replica.taken == [kept]


async def test_the_store_is_asked_before_the_copy(store: ReleaseStore, replica: Replica) -> None:
    replica.copy.write(Release.of("v0"))
    one = await begin(store)
    await replica.look()

    assert replica.taken == [one]


async def test_a_damaged_copy_is_none(store: ReleaseStore, replica: Replica, caplog: pytest.LogCaptureFixture) -> None:
    replica.copy.path.write_text("{")
    await replica.look()
    one = await begin(store)
    await replica.look()

    assert replica.taken == [one]
    assert "is ignored" in caplog.text


async def test_while_the_store_is_away_the_release_stays_and_what_happened_meanwhile_is_taken_when_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A store that is stopped and started again with its data, at the same address."""
    caplog.set_level(logging.INFO, "server.release.follower")
    store_now = EmbeddedStore(tmp_path / "data")
    link = tmp_path / "link.sock"
    link.symlink_to(store_now.url.removeprefix("unix://"))
    store = ReleaseStore(f"unix://{link}", "ns", timeout_s=PATIENT_S)
    replica = Replica(store, tmp_path / "release.json")
    one = await begin(store)
    await replica.look()

    store_now.stop()
    away = [await replica.look() for _ in range(3)]
    store_again = EmbeddedStore(tmp_path / "data")
    link.unlink()
    link.symlink_to(store_again.url.removeprefix("unix://"))
    back = await replica.look()
    two = await share(store, 0.1)
    await replica.look()
    await store.close()
    store_again.stop()

    assert (away, back) == ([FollowState.AWAY] * 3, FollowState.CURRENT)
    assert replica.taken == [one, two]
    assert replica.follower.counts[FollowState.AWAY] == 3
    said = [message.split(";")[0] for message in caplog.messages]
    assert said == ["release document: current", "release document: away", "release document: current"]
    assert f"keeping revision {one.revision}" in caplog.text


@pytest.mark.parametrize("stored", [b'{"format_version": 2}', b"{"])
async def test_a_document_of_another_format_changes_nothing_and_is_said_once(
    store: ReleaseStore, client: Redis, replica: Replica, caplog: pytest.LogCaptureFixture, stored: bytes
) -> None:
    one = await begin(store)
    await replica.look()
    await client.set(store.key, stored)

    assert [await replica.look() for _ in range(3)] == [FollowState.UNREADABLE] * 3
    assert replica.follower.release == replica.copy.read() == one
    assert caplog.text.count(store.key) == 1


async def test_a_store_that_has_lost_changes_takes_no_replica_back(
    store: ReleaseStore, client: Redis, replica: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a failover to a copy that had not heard of the last change; then the operator repeats it."""
    await begin(store)
    old = await client.get(store.key)
    newer = await share(store, 0.1)
    await replica.look()
    await client.set(store.key, old)

    assert await replica.look() is FollowState.BEHIND
    assert replica.taken == [newer]
    assert "lost changes; keeping revision 2" in caplog.text

    repeated = await share(store, 0.2)
    assert repeated.revision == newer.revision
    assert await replica.look() is FollowState.CURRENT
    assert replica.taken == [newer, repeated]


async def test_a_document_that_was_deleted_stays_in_hand_until_it_is_made_anew(
    store: ReleaseStore, client: Redis, replica: Replica
) -> None:
    await begin(store)
    two = await share(store, 0.1)
    await replica.look()
    await client.delete(store.key)
    assert await replica.look() is FollowState.ABSENT
    assert replica.follower.release == two

    anew = await begin(store)
    assert anew.revision < two.revision
    assert await replica.look() is FollowState.CURRENT
    assert replica.follower.release == replica.copy.read() == anew


async def test_a_document_that_could_not_be_taken_is_tried_again(
    store: ReleaseStore, replica: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    one = await begin(store)
    replica.refuses = 2
    states = [await replica.look() for _ in range(3)]

    assert states == [FollowState.FAILED, FollowState.FAILED, FollowState.CURRENT]
    assert replica.taken == [one]
    assert caplog.text.count("the generation did not start") >= 1


async def test_a_copy_that_could_not_be_written_is_counted_and_written_later(
    store: ReleaseStore, replica: Replica
) -> None:
    replica.copy.path.mkdir()
    one = await begin(store)
    states = [await replica.look(), await replica.look()]
    replica.copy.path.rmdir()
    states.append(await replica.look())

    assert states == [FollowState.CURRENT] * 3
    assert replica.taken == [one]
    assert replica.follower.copy_failures == 2
    assert replica.copy.read() == one


async def test_following_goes_on_through_everything_until_it_is_cancelled(
    store: ReleaseStore, client: Redis, tmp_path: Path
) -> None:
    """Between two looks something else happens to the store; the pauses are the follower's own and take no time."""
    begun = await begin(store)
    events = deque(
        [
            client.set(store.key, "{"),
            client.delete(store.key),
            begin(store),
            share(store, 0.3),
        ]
    )
    taken: list[Release] = []
    pauses: list[float] = []
    over = asyncio.Event()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if events:
            await events.popleft()
        else:
            over.set()
            await asyncio.Event().wait()

    follower = ReleaseFollower(store, LocalCopy(tmp_path / "copy"), taken.append, period_s=0.25, sleep=sleep)
    following = asyncio.create_task(follower.run())
    await asyncio.wait_for(over.wait(), PATIENT_S)
    following.cancel()
    await asyncio.wait([following])

    assert following.cancelled()
    assert [release.candidate_share for release in taken] == [0.0, 0.0, 0.3]
    assert taken[0] == begun
    assert set(pauses) == {0.25}
    assert follower.counts[FollowState.UNREADABLE] == follower.counts[FollowState.ABSENT] == 1
