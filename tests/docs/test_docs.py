"""The documents stay true: numbers, paths, commands and links are held against the code."""

from __future__ import annotations

import dataclasses
import importlib
import re
from pathlib import Path

import pytest

from server.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("CONTRIBUTING.md")])
OPERATIONS = ROOT / "docs/operations.md"
WIDTH = 120
_FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_CODE_PATH = re.compile(r"`([a-z_]+/[a-z_0-9/]+\.(?:py|toml|proto|txt))`")
_LINK = re.compile(r"\]\(([^)#:\s]+)\)")
_MAKE = re.compile(r"`make ([a-z-]+)")


def _table(page: Path, heading: str) -> dict[str, list[str]]:
    """Rows of the first table below a heading, by their first cell without backticks."""
    section = page.read_text(encoding="utf-8").split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return {cells[0].strip("`"): cells for cells in rows[2:]}


def _number(text: str) -> object:
    return None if text == "none" else float(text.replace(",", ""))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lines_of_prose_have_at_most_120_columns(page: Path) -> None:
    prose = _FENCE.sub("", page.read_text(encoding="utf-8")).splitlines()
    long = [line for line in prose if len(line) > WIDTH and not line.startswith(("|", "[![", "![", "    "))]

    assert long == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = {ROOT / path for path in _CODE_PATH.findall(text)} | {page.parent / link for link in _LINK.findall(text)}

    assert [str(path.relative_to(ROOT)) for path in sorted(named) if not path.exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_that_are_named_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

    assert set(_MAKE.findall(page.read_text(encoding="utf-8"))) - targets == set()


def test_every_section_of_the_design_says_whether_it_is_built() -> None:
    sections = re.split(r"^## ", (ROOT / "docs/design.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    silent = [
        title for title, _, text in (section.partition("\n") for section in sections)
        if not re.match(r"\n\*(Built|Planned)\b", text)
    ]  # fmt: skip

    assert silent == []


def test_the_settings_and_their_defaults_are_those_of_the_code() -> None:
    fields = {field.name: field for field in dataclasses.fields(Settings) if isinstance(field.default, int | float)}
    rows = _table(OPERATIONS, "Settings")

    assert {name: _number(cells[1]) for name, cells in rows.items()} == {
        name: field.default for name, field in fields.items() if not isinstance(field.default, bool)
    }


def test_the_constants_are_those_of_the_code() -> None:
    for name, cells in _table(OPERATIONS, "Constants").items():
        module, _, path = name.partition(":")
        value = importlib.import_module(module)
        for part in path.split("."):
            value = value[part] if isinstance(value, dict) else getattr(value, part)
        assert value == _number(cells[1]), name
