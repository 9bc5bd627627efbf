"""Reports of made-up runs."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from core.types import Tier
from loadtests import load_report, targets
from loadtests.load_report.series import of_run, outcomes
from loadtests.plan import MIXED, Span
from loadtests.scenarios import Scenario
from loadtests.targets import at_least, at_most
from tests.loadtests.toy_runs import LATE, calls, overload, run

if TYPE_CHECKING:
    from pathlib import Path

SCENARIO = Scenario(
    "made_up",
    "Does <it> hold?",
    MIXED,
    (),
    (
        at_least(0.995, targets.in_time("2x", "user"), "users come first"),
        at_most(1.0, targets.recovery("after", "before"), "soon"),
    ),
)


def test_every_second_says_what_became_of_its_calls() -> None:
    series = of_run(overload())
    assert len(series) == 30
    assert series.calls["user"].tolist() == [50] * 10 + [100] * 10 + [50] * 10
    assert series.outcomes["user"]["POPULARITY"].tolist() == [0] * 10 + [100] * 10 + [0] * 10
    assert series.outcomes["other"]["shed"][15] == 100
    assert series.p99_ms[15] == pytest.approx(20)


def test_an_answer_that_came_late_failed() -> None:
    late = calls(0, 1, 4, took_ms=60)
    failed = calls(0, 1, 4, tier=None, status=LATE)
    assert set(outcomes(late, 50)) == set(outcomes(failed, 50)) == {"failed"}


def test_the_page_shows_targets_and_fetches_nothing() -> None:
    page = load_report.page(overload(), SCENARIO)
    HTMLParser().feed(page)
    assert "Does &lt;it&gt; hold?" in page
    assert "1 of 2 targets missed" in page
    assert page.count("<svg") == 6  # two signs, latency, tiers for users and others, rates
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page


def test_the_markdown_has_a_line_a_target_and_a_line_a_phase() -> None:
    said = load_report.markdown(overload(), SCENARIO)
    assert "| user calls answered in time, 2x | at least 99.50% | 100.00% | met | users come first |" in said
    assert "| until after is as before for 3 s | at most 1.0 s | 2.0 s | missed | soon |" in said
    assert "| 2x |  | 200 | 2.0x | 100 |" in said


def test_the_picture_is_one_file_for_light_and_dark() -> None:
    drawn = load_report.picture(overload())
    root = ET.fromstring(drawn)  # noqa: S314 - our own
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme: dark" in drawn


def test_a_run_without_any_answer_has_a_page_too() -> None:
    nothing = run(calls(0, 3, 10, tier=None, status=LATE, took_ms=50), spans=(Span("2x", 0, 3, 10),))
    only = Scenario("made_up", "?", MIXED, (), (at_least(0.9, targets.in_time("2x"), "why"),))
    assert "1 of 1 targets missed" in load_report.page(nothing, only)
    assert load_report.picture(nothing)


def test_the_index_has_every_run_of_the_folder(tmp_path: Path) -> None:
    it = overload()
    it.save(tmp_path / "made_up.npz")
    load_report.write(tmp_path, it, SCENARIO)
    load_report.write_index(tmp_path, {"made_up": SCENARIO, "never_run": SCENARIO})
    assert {path.name for path in tmp_path.iterdir()} == {
        "made_up.npz", "made_up.html", "made_up.md", "index.html", "index.md",
    }  # fmt: skip
    assert 'href="made_up.html"' in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_tiers_that_never_answer_are_columns_all_the_same() -> None:
    assert f"| {Tier.CF.name} |" in load_report.markdown(overload(), SCENARIO)
