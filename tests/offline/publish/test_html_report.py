"""The report is one page that fetches nothing, runs nothing, trusts no title, and is the same for the same figures."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline.publish.compare import compare
from offline.publish.gate import check
from offline.publish.html_report import render
from offline.publish.html_report.charts import Curve, Mark, Row, by_deadline, curves, intervals
from offline.publish.html_report.svg import Scale, spread, ticks
from tests.offline.measured import HOSTILE, figures, interval, measured

if TYPE_CHECKING:
    from core.manifest import Manifest

ROOT = Path(__file__).parents[3]


class Page(HTMLParser):
    """What a browser would make of the page: its elements, its links, and its words."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.headings: list[str] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.words += data
        if self.tags and self.tags[-1] in {"h1", "h2"} and data.strip():
            self.headings.append(data.strip())


def whole() -> dict[str, Any]:
    """Figures with every chapter, and hostile words wherever data can bring them."""
    base = figures(0.04, 0.09, 0.12)
    item = {"item_id": HOSTILE, "title": HOSTILE}
    person = {
        "user": HOSTILE,
        "history": [item, {"item_id": "bare-id", "title": ""}],
        "recommended": [
            {**item, "because": HOSTILE, "sources": ["co_occurrence", HOSTILE], "hit": True},
            {"item_id": "i2", "title": "Plain lamp", "because": None, "sources": [], "hit": False},
        ],
        "tier": "DEEP",
    }
    segment = {"name": HOSTILE, "cases": 7, "rungs": {"CF": {"ndcg@20": interval(0.1), "recall@20": interval(0.2)}}}
    found = {"recall@50": interval(0.3)}
    cold = {"generators": {"content": found}, "rungs": {"CF": found}}
    scored = {"ndcg@20": interval(0.05), "recall@20": interval(0.06)}
    return {
        **base,
        "segments": {"activity": [segment], "item_age": None},
        "repeats": figures(0.05, 0.2, 0.3),
        "cold_items": {"days": 30, "items": 9, "cases": 5, **cold, "among": cold},
        "cold_users": {
            "cases": 4,
            "popularity": scored,
            "category": {"cases": 3, "without": scored, "with": scored},
            "picks": [{"picks": 1, "cases": 3, "rungs": {"CF": scored}}],
        },
        "latency": [
            {
                "deadline_ms": d,
                "ndcg@20": 0.04 + 0.02 * n,
                "tiers": {"POPULARITY": 1 - n / 3, "DEEP": n / 3},
                "scored_share": n / 3 or None,
                "unhurried": {"POPULARITY": 0.04, "DEEP": 0.1},
            }
            for n, d in enumerate((1.0, 5.0, 20.0, 100.0))
        ],
        "latency_with_lists": [
            {"deadline_ms": d, "ndcg@20": 0.08 + 0.01 * n, "tiers": {"PRECOMPUTED": 1 - n / 3, "DEEP": n / 3}}
            for n, d in enumerate((1.0, 5.0, 20.0, 100.0))
        ],
        "list_ages": {"cases": 9, "above_cf": False, "ages": [list_age(1.0), list_age(168.0, after=False)]},
        "examples": [person],
    }


def list_age(hours: float, *, after: bool = True) -> dict[str, Any]:
    """Figures of lists of one age."""
    part = {
        "cases": 8,
        "rungs": {rung: {"ndcg@20": interval(0.1)} for rung in ("CF", "PRECOMPUTED", "DEEP")},
        "differences": {f"PRECOMPUTED - {rung}": {"ndcg@20": interval(-0.02)} for rung in ("CF", "DEEP")},
    }
    return {"hours": hours, "covered": 0.9, "active_since": 0.4, **part, "after_activity": part if after else None}


def manifest(found: dict[str, Any], **more: Any) -> Manifest:
    model = {
        "importance": [{"feature": f"feature_{HOSTILE}", "drop": 0.01, "low": 0.0, "high": 0.02}],
        "ablation": [{"without": "prior", "ndcg@20": 0.1, "difference": -0.02, "low": -0.03, "high": -0.01}],
        "note": HOSTILE,
    }
    data = {
        "events_from": HOSTILE,
        "items_from": "",
        "rows_read": 10,
        "events": 9,
        "users": 4,
        "items": 5,
        "items_with_events": 5,
        "sessions": 3,
        "sessions_from": "session_id",
        "first_event": "2025-01-01",
        "last_event": "2025-06-01",
        "event_types": [{"name": HOSTILE, "events": 9, "weight": 1.0, "seen": True}],
        "findings": [{"what": "torn", "count": 1, "done": "dropped", "why": "unreadable", "example": HOSTILE}],
        "warnings": [HOSTILE],
    }
    return measured(found, model=model, data=data, **more).manifest


