"""From a file of events to ranked answers, through the commands a user types."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import fields
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from offline.evaluate.list_ages import above_cf
from server.store.user_store import MAX_STORED_EVENTS
from terrace.cli import output
from terrace.cli.build import build, evaluate
from terrace.cli.demo import server, store
from terrace.cli.output import ProgressLines, show_progress
from terrace.cli.steps import Source
from terrace.client import Client, Event, Tier
from tests.e2e.commands import terrace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def address(
    built: tuple[Path, dict[str, Any]], shop: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A running server with the shop's users in its store."""
    bundle = next(built[0].iterdir())
    data = tmp_path_factory.mktemp("store")
    terrace("ingest", *shop, "--data", str(data))
    with store(data) as embedded, server(embedded.url, "--bundle", str(bundle)) as where:
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


def test_a_build_measures_how_lists_age_and_places_them_by_the_window_before(
    built: tuple[Path, dict[str, Any]],
) -> None:
    found = built[1]["list_ages"]
    assert [age["hours"] for age in found["ages"]] == [1.0, 6.0, 24.0, 168.0]
    assert found["validation"]["ages"][0]["hours"] == 24.0
    assert found["above_cf"] is above_cf(found["validation"])
    shown = json.loads(terrace("bundle", "show", str(built[0]), "--json").stdout)
    assert shown["precomputed_above_cf"] is found["above_cf"]
    assert {tier for point in built[1]["latency_with_lists"] for tier in point["tiers"]} == {
        "POPULARITY", "CF", "PRECOMPUTED", "DEEP",
    }  # fmt: skip


def test_the_bundle_shows_what_is_in_it(built: tuple[Path, dict[str, Any]]) -> None:
    shown = json.loads(terrace("bundle", "show", str(built[0]), "--json").stdout)
    assert shown["metrics"] == built[1]
    assert shown["rungs"] == built[1]["order"]
    assert len(shown["golden"]) > 0
    assert "Generators and models" in terrace("bundle", "show", str(built[0])).stdout


def test_a_published_bundle_is_signed_and_passes_every_check(built: tuple[Path, dict[str, Any]]) -> None:
    key = built[0].parent / "key.pub"
    found = json.loads(terrace("bundle", "verify", str(built[0]), "--public-key", str(key), "--json").stdout)
    assert found["passed"]
    assert found["checks"][-1]["name"] == "golden"


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
    assert "localhost:9" in nobody.stderr
    assert "Start a server with `terrace serve`" in nobody.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("build", "--events", "nowhere.parquet"), "nowhere.parquet"),
        (("serve", "--bundles", "no-bundles-here"), "no-bundles-here: no such folder of bundles"),
        (("bundle", "show", "no-bundles-here"), "no such bundle folder"),
        (("build", "--events", "e.csv", "--split", "sideways"), "sideways"),
        (("build", "--events", "e.csv", "--engine", "abacus"), "abacus"),
        (("build", "--events", "e.csv", "--weight", "like=much"), "not a number"),
        (("build", "--events", "[brackets].csv"), "[brackets].csv"),
        (("recommend", "ada", "--server", "http://localhost:50051"), "expected host:port"),
        (("similar", "mug", "--server", "localhost"), "expected host:port"),
    ],
)
def test_what_a_user_can_mend_is_one_message_and_no_traceback(arguments: tuple[str, ...], said: str) -> None:
    done = terrace(*arguments, expect=2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [("build", "--events", "e.csv"), ("ingest", "--events", "e.csv")])
def test_where_only_what_serves_is_installed_other_commands_say_what_they_need(arguments: tuple[str, ...]) -> None:
    program = "import sys; sys.modules['ibis'] = None; from terrace.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "ibis is not installed" in done.stderr
    assert "pip install --group offline" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("url", "said", "code"),
    [
        ("localhost:6379", "the store URL must start with one of redis://", 2),
        ("redis://:hunter2@localhost:1", "0 of 1 users are stored; once it is there, run this again", 3),
    ],
    ids=["no URL", "nobody listens"],
)
def test_a_store_that_cannot_be_written_to_is_one_message(tmp_path: Path, url: str, said: str, code: int) -> None:
    events = tmp_path / "events.csv"
    events.write_text("user_id,item_id,timestamp\nada,mug,2025-01-01T00:00:00Z\n")
    done = terrace("ingest", "--events", str(events), "--store-url", url, expect=code)
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr


def test_ingest_counts_what_it_does_not_store(tmp_path: Path) -> None:
    events = tmp_path / "events.csv"
    rows = ["auth0|7,mug,2025-01-01T00:00:00Z", "a\x01b,mug,2025-01-02T00:00:00Z", "Zoë+1,pot,2025-01-03T00:00:00Z"]
    events.write_text("\n".join(["user_id,item_id,timestamp", *rows]), encoding="utf-8")
    done = terrace("ingest", "--events", str(events), "--data", str(tmp_path / "store"))
    assert "stored 2 events of 2 users" in done.stdout
    assert "event without usable user" in done.stderr


def test_ingest_counts_no_event_that_the_store_leaves_out(tmp_path: Path) -> None:
    events = tmp_path / "events.csv"
    rows = [f"ada,i{n},2025-01-01T00:{n // 60:02d}:{n % 60:02d}Z" for n in range(MAX_STORED_EVENTS + 9)]
    events.write_text("\n".join(["user_id,item_id,timestamp", *rows, "zoe,mug,2025-01-01T00:00:00Z"]))
    done = terrace("ingest", "--events", str(events), "--data", str(tmp_path / "store"))
    assert f"stored {MAX_STORED_EVENTS + 1} events of 2 users" in done.stdout


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
    assert "concatenate" not in done.stderr  # in our words, not numpy's
    assert "all match their checksums" in terrace("bundle", "show", str(tmp_path / "bundles")).stdout


@pytest.mark.parametrize("command", [build, evaluate])
def test_a_command_has_an_option_for_all_that_a_build_goes_by(command: Callable[..., None]) -> None:
    assert {field.name for field in fields(Source)} <= set(signature(command).parameters)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Reports of progress, each so many seconds after the one before, become the lines of a log."""
    printed = io.StringIO()
    monkeypatch.setattr(output, "errors", Console(file=printed, width=output.FILE_WIDTH))

    def log(*reports: tuple[float, str, int, int, str]) -> list[str]:
        now_s = 0.0
        progress = ProgressLines(lambda: now_s)
        for seconds, *report in reports:
            now_s += seconds
            progress(*report)
        progress.end()
        return printed.getvalue().splitlines()

    return log


def test_in_a_log_work_has_one_line_when_it_has_ended_and_short_work_none(lines: Callable[..., list[str]]) -> None:
    assert lines(
        (0.5, "choose", 1, 2, "a"),
        (0.6, "choose", 2, 2, "b"),
        (0.1, "choose", 2, 2, "c"),
        (0.7, "ask", 50, 50, ""),
        (0.6, "train", 1, 9, "loss 3"),
        (0.6, "train", 2, 9, "loss 2"),
        (1.5, "train", 1, 1, "again"),
        (0.2, "ask", 1, 4, ""),
        (1.0, "ask", 2, 4, ""),
    ) == [
        "    1.1 s  choose 2/2 b",
        "    3.1 s  train 2/9 loss 2",
        "    4.6 s  train 1/1 again",
        "    5.8 s  ask 2/4",
    ]


def test_in_a_log_work_that_goes_on_has_a_line_every_ten_seconds(lines: Callable[..., list[str]]) -> None:
    assert lines(*((0.5, "ask", n, 1000, "") for n in range(1, 90))) == [
        "   10.0 s  ask 20/1000",
        "   20.0 s  ask 40/1000",
        "   30.0 s  ask 60/1000",
        "   40.0 s  ask 80/1000",
        "   44.5 s  ask 89/1000",
    ]


def test_a_pipe_gets_lines_and_no_bars(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress() as progress:
        for n in range(1000):
            progress("ask", n, 1000)
    assert not capsys.readouterr().err
