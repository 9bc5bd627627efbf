"""Records of precompute runs: shards divide the users, parts add up, and who may go on with what."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.precompute_record import (
    RESUMABLE_SHARE,
    SAMPLED,
    Counts,
    PrecomputeError,
    Shard,
    ShardRecord,
    Task,
    begin,
    place_of,
)

TTL_S = 1_000.0
TASK = Task("v1", "ab" * 32, 60, Shard(0, 2), "all, of the store", 100, TTL_S)
RECORD = ShardRecord(TASK, "run-1", 1, 100.0, 100.0)
HALF = replace(RECORD, position="5" * 32, counts=Counts(users=3, written=3))
COMPLETE = replace(HALF, complete=True)

ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
numbers = st.integers(0, 1000)
reasons = st.dictionaries(st.sampled_from(["failed", "late", "no_candidates"]), st.integers(1, 9))
counts = st.builds(Counts, numbers, numbers, numbers, numbers, reasons, numbers, reasons)


@given(st.sets(ids), st.integers(1, 12))
def test_every_user_belongs_to_one_shard(users: set[str], count: int) -> None:
    owners = {user: [i for i in range(count) if Shard(i, count).owns(place_of(user))] for user in users}

    assert all(len(found) == 1 for found in owners.values())


def test_shards_are_of_like_size() -> None:
    places = [place_of(f"user-{n}") for n in range(10_000)]

    sizes = [sum(Shard(i, 8).owns(place) for place in places) for i in range(8)]

    assert min(sizes) > 1_000
    assert sum(sizes) == len(places)


def test_a_users_place_is_the_same_everywhere() -> None:
    assert place_of("ada") == "c6ef43c47f8c23627ee5b9f8f5cb406c"


@pytest.mark.parametrize("text", ["", "1", "0/0", "2/2", "-1/2", "a/b", "1/2/3", "٣/4"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected INDEX/COUNT|are numbered"):
        Shard.parse(text)


@given(counts, st.lists(ids, max_size=5), st.booleans())
def test_a_record_comes_back_as_it_was_and_is_written_the_same_again(
    found: Counts, sample: list[str], complete: bool
) -> None:
    record = replace(RECORD, counts=found, sample=tuple(sample), complete=complete)

    again = ShardRecord.from_json(record.to_json())

    assert again == record
    assert again.to_json() == record.to_json()


@pytest.mark.parametrize(
    "text",
    ["", "no JSON", "[]", "{}", '{"format_version": 1}', json.dumps({**json.loads(RECORD.to_json()), "task": 3})],
)
def test_what_is_no_record_is_refused_and_says_what_to_do(text: str) -> None:
    with pytest.raises(PrecomputeError, match=r"not readable.*--again"):
        ShardRecord.from_json(text)


def test_a_record_of_another_format_is_refused_by_its_number() -> None:
    with pytest.raises(PrecomputeError, match="format_version 9"):
        ShardRecord.from_json(RECORD.to_json().replace('"format_version": 1', '"format_version": 9'))


@given(st.lists(counts, max_size=5))
def test_counts_of_parts_add_up(parts: list[Counts]) -> None:
    whole = sum(parts, Counts())

    assert whole.users == sum(part.users for part in parts)
    assert sum(whole.failed.values()) == sum(sum(part.failed.values()) for part in parts)
    assert whole.agree or not all(part.agree for part in parts)


@given(st.integers(1, 700))
def test_the_sample_is_bounded_and_the_same_in_whatever_parts_users_come(size: int) -> None:
    users = [f"user-{n}" for n in range(600)]
    at_once = RECORD.after("f", Counts(), users, 1.0).sample
    record = RECORD
    for start in range(0, len(users), size):
        record = record.after("f", Counts(), users[start : start + size], 1.0)

    assert len(at_once) == SAMPLED
    assert record.sample == at_once
    assert set(replace(RECORD, run="run-2").after("f", Counts(), users, 1.0).sample) != set(at_once)


def begun(found: ShardRecord | None, *, resume: bool = False, again: bool = False, now_s: float = 200.0) -> ShardRecord:
    return begin(TASK, found, "run-2", now_s, resume=resume, again=again)


def test_a_shard_that_nobody_began_is_begun() -> None:
    for resume in (False, True):
        for again in (False, True):
            assert begun(None, resume=resume, again=again).run == "run-2"


def test_a_complete_shard_is_left_alone_unless_it_is_to_be_computed_again() -> None:
    assert begun(COMPLETE) is COMPLETE
    assert begun(COMPLETE, resume=True) is COMPLETE
    assert begun(COMPLETE, again=True) == begun(None)
    assert begun(COMPLETE, again=True, resume=True) == begun(None)


def test_a_run_that_stopped_half_way_is_gone_on_with_only_if_that_is_asked_for() -> None:
    with pytest.raises(PrecomputeError, match=r"3 users are done\. --resume goes on with it, --again begins anew"):
        begun(HALF)
    on = begun(HALF, resume=True)
    assert (on.run, on.attempt, on.position, on.counts) == ("run-1", 2, HALF.position, HALF.counts)
    assert begun(HALF, resume=True, again=True) == on
    assert begun(HALF, again=True) == begun(None)


def test_a_run_whose_lists_expire_soon_is_begun_anew_and_so_is_one_of_the_future() -> None:
    last_s = RECORD.started_s + RESUMABLE_SHARE * TTL_S

    assert begun(HALF, resume=True, now_s=last_s).run == "run-1"
    assert begun(HALF, resume=True, now_s=last_s + 1).run == "run-2"
    assert begun(HALF, resume=True, now_s=RECORD.started_s - 1).run == "run-2"


@pytest.mark.parametrize("found", [HALF, COMPLETE])
@pytest.mark.parametrize(
    ("name", "value"), [("bundle", "cd" * 32), ("limit", 50), ("users", "of the file users.txt"), ("items", 61)]
)
def test_a_shard_of_another_bundle_or_with_other_options_is_not_gone_on_with(
    found: ShardRecord, name: str, value: object
) -> None:
    other = replace(found, task=replace(TASK, **{name: value}))

    with pytest.raises(PrecomputeError, match=f"begun with another {name}: {value}"):
        begun(other, resume=True)
    assert begun(other, resume=True, again=True).run == "run-2"
