"""A draft at a cut knows nothing of what comes after it: change all of that, and the folder is the same to the byte.

What is read from the whole input is the vocabulary (items of the items' file, event types) and the data report.
"""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from offline.build.builder import Builder, Training
from offline.build.fit import World
from offline.build.tower_training import TowerPlan
from offline.progress import silent
from offline.read.dataset import read_dataset
from offline.read.engine import open_engine
from offline.split.windows import SplitKind
from ranking.tower_settings import TowerSettings

if TYPE_CHECKING:
    from pathlib import Path

    from offline.split.windows import Plan

USERS, ITEMS, DAYS, START_S, DAY_S = 40, 50, 80, 1_700_000_000, 86_400
TYPES = ("view", "cart", "purchase", "dismiss")
HORIZON_DAYS = 8.0
TEST_CUT_S = START_S + (DAYS - HORIZON_DAYS) * DAY_S
NOT_KNOWLEDGE = {"built_at", "data"}
"""Of a manifest: when it was written, and the report of the whole input."""


class Event(NamedTuple):
    user: str
    item: str
    kind: str
    value: float
    time_s: int


def toy_events() -> list[Event]:
    """Users of three tastes, who often come back to an item; the last second of ``DAYS`` has an event."""
    rng = np.random.default_rng(1)
    events = []
    for user in range(USERS):
        for _ in range(30):
            item = int(rng.zipf(1.5)) * 3 % ITEMS + user % 3
            kind = str(rng.choice(TYPES, p=(0.4, 0.25, 0.3, 0.05)))
            time_s = START_S + int(rng.integers(0, DAYS * DAY_S - 1))
            events.append(Event(f"u{user:02}", f"i{item % ITEMS:02}", kind, float(rng.integers(1, 9)), time_s))
    return [*events, Event("u00", "i00", "view", 1.0, START_S + DAYS * DAY_S - 1)]


def other_future(events: list[Event]) -> list[Event]:
    """The same events before the test's cut; after it some are gone, the others are changed in every way, some are new.

    Users that come first and last in the order of ids appear for the first time, others are seen no more.
    """
    rng = np.random.default_rng(2)
    known = [event for event in events if event.time_s < TEST_CUT_S]
    later = [event for event in events if event.time_s >= TEST_CUT_S]
    users = ["a-newcomer", *(f"u{user:02}" for user in range(0, USERS, 2)), "u00x", "z-newcomer"]
    changed = [
        Event(
            str(rng.choice(users)),
            f"i{rng.integers(0, ITEMS):02}",
            str(rng.choice(TYPES)),
            float(rng.integers(10, 99)),
            int(TEST_CUT_S + rng.integers(0, 30 * DAY_S)),
        )
        for _ in range(2 * len(later))
    ]
    return known + changed


def other_last_events(events: list[Event]) -> list[Event]:
    """Each user's last event is another one, with another item, type and value, and later."""
    ordered = sorted(events, key=lambda event: (event.user, event.time_s))
    found = []
    for n, (event, following) in enumerate(pairwise([*ordered, Event("", "", "", 0.0, 0)])):
        last = following.user != event.user
        new = Event(event.user, f"i{n % ITEMS:02}", TYPES[n % 4], event.value + 1, event.time_s + (n % 9 + 1) * DAY_S)
        found.append(new if last else event)
    return found


class Draft(NamedTuple):
    files: dict[str, bytes]
    manifest: dict[str, Any]
    plan: Plan