def test_the_page_brings_everything_with_it() -> None:
    """No link leads out of the page, nothing is loaded, and the page forbids it besides."""
    html = render(manifest(whole()))
    assert not re.search(r"url\(|@import|https?:", html)
    assert "default-src 'none'" in html
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "form"} & set(page.tags)
    anchors = {value for name, value in page.attributes if name == "id"}
    assert {value for name, value in page.attributes if name in {"href", "src"}} <= {f"#{anchor}" for anchor in anchors}


def test_titles_are_words_and_never_markup() -> None:
    """Hostile titles, users, reasons, types, file names and findings are all shown as they are written."""
    page = Page(render(manifest(whole(), version=HOSTILE), warnings=[HOSTILE], title=HOSTILE))
    assert "script" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.words.count(HOSTILE) > 12


def test_the_same_figures_give_the_same_bytes() -> None:
    assert render(manifest(whole())) == render(manifest(whole()))


def test_every_drawing_is_whole_and_says_what_it_shows() -> None:
    html = render(manifest(whole()))
    drawings = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    charts = [ET.fromstring(svg) for svg in drawings if 'class="chart' in svg]  # noqa: S314 - our own
    assert len(charts) >= 10
    for chart in charts:
        assert chart.findtext("title")
        _, _, width, height = (float(part) for part in chart.attrib["viewBox"].split())
        for text in chart.iter("text"):
            assert 0 <= float(text.attrib["x"]) <= width, text.text
            assert 0 <= float(text.attrib["y"]) <= height, text.text


def test_lists_of_every_age_stand_beside_the_rungs_of_the_present() -> None:
    words = " ".join(Page(render(manifest(whole()))).words.split())

    assert "On the ladder of this bundle PRECOMPUTED stands below CF" in words
    for said in ("1 h", "7 days", "90.0% who had one", "40.0% of them, active since"):
        assert said in words
    assert words.count("active since") == 1
    assert "The same where everybody has a precomputed list of the night before" in words


def test_hits_and_reasons_stand_beside_the_items() -> None:
    html = render(manifest({**whole(), "examples": [whole()["examples"][0] | {"history": []}]}))
    assert html.count("turned to it") == 1
    assert "because you had" in html
    assert "Plain lamp" in html


@pytest.mark.parametrize(
    ("means", "action", "headline"),
    [
        ((0.04, 0.09, 0.12), "publish", "Passed"),
        ((0.04, 0.1043, 0.1012), "refuse", "Refused: not DEEP above CF"),
        ((0.04, 0.1043, 0.1012), "mark", "Published with a mark: not DEEP above CF"),
    ],
)
def test_the_verdict_comes_first_and_names_the_number_that_failed(
    means: tuple[float, ...], action: str, headline: str
) -> None:
    one = measured(figures(*means))
    page = Page(render(manifest(dict(one.figures), gate={**check(one, None).as_dict(), "action": action})))
    assert page.headings[1] == headline
    if action != "publish":
        assert "0.1012" in page.words
        assert "0.1043" in page.words
        assert "What to do." in page.words


def test_without_figures_the_page_says_so_and_still_shows_the_data() -> None:
    page = Page(render(measured({}).manifest))
    assert "Nothing was measured" in page.words
    assert "Parameters" in page.headings


def test_an_old_bundle_with_few_figures_still_has_a_page() -> None:
    """Chapters that this build did not measure say so instead of failing."""
    page = Page(render(measured(figures(0.04, 0.1)).manifest))
    assert "Not measured in this build." in page.words
    assert "This bundle has no model" in page.words


def test_a_comparison_leads_with_what_changed() -> None:
    old, new = measured(figures(0.04, 0.09, 0.11), "monday"), measured(figures(0.04, 0.09, 0.12), "tuesday")
    page = Page(render(new.manifest, change=compare(old, new), about_change=True))
    assert page.headings[0] == "tuesday against monday"
    assert page.headings[2] == "What changed"
    assert "Not paired" in page.words


