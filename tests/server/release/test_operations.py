"""What operators ask for, against replicas that report what they have loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core.manifest import BundleError
from core.release import Release, ReleaseArgumentError, ReleaseError
from server.release.operations import Operations, UnknownVersionError
from server.release.release_store import LostRaceError, ReleaseStoreError
from tests.server.release.conftest import PATIENT_S
from tests.server.release.replicas import replica, report

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from server.release.release_store import ReleaseStore


@pytest.fixture
def ada(store: ReleaseStore) -> Operations:
    return Operations(store, "ada")


async def staged(store: ReleaseStore) -> Release:
    """v1 is live and v2 staged."""
    return await store.change(lambda _: Release.of("v1").stage("v2"), "somebody")


async def both_loaded(store: ReleaseStore) -> None:
    await report(store, replica("a", "v1", "v2"), replica("b", "v1", "v2"))


async def test_the_first_version_becomes_live_where_nobody_serves_yet(ada: Operations) -> None:
    first = await ada.stage("v1")

    assert (first.live_version, first.candidate, first.revision, first.changed_by) == ("v1", None, 1, "ada")


async def test_the_first_version_has_all_users_so_that_a_share_of_it_is_refused(
    ada: Operations, store: ReleaseStore
) -> None:
    with pytest.raises(ReleaseArgumentError, match="v1 is the first version and becomes live"):
        await ada.stage("v1", 0.1)
    assert await store.read() is None


async def test_what_the_replicas_answer_from_is_live_when_the_first_version_is_staged(
    ada: Operations, store: ReleaseStore
) -> None:
    await report(store, replica("a", "v1"), replica("b", "v1"), replica("starts", answers_from=None))
    first = await ada.stage("v2")

    assert (first.live_version, first.candidate, first.candidate_share, first.revision) == ("v1", "v2", 0.0, 1)
    assert first.note == "v1, which all replicas answer from, is live; v2 staged in green at 0 %"


async def test_staging_what_all_replicas_answer_from_makes_it_live(ada: Operations, store: ReleaseStore) -> None:
    await report(store, replica("a", "v1"))
    first = await ada.stage("v1")

    assert first.versions == {"v1"}


async def test_where_replicas_answer_from_different_versions_one_of_these_is_staged_first(
    ada: Operations, store: ReleaseStore
) -> None:
    await report(store, replica("a", "v1"), replica("b", "v2"))

    with pytest.raises(ReleaseError, match=r"different versions \(a: v1; b: v2\)"):
        await ada.stage("v3")
    assert (await ada.stage("v2")).live_version == "v2"


async def test_a_version_that_nobody_answers_from_is_made_live_by_force(ada: Operations, store: ReleaseStore) -> None:
    await report(store, replica("a", "v1"), replica("b", "v2"))

    assert (await ada.stage("v3", force=True)).live_version == "v3"


@pytest.mark.parametrize("known", [["v1", "v3"], [], None], ids=["others", "empty", "no folder"])
async def test_a_version_without_a_bundle_is_not_staged(store: ReleaseStore, known: list[str] | None) -> None:
    def look() -> list[str]:
        if known is None:
            raise BundleError("build/bundles: holds no finished bundle")
        return known

    one = await staged(store)
    with pytest.raises(UnknownVersionError, match=r"no bundle of version v9|holds no"):
        await Operations(store, "ada", known_versions=look).stage("v9", force=True)
    assert await store.read() == one


async def test_a_version_that_has_a_bundle_is_staged(store: ReleaseStore) -> None:
    await staged(store)

    assert (await Operations(store, "ada", known_versions=lambda: ["v3"]).stage("v3")).candidate == "v3"


async def test_a_share_waits_for_every_replica_that_reports(ada: Operations, store: ReleaseStore) -> None:
    one = await staged(store)
    await report(
        store,
        replica("a", "v1", "v2"),
        replica("b", "v1"),
        replica("c", "v1", rejected={"v2": "items.npy: its SHA-256 is not the manifest's"}),
    )

    for refused in (lambda: ada.share(0.1), ada.promote):
        with pytest.raises(ReleaseError, match="v2 is not loaded everywhere: 1 of 3 ready") as error:
            await refused()
        assert "replica b: v2 is not loaded yet (loaded: v1)" in str(error.value)
        assert "replica c: v2 was refused: items.npy" in str(error.value)
    assert await store.read() == one

    await report(store, replica("b", "v1", "v2"), replica("c", "v1", "v2"))
    assert (await ada.share(0.1)).candidate_share == 0.1
    assert (await ada.promote()).live_version == "v2"


async def test_of_many_replicas_that_are_not_ready_the_first_few_are_named(
    ada: Operations, store: ReleaseStore
) -> None:
    await staged(store)
    await report(store, *(replica(f"r{n}", "v1") for n in range(9)))

    with pytest.raises(ReleaseError, match=r"0 of 9 ready; replica r0: .*; replica r2: .*; and 6 more"):
        await ada.promote()


async def test_where_no_replica_reports_nothing_is_promoted_unless_forced(ada: Operations, store: ReleaseStore) -> None:
    await staged(store)

    with pytest.raises(ReleaseError, match="no replica reports"):
        await ada.promote()
    assert (await ada.promote(force=True)).note.endswith("(forced)")


async def test_users_are_taken_back_whatever_the_replicas_say(ada: Operations, store: ReleaseStore) -> None:
    await staged(store)
    await ada.share(0.5, force=True)
    await report(store, replica("a", "v1"))

    assert (await ada.share(0.1)).candidate_share == 0.1
    assert (await ada.share(0)).candidate_share == 0
    await ada.promote(force=True)
    assert (await ada.rollback("slow")).live_version == "v1"


async def test_lists_that_are_not_complete_keep_a_version_from_being_promoted_unless_forced(
    store: ReleaseStore,
) -> None:
    async def complete(version: str) -> str | None:
        return f"{version} has lists of 3 of 10 users" if version == "v2" else None

    ada = Operations(store, "ada", promotion_check=complete)
    await staged(store)
    await report(store, replica("a", "v1", "v2", "v3"))

    with pytest.raises(
        ReleaseError, match=r"v2 cannot be promoted yet: v2 has lists of 3 of 10 users\. Or use --force"
    ):
        await ada.promote()
    assert (await ada.promote(force=True)).live_version == "v2"
    await ada.stage("v3")
    assert (await ada.promote()).live_version == "v3"


async def test_a_frozen_version_is_not_promoted_by_anyone_without_force(ada: Operations, store: ReleaseStore) -> None:
    await staged(store)
    await both_loaded(store)
    await ada.freeze("v2", "it was worse")

    for refused in (ada.promote, lambda: ada.share(0.1), lambda: ada.stage("v2")):
        with pytest.raises(ReleaseError, match="frozen: it was worse"):
            await refused()
    await ada.unfreeze("v2")
    assert (await ada.promote()).live_version == "v2"


async def test_a_change_that_was_decided_on_another_revision_is_refused_with_what_there_is(
    ada: Operations, store: ReleaseStore
) -> None:
    one = await staged(store)
    await both_loaded(store)
    bob = Operations(store, "bob")
    await bob.share(0.2, expected_revision=one.revision)
    calls: tuple[Callable[[], Awaitable[Release]], ...] = (
        lambda: ada.stage("v3", expected_revision=1),
        lambda: ada.share(0.1, expected_revision=1),
        lambda: ada.promote(expected_revision=1),
        lambda: ada.rollback(expected_revision=1),
        lambda: ada.freeze("v2", "slow", expected_revision=1),
        lambda: ada.unfreeze("v2", expected_revision=1),
        lambda: ada.stage("v3", expected_revision=0),
    )

    for refused in calls:
        with pytest.raises(LostRaceError, match=r"revision 2 is there already, by bob at .*: v2 at 20 %"):
            await refused()


async def test_what_was_checked_is_what_is_written(store: ReleaseStore) -> None:
    """Somebody stages another version while the lists of this one are looked at."""

    async def meanwhile(_: str) -> None:
        await Operations(store, "bob").stage("v3")

    await staged(store)
    await report(store, replica("a", "v1", "v2", "v3"))

    with pytest.raises(LostRaceError, match="by bob"):
        await Operations(store, "ada", promotion_check=meanwhile).promote()
    found = await store.read()
    assert found is not None
    assert (found.live_version, found.candidate) == ("v1", "v3")


async def test_without_a_release_there_is_nothing_to_change(ada: Operations, store: ReleaseStore) -> None:
    calls = (
        lambda: ada.share(0.1),
        ada.promote,
        ada.rollback,
        lambda: ada.freeze("v2", "slow"),
        lambda: ada.unfreeze("v2"),
    )
    for refused in calls:
        with pytest.raises(ReleaseError, match=f"no release in namespace {store.namespace}; begin one with"):
            await refused()


def replicas_that(*steps: Callable[[], Awaitable[object]]) -> Callable[[float], Awaitable[None]]:
    """What goes on while ``stage`` waits: one step in each of its pauses."""
    left = list(steps)

    async def sleep(_: float) -> None:
        await left.pop(0)()

    return sleep


async def test_a_share_is_given_once_every_replica_has_loaded_what_was_staged(store: ReleaseStore) -> None:
    first = await store.change(lambda _: Release.of("v1"), "somebody")
    seen: list[float] = []

    async def one_has_it() -> None:
        await report(store, replica("a", "v1", "v2"))
        found = await store.read()
        assert found is not None
        seen.append(found.candidate_share)

    sleep = replicas_that(one_has_it, lambda: report(store, replica("b", "v1", "v2")))
    await report(store, replica("a", "v1"), replica("b", "v1"))
    shared = await Operations(store, "ada", sleep=sleep).stage("v2", 0.05, wait_s=PATIENT_S)

    assert seen == [0.0]
    assert (shared.candidate_share, shared.revision) == (0.05, first.revision + 2)


async def test_a_version_that_a_replica_refuses_is_not_waited_for(store: ReleaseStore) -> None:
    await store.change(lambda _: Release.of("v1"), "somebody")
    sleep = replicas_that(lambda: report(store, replica("b", "v1", rejected={"v2": "golden"})))
    await report(store, replica("a", "v1", "v2"), replica("b", "v1"))

    with pytest.raises(ReleaseError, match="v2 is staged, but not given to 5 % of the users: 1 of 2 ready; replica b"):
        await Operations(store, "ada", sleep=sleep).stage("v2", 0.05, wait_s=PATIENT_S)
    found = await store.read()
    assert found is not None
    assert (found.candidate, found.candidate_share) == ("v2", 0.0)


async def test_replicas_are_not_waited_for_longer_than_was_said(ada: Operations, store: ReleaseStore) -> None:
    await store.change(lambda _: Release.of("v1"), "somebody")
    await report(store, replica("a", "v1"))

    with pytest.raises(ReleaseError, match=r"after 0\.01 s .*use `terrace release share 0\.05` once all are ready"):
        await ada.stage("v2", 0.05, wait_s=0.01)


async def test_who_waits_is_told_when_somebody_else_changes_the_release(store: ReleaseStore) -> None:
    await store.change(lambda _: Release.of("v1"), "somebody")
    await report(store, replica("a", "v1"))
    sleep = replicas_that(lambda: Operations(store, "bob").freeze("v2", "not this one"))

    with pytest.raises(LostRaceError, match=r"by bob at .*: v2 frozen: not this one"):
        await Operations(store, "ada", sleep=sleep).stage("v2", 0.05, wait_s=PATIENT_S)


async def test_a_share_that_is_forced_waits_for_nobody(ada: Operations, store: ReleaseStore) -> None:
    await store.change(lambda _: Release.of("v1"), "somebody")

    assert (await ada.stage("v2", 0.05, force=True)).candidate_share == 0.05


async def test_staging_the_same_again_leaves_its_users_alone_unless_another_share_is_named(
    ada: Operations, store: ReleaseStore
) -> None:
    await staged(store)
    await both_loaded(store)
    await ada.share(0.2)

    assert (await ada.stage("v2")).candidate_share == 0.2
    assert (await ada.stage("v2", 0.1)).candidate_share == 0.1
    assert (await ada.stage("v2", 0.3)).candidate_share == 0.3


async def test_status_says_who_could_not_give_users_what_the_document_names(
    ada: Operations, store: ReleaseStore
) -> None:
    one = await staged(store)
    await report(store, replica("a", "v1", "v2"), replica("b", "v2"), replica("c", "v1"))
    status = await ada.status()

    assert status.release == one
    assert [each.replica_id for each in status.replicas] == ["a", "b", "c"]
    assert set(status.not_ready) == {"b", "c"}


async def test_a_store_that_is_away_is_one_clear_error(store: ReleaseStore, ada: Operations) -> None:
    away = type(store)("redis://127.0.0.1:1", "ns", timeout_s=PATIENT_S)
    with pytest.raises(ReleaseStoreError, match="cannot be reached"):
        await Operations(away, "ada").stage("v2")
    await away.close()
    assert (await ada.status()).release is None


@pytest.mark.parametrize("by", ["", " ", "x" * 129, "a\nb"])
def test_somebody_makes_a_change(store: ReleaseStore, by: str) -> None:
    with pytest.raises(ReleaseArgumentError, match="who makes a change"):
        Operations(store, by)


@pytest.mark.parametrize("share", [-1, 2, float("nan")])
async def test_a_share_out_of_bounds_changes_nothing(ada: Operations, store: ReleaseStore, share: float) -> None:
    one = await staged(store)
    for refused in (lambda: ada.share(share), lambda: ada.stage("v3", share)):
        with pytest.raises(ReleaseArgumentError, match="between 0 and 1"):
            await refused()
    assert await store.read() == one
