"""From a file of events to ranked answers, through the commands a user types."""

from __future__ import annotations

import json
from dataclasses import fields
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from terrace.cli.build import build, evaluate
from terrace.cli.demo import server, store
from terrace.cli.output import bars
from terrace.cli.steps import Source
from terrace.client import Client, Event, Tier
from tests.e2e.commands import terrace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def built(shop: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Folder of bundles with one bundle, and the figures that its build printed."""
    bundles = tmp_path_factory.mktemp("bundles")
    done = terrace("build", *shop, "--bundles", str(bundles), "--json")
    return bundles, json.loads(done.stdout)


@pytest.fixture(scope="module")
def address(
    built: tuple[Path, dict[str, Any]], shop: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A running server with the shop's users in its store."""
    bundle = next(built[0].iterdir())
    data = tmp_path_factory.mktemp("store")
    terrace("ingest", *shop, "--data", str(data))
    with store(data) as embedded, server(bundle, embedded.url) as where:
        yield where


def test_a_build_measures_every_rung_and_generator(built: tuple[Path, dict[str, Any]]) -> None:
    """The figures have the documented shape, and intervals hold their means."""
    figures = built[1]
    assert set(figures["rungs"]) == {"POPULARITY", "CF", "DEEP"}
    for rung in figures["rungs"].values():
        assert rung["ndcg@20"]["low"] <= rung["ndcg@20"]["mean"] <= rung["ndcg@20"]["high"]
    assert set(figures["differences"]) == {"CF - POPULARITY", "DEEP - CF"}
    assert {"co_occurrence", "ann", "content", "buy_again", "popularity", "union"} <= set(figures["generators"])
    assert figures["split"]["cases"] > 20


def test_the_bundle_shows_what_is_in_it(built: tuple[Path, dict[str, Any]]) -> None:
    shown = json.loads(terrace("bundle", "show", str(built[0]), "--json").stdout)
    assert shown["metrics"] == built[1]
    assert shown["rungs"] == built[1]["order"]
    assert len(shown["golden"]) > 0
    assert "Generators and models" in terrace("bundle", "show", str(built[0])).stdout


def test_a_known_user_is_answered_by_the_model_with_reasons(address: str, shop: tuple[str, ...]) -> None:
    """The user's own purchases do not come back, and items are explained by the user's history."""
    events = pq.read_table(shop[1], columns=["user_id", "item_id", "event_type"]).to_pydict()
    users, counts = np.unique(events["user_id"], return_counts=True)
    user = str(users[counts.argmax()])
    own = {
        (i, t) for u, i, t in zip(events["user_id"], events["item_id"], events["event_type"], strict=True) if u == user
    }
    with Client(address) as client:
        answer = client.recommend(user, limit=20, timeout_ms=2000)
    assert answer.tier is Tier.DEEP
    assert not answer.skipped
    assert len(set(answer.item_ids)) == 20
    assert not set(answer.item_ids) & {i for i, kind in own if kind == "purchase"}
    assert {i.explained_by for i in answer.items} - {""} <= {i for i, _ in own}


def test_a_stranger_with_recent_events_climbs_as_high(address: str, built: tuple[Path, dict[str, Any]]) -> None:
    """What the caller knows is enough: no store has heard of this user."""
    shown = json.loads(terrace("bundle", "show", str(built[0]), "--json").stdout)
    item = shown["golden"][1]["events"][0][0]
    with Client(address) as client:
        alone = client.recommend("a-stranger", limit=10, timeout_ms=2000)
        told = client.recommend("a-stranger", limit=10, recent_events=[Event(item, "view")], timeout_ms=2000)
    assert alone.tier is Tier.POPULARITY
    assert alone.skipped[Tier.DEEP] == "no_history"
    assert told.tier is Tier.DEEP
    assert alone.item_ids != told.item_ids


def test_asking_from_the_command_line(address: str, built: tuple[Path, dict[str, Any]]) -> None:
    """A table for a person, JSON for a program, a hint when nobody listens."""
    where = ("--server", address, "--bundles", str(built[0]), "--timeout-ms", "2000")
    shown = terrace("recommend", "anyone", "-n", "3", *where).stdout
    assert "tier POPULARITY" in shown
    answer = json.loads(terrace("recommend", "anyone", "-n", "3", "--json", *where).stdout)
    assert len(answer["items"]) == 3
    item = answer["items"][0]["item_id"]
    similar = json.loads(terrace("similar", item, "-n", "4", "--json", *where).stdout)
    assert item not in [i["item_id"] for i in similar["items"]]
    assert len(similar["items"]) == 4
    nobody = terrace("recommend", "anyone", "--server", "localhost:9", "--timeout-ms", "500", expect=3)
    assert "Does a server listen on localhost:9?" in nobody.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("build", "--events", "nowhere.parquet"), "nowhere.parquet"),
        (("serve", "--bundles", "no-bundles-here"), "holds no finished bundle"),
        (("bundle", "show", "no-bundles-here"), "no such bundle folder"),
        (("build", "--events", "e.csv", "--split", "sideways"), "sideways"),
        (("build", "--events", "e.csv", "--engine", "abacus"), "abacus"),
        (("build", "--events", "e.csv", "--weight", "like=much"), "not a number"),
    ],
)
def test_what_a_user_can_mend_is_one_message_and_no_traceback(arguments: tuple[str, ...], said: str) -> None:
    done = terrace(*arguments, expect=2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([f"u1,i{n % 7},purchase,2025-01-{n + 1:02d}T10:00:00Z" for n in range(28)], "There is one user only"),
        (["u1,a,view,2025-01-01T00:00:00Z", "u2,b,view,2025-01-02T00:00:00Z"], ""),
        ([f"u{n % 5},i{n % 9},view,2025-01-01T00:00:00Z" for n in range(45)], "All events have the same time"),
        (
            [f"u{n % 5},i{n % 9},dismiss,2025-01-{n + 1:02d}T00:00:00Z" for n in range(28)],
            "No event type has a positive",
        ),
    ],
    ids=["one user", "two events", "one moment", "nothing liked"],
)
def test_data_with_next_to_nothing_in_it_still_becomes_a_bundle(tmp_path: Path, rows: list[str], said: str) -> None:
    """What cannot be learned is said; what is left is popularity, and a bundle that loads."""
    events = tmp_path / "events.csv"
    events.write_text("\n".join(["user_id,item_id,event_type,timestamp", *rows]))
    done = terrace("build", "--events", str(events), "--bundles", str(tmp_path / "bundles"))
    assert said in done.stderr
    assert "the ladder of this bundle ends at CF: " in done.stderr
    assert "all match their checksums" in terrace("bundle", "show", str(tmp_path / "bundles")).stdout


@pytest.mark.parametrize("command", [build, evaluate])
def test_a_command_has_an_option_for_all_that_a_build_goes_by(command: Callable[..., None]) -> None:
    assert {field.name for field in fields(Source)} <= set(signature(command).parameters)


def test_without_a_terminal_progress_is_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with bars() as told:
        told("train", 1, 2, "loss 3")
        told("train", 2, 2, "loss 2")
        told("ask", 50, 1000)
        told("ask", 1000, 1000)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" s  ")[1].strip() for line in lines] == [
        "train 1/2 loss 3",
        "train 2/2 loss 2",
        "ask 1000/1000",
    ]