def test_plain_methods_and_targets_stand_beside_the_rungs() -> None:
    beside = {
        "baselines": {"new": {"item cosine": {"ndcg@20": interval(0.07)}}},
        "targets": [{"target": "DEEP", "value": 0.12, "bound": 0.2, "met": False, "chance": False}],
    }
    page = Page(render(manifest(whole()), beside=beside))
    assert page.headings[2] == "Beside plain methods"
    assert "item cosine" in page.words


def test_the_template_travels_with_the_package(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {
        "offline/publish/html_report/templates/page.html.j2",
        "offline/publish/html_report/templates/style.css",
    } <= names


@given(st.floats(-1e3, 1e3), st.floats(1e-4, 1e3))
def test_ticks_cover_what_they_are_for_with_few_round_steps(low: float, width: float) -> None:
    found = ticks(low, low + width)
    assert found[0] <= low + 1e-6 * width
    assert found[-1] >= low + width - 1e-6 * width
    assert found == sorted(found)
    assert 2 <= len(found) <= 8


@given(st.lists(st.floats(0, 200), min_size=1, max_size=12))
def test_labels_keep_their_order_their_distance_and_their_room(places: list[float]) -> None:
    found = spread(places, 15, 0, 200)
    order = sorted(range(len(places)), key=lambda i: (places[i], i))
    moved = [found[i] for i in order]
    assert all(b - a >= 15 - 1e-9 for a, b in pairwise(moved))
    assert min(found) >= -1e-9
    assert max(found) <= 200 + 1e-9


@given(st.floats(0.001, 100), st.floats(1.01, 1000), st.booleans())
def test_a_scale_keeps_order_and_stays_inside(low: float, times: float, log: bool) -> None:
    scale = Scale(low, low * times, 50.0, 400.0, log=log)
    assert scale(low) == pytest.approx(50.0)
    assert scale(low * times) == pytest.approx(400.0)
    assert scale(low * 0.5) == pytest.approx(50.0)
    assert 50.0 <= scale(low * (1 + times) / 2) <= 400.0


def test_a_point_is_drawn_where_its_value_is() -> None:
    """Two rows of an interval chart: the larger mean lies further right, by the ratio of the values."""
    rows = [Row("a", (Mark(0.1, 0.05, 0.2),)), Row("b", (Mark(0.3, 0.2, 0.4),))]
    drawn = ET.fromstring(intervals(rows, "x", "t", zero=True, left=60))  # noqa: S314 - our own
    zero = next(float(line.attrib["x1"]) for line in drawn.iter("line") if line.attrib["class"] == "zero")
    first, second = (float(circle.attrib["cx"]) - zero for circle in drawn.iter("circle"))
    assert second == pytest.approx(3 * first, rel=1e-3)


def test_shares_of_rungs_are_stacked_to_the_whole() -> None:
    """The highest band ends at the top of its panel, where it is all answers."""
    drawn = by_deadline(
        [1.0, 10.0],
        [0.1, 0.2],
        shares={"CF": [0.75, 0.25], "DEEP": [0.25, 0.75]},
        scored=[None, 1.0],
        levels={},
        metric="NDCG",
    )
    bands = re.findall(r'<path d="([^"]*)" class="band">', drawn)
    ys = [[float(point.split()[1]) for point in band.strip("MZ").split("L")] for band in bands]
    floor, roof = ys[0][-1], min(ys[1])
    assert ys[0][0] == pytest.approx(floor - 0.75 * (floor - roof), abs=0.05)
    assert ys[1][0] == pytest.approx(roof)


def test_curves_of_generators_are_named_at_their_ends() -> None:
    lines = [
        Curve(name, ((50.0, low), (500.0, low + 0.3)), "series-0", "circle", 100.0)
        for name, low in (("a", 0.1), ("b", 0.11))
    ]
    drawn = ET.fromstring(curves(lines, "n", "recall", "t"))  # noqa: S314 - our own
    named = {text.text: float(text.attrib["y"]) for text in drawn.iter("text") if text.attrib["class"] == "end-label"}
    assert set(named) == {"a", "b"}
    assert named["a"] - named["b"] >= 15 - 0.01
