"""Each invariant lets sound histories pass and names the call that breaks it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.history import Call, Filters, History, Item, Request, Thing, World
from tests.faults.invariants import check

if TYPE_CHECKING:
    from pathlib import Path

THING = Thing(True, 5.0, ("book",), {"colour": "red"})
THINGS = {f"i{n}": THING for n in range(8)} | {
    "gone": replace(THING, available=False),
    "dear": replace(THING, price=50.0),
}
NEXT_THINGS = {name: thing for name, thing in THINGS.items() if name != "i5"} | {"new": THING}
WORLD = World(
    {"1": THINGS, "2": NEXT_THINGS}, {"ada": frozenset({"i0"}), "bob": frozenset({"i1"})}, {"ada": frozenset({"i0"})}
)
ANSWER = (Item("i2", 0.9, "i0"), Item("i3", 0.5), Item("i4", None))


def call(number: int = 1, sent_s: float = 0.0, **changed: Any) -> Call:
    """A sound answer to ada from DEEP."""
    request = Request(number, "ada", limit=3, exclude=("i7",), filters=Filters(max_price=10.0))
    sound = Call(request, sent_s, 20.0, "OK", items=ANSWER, tier="DEEP", version="1")
    return replace(sound, **changed)


def history(*calls: Call, **changed: Any) -> History:
    return replace(History(WORLD, list(calls), sent=len(calls)), **changed)


def items(*ids: str) -> tuple[Item, ...]:
    return tuple(Item(item_id, None) for item_id in ids)


def test_a_sound_history_passes() -> None:
    below = {"DEEP": "late", "PRECOMPUTED": "not_configured"}
    check(
        history(
            call(1),
            call(2, tier="CF", skipped=below),
            call(3, status="DEADLINE_EXCEEDED", took_ms=104.0, items=(), tier="", version=""),
            call(4, version="2", sent_s=1.0),
        )
    )


BROKEN: dict[str, tuple[str, dict[str, Any]]] = {
    "a status that is not documented": ("I1", {"status": "INTERNAL"}),
    "an answer from no rung": ("I1", {"tier": "UNSPECIFIED"}),
    "a lower rung without reasons": ("I1", {"tier": "CF"}),
    "a user's call that is shed": ("I1", {"status": "RESOURCE_EXHAUSTED", "pushed_back": True}),
    "an answer after the deadline": ("I2", {"took_ms": 110.1}),
    "a refusal after the deadline": ("I2", {"took_ms": 110.1, "status": "DEADLINE_EXCEEDED", "items": (), "tier": ""}),
    "an answer after the longest budget": (
        "I2",
        {"request": Request(1, "ada", limit=3, deadline_ms=3.6e6), "took_ms": 600.0},
    ),
    "an answer after the usual budget where none was named": (
        "I2",
        {"request": Request(1, "ada", limit=3, deadline_ms=None), "took_ms": 200.0},
    ),
    "a version that is none": ("I3", {"version": "9"}),
    "an item of the next version": ("I3", {"items": items("i2", "i3", "new")}),
    "an item of the version before": ("I3", {"items": items("i2", "i3", "i5"), "version": "2"}),
    "an explanation by an item of another version": (
        "I5",
        {
            "request": Request(1, "ada", limit=3, recent=("i5",)),
            "items": (Item("i2", 0.9, "i5"), *ANSWER[1:]),
            "version": "2",
        },
    ),
    "an item of no catalogue": ("I3", {"items": items("i2", "i3", "x")}),
    "an item that comes twice": ("I3", {"items": items("i2", "i3", "i2")}),
    "an excluded item": ("I3", {"items": items("i2", "i3", "i7")}),
    "an item that is not available": ("I3", {"items": items("i2", "i3", "gone")}),
    "an item that the filters refuse": ("I3", {"items": items("i2", "i3", "dear")}),
    "an item that the user bought": ("I3", {"items": items("i2", "i3", "i0")}),
    "too many items": ("I3", {"items": items("i2", "i3", "i4", "i5")}),
    "too few items": ("I3", {"items": items("i2")}),
    "a score that is not finite": ("I3", {"items": (Item("i2", float("nan")), *ANSWER[1:])}),
    "scores out of order": ("I3", {"items": (ANSWER[1], ANSWER[0], ANSWER[2])}),
    "a scored item after one without a score": ("I3", {"items": (ANSWER[0], ANSWER[2], ANSWER[1])}),
    "a reason of another user's": ("I4", {"items": (Item("i2", 0.9, "i1"), *ANSWER[1:])}),
}


@pytest.mark.parametrize("case", BROKEN)
def test_one_broken_call_is_named(case: str) -> None:
    name, changed = BROKEN[case]
    with pytest.raises(AssertionError, match=rf"1 violations in 2 calls\n{name}: call 1 "):
        check(history(call(1, **changed), call(2)))


def test_an_item_that_was_bought_may_come_back_while_the_store_is_silent() -> None:
    check(history(call(items=items("i2", "i3", "i0"), dropped={"user_store": "store_failed"})))


def test_a_list_may_be_shorter_where_no_more_is_allowed() -> None:
    short = Request(1, "bob", limit=20, exclude=tuple(f"i{n}" for n in range(6)), filters=Filters(colours=("red",)))
    check(history(call(request=short, items=items("i6", "i7", "dear"))))


def test_an_older_version_after_a_newer_one_is_found() -> None:
    with pytest.raises(AssertionError, match=r"I5: call 2 "):
        check(history(call(1, version="2"), call(2, sent_s=1.0)))


def test_an_older_version_is_sound_while_a_newer_one_is_on_its_way() -> None:
    check(history(call(1, version="2", took_ms=30.0), call(2, sent_s=0.02)))


@pytest.mark.parametrize(
    "lost",
    [
        {"sent": 3},
        {"served": {"OK": 1}},
        {"served": {"OK": 2, "CANCELLED": 1}},
    ],
)
def test_a_call_that_is_lost_or_counted_twice_is_found(lost: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match="I6"):
        check(history(call(1), call(2), **lost))


def test_two_ends_of_one_call_are_found() -> None:
    with pytest.raises(AssertionError, match="I6"):
        check(history(call(1), call(1)))


BELOW = {"tier": "CF", "skipped": {"DEEP": "late", "PRECOMPUTED": "not_configured"}}


def outage(lasts_s: float, back_after_s: float) -> History:
    """Ten calls a second; a fault from 10 s on; DEEP again so long after it."""
    healed_s = 10.0 + lasts_s
    last_s = healed_s + (40 if lasts_s > 10 else 20)
    calls = [
        call(i, i / 10, **({} if i < 100 or i / 10 >= healed_s + back_after_s else BELOW))
        for i in range(int(last_s * 10))
    ]
    return history(*calls, broken_s=10.0, healed_s=healed_s)


@pytest.mark.parametrize(("lasts_s", "back_after_s"), [(0.5, 9.5), (20.0, 24.5), (50.0, 33.0)])
def test_rungs_that_come_back_in_time_are_sound(lasts_s: float, back_after_s: float) -> None:
    """A breaker that has been opened again and again is open for as long as the fault has lasted, 34 s at most."""
    check(outage(lasts_s, back_after_s))


@pytest.mark.parametrize(("lasts_s", "back_after_s"), [(0.5, 13.0), (20.0, 28.0), (50.0, 37.0), (0.5, 1e9)])
def test_rungs_that_stay_away_are_found(lasts_s: float, back_after_s: float) -> None:
    with pytest.raises(AssertionError, match=r"I7: DEEP 1\.00"):
        check(outage(lasts_s, back_after_s))


def test_too_few_calls_to_tell_are_found() -> None:
    with pytest.raises(AssertionError, match="I7: 0 calls before"):
        check(history(call(), broken_s=0.0, healed_s=1.0))


def test_a_history_is_kept_as_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run.jsonl"
    history(call(1), call(2)).save(path)

    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3
    assert '"item_id": "i2"' in lines[1]