def draft_of(
    folder: Path, events: list[Event], split: SplitKind, plan: Plan | None = None, *, deep: bool = False
) -> Draft:
    """The draft at the test's cut of ``plan``, by default of the plan that the events make, with one training window."""
    folder.mkdir()
    rows = [f"{e.user},{e.item},{e.kind},{e.value},{e.time_s}" for e in events]
    (folder / "events.csv").write_text("\n".join(["user_id,item_id,event_type,value,timestamp", *rows]))
    items = [f"i{n:02},thing {n % 7} of kind {n % 5},kind {n % 5},{n + 1}" for n in range(ITEMS)]
    (folder / "items.csv").write_text("\n".join(["item_id,title,categories,price", *items]))
    with open_engine(memory="1GB", threads=1, folder=folder) as engine:
        data = read_dataset(folder / "events.csv", folder / "items.csv", engine=engine)
        world = World.read(data, engine, folder)
        builder = Builder(
            world, split, HORIZON_DAYS, seed=0, deep=deep, progress=silent, training=Training(minutes=1e6)
        )
        builder.plan = plan or replace(builder.plan, train=builder.plan.train[-1:])
        (folder / "draft").mkdir()
        builder.draft(folder / "draft", builder.plan.test.cut, version="injected")
    draft = folder / "draft"
    files = {path.relative_to(draft).as_posix(): path.read_bytes() for path in draft.rglob("*") if path.is_file()}
    manifest = json.loads(files.pop("manifest.json"))
    return Draft(files, {name: value for name, value in manifest.items() if name not in NOT_KNOWLEDGE}, builder.plan)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short search that ends by itself, not by the clock, and small networks (yet wider than there are users)."""
    settings = TowerSettings(width=USERS + 8, context_length=20, stride=8, new_only=True)
    monkeypatch.setattr("offline.build.builder.CHOOSE_S", 0.0)
    monkeypatch.setattr("offline.build.tower_training.tower_plan", lambda *_: TowerPlan(settings, epochs=3, patience=3))
    monkeypatch.setattr("offline.build.ranker_training.RANKER_EPOCHS", 2)


def demand_same(one: Draft, other: Draft) -> None:
    assert one.manifest == other.manifest
    assert one.files.keys() == other.files.keys()
    assert [name for name, raw in one.files.items() if raw != other.files[name]] == []


@pytest.mark.parametrize("deep", [False, True], ids=["up to CF", "with the model"])
def test_nothing_that_happens_after_a_cut_in_time_is_in_the_draft(tmp_path: Path, *, deep: bool) -> None:
    events = toy_events()
    one = draft_of(tmp_path / "one", events, SplitKind.TIME, deep=deep)
    other = draft_of(tmp_path / "other", other_future(events), SplitKind.TIME, one.plan, deep=deep)
    assert bool(one.manifest["model"]) is deep
    demand_same(one, other)


def test_nothing_of_held_out_last_events_is_in_the_draft(tmp_path: Path) -> None:
    events = toy_events()
    one = draft_of(tmp_path / "one", events, SplitKind.LAST_EVENT)
    other = draft_of(tmp_path / "other", other_last_events(events), SplitKind.LAST_EVENT, one.plan)
    demand_same(one, other)


def test_whether_repeats_are_learned_is_decided_before_the_cut(tmp_path: Path) -> None:
    """Nobody comes back to an item before the cut and everybody does after it, or nobody ever does."""
    known = [
        Event(f"u{user:02}", f"i{(user + n) % ITEMS:02}", "purchase", 1.0, START_S + (4 * n + 1) * DAY_S + user)
        for user in range(USERS)
        for n in range(17)
    ]
    end = [Event("u00", "i49", "view", 1.0, START_S + DAYS * DAY_S - 1)]
    again = [event._replace(time_s=int(TEST_CUT_S) + n) for n, event in enumerate(known)]
    one = draft_of(tmp_path / "one", known + end, SplitKind.TIME)
    other = draft_of(tmp_path / "other", known + again + end, SplitKind.TIME, one.plan)
    demand_same(one, other)


def test_a_known_event_does_change_the_draft(tmp_path: Path) -> None:
    """The comparison above sees what it should see."""
    events = toy_events()
    one = draft_of(tmp_path / "one", events, SplitKind.TIME)
    first = min(range(len(events)), key=lambda n: abs(events[n].time_s - TEST_CUT_S + DAY_S))
    events[first] = events[first]._replace(item="i49", kind="purchase")
    other = draft_of(tmp_path / "other", events, SplitKind.TIME, one.plan)
    assert one.files != other.files
