"""Which bundle answers whom."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from core.release import Release, Slot
from server.rungs.deadline import Deadline
from server.rungs.request_record import RequestRecord
from server.rungs.versions import Versions

USERS = [f"user-{i}" for i in range(2_000)]
STAGED = Release(Slot.GREEN, {Slot.BLUE: "v2", Slot.GREEN: "v1"})


def pipelines(*versions: str) -> dict[str, Any]:
    return {version: SimpleNamespace(bundle=SimpleNamespace(version=version)) for version in versions}


def answered(versions: Versions) -> list[str]:
    record = RequestRecord(Deadline.never())
    found = [cast("Any", versions.pipeline_for(user, record)).bundle.version for user in USERS]
    assert record.version == found[-1]
    return found


def test_everybody_is_answered_from_the_live_version_until_the_candidate_has_a_share() -> None:
    versions = Versions(pipelines("v1", "v2"), STAGED)
    before = answered(versions)
    versions.follow(STAGED.with_share(0.25))
    trial = answered(versions)
    versions.follow(STAGED.with_share(0.25).promote())

    assert set(before) == {"v1"}
    assert 0.2 < trial.count("v2") / len(USERS) < 0.3
    assert set(answered(versions)) == {"v2"}


def test_who_has_the_candidate_keeps_it_at_a_larger_share() -> None:
    versions = Versions(pipelines("v1", "v2"), STAGED.with_share(0.1))
    few = answered(versions)
    versions.follow(STAGED.with_share(0.4))
    more = answered(versions)

    assert 0 < few.count("v2") < more.count("v2")
    assert all(after == "v2" for before, after in zip(few, more, strict=True) if before == "v2")


def test_a_document_whose_live_version_is_not_loaded_changes_nothing() -> None:
    versions = Versions(pipelines("v1", "v2"), STAGED.with_share(0.25))
    before = answered(versions)

    assert not versions.follow(replace(STAGED, slots={Slot.BLUE: "v2", Slot.GREEN: "v9"}))
    assert versions.release == STAGED.with_share(0.25)
    assert answered(versions) == before


def test_users_of_a_candidate_that_is_not_loaded_are_answered_from_the_live_version() -> None:
    versions = Versions(pipelines("v1"), STAGED.with_share(1.0))

    assert set(answered(versions)) == {"v1"}
