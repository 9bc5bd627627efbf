"""Generators are found by name: the built-in ones and those of other packages."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from candidate_gen.ann import Ann
from candidate_gen.buy_again import BuyAgain
from candidate_gen.content import Content
from candidate_gen.cooccurrence import CoOccurrence
from candidate_gen.popularity import Popularity
from candidate_gen.random_walk import RandomWalk
from candidate_gen.registry import generator_class

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("kind", [Ann, BuyAgain, Content, CoOccurrence, Popularity, RandomWalk])
def test_every_built_in_generator_is_registered_under_its_name(kind: type) -> None:
    assert generator_class(kind.name) is kind


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(LookupError, match=r"'anm'; there are ann, buy_again, co_occurrence, content, popularity"):
        generator_class("anm")


def test_a_generator_of_another_distribution_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``pip install`` leaves behind: a module and metadata with an entry point."""
    (tmp_path / "weather_shop.py").write_text("class Weather:\n    name = 'weather'\n    inline = True\n")
    metadata = tmp_path / "weather_shop-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: weather-shop\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[terrace.candidate_generators]\nweather = weather_shop:Weather\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert generator_class("weather").__name__ == "Weather"
    with pytest.raises(LookupError, match="random_walk, weather"):
        generator_class("autumnal")


def test_answering_needs_no_offline_library() -> None:
    """A serving process loads every generator and never pays for ibis, DuckDB, Arrow, scikit-learn or SciPy."""
    program = (
        "import sys; from candidate_gen.registry import generator_class as g;"
        "[g(n) for n in ('ann', 'buy_again', 'co_occurrence', 'content', 'popularity')];"
        "print(sorted({'ibis', 'duckdb', 'pyarrow', 'sklearn', 'scipy', 'torch', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
