"""The example package of docs/examples: it keeps the generators' promises, is installed, built with and served."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from terrace.client import Client, Event
from tests.contracts.generator_contract import BuildableContract
from tests.contracts.generator_world import make_catalogue, make_inputs, make_query

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).parents[2] / "docs" / "examples" / "new_arrivals"
DAYS, CATEGORIES, READERS = 60, 3, 45


def _module() -> type:
    spec = importlib.util.spec_from_file_location("new_arrivals", PACKAGE / "new_arrivals.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.NewArrivals


NewArrivals = _module()


class TestNewArrivals(BuildableContract):
    kind = NewArrivals


def test_the_newest_of_the_users_categories_come_first() -> None:
    catalogue = make_catalogue(9, categories=[[row % 3] for row in range(9)], created_at=[50, 0, 0, 70, 0, 0, 60, 0, 0])
    made = NewArrivals.build(make_inputs([], catalogue))
    assert made.generate(make_query(catalogue, [6]), 5).rows.tolist() == [3, 6, 0]
    assert made.generate(make_query(catalogue, [6]), 2).rows.tolist() == [3, 6]


def test_an_item_without_a_date_is_as_old_as_its_first_event() -> None:
    catalogue = make_catalogue(3, categories=[[0], [0], [0]], created_at=[0, 15, 0])
    made = NewArrivals.build(make_inputs([(0, 0, 1.0, 10, 1), (0, 2, 1.0, 20, 2), (0, 0, 1.0, 30, 3)], catalogue))
    assert made.generate(make_query(catalogue, [0]), 5).rows.tolist() == [2, 1, 0]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, as ``pip install`` leaves it."""
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(PACKAGE)], check=True, capture_output=True)
    return target


@pytest.fixture(scope="module")
def news(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Options for a news site: two articles a day in each category, read that day by those who follow the category."""
    folder, rng = tmp_path_factory.mktemp("news"), np.random.default_rng(5)
    with (folder / "items.csv").open("w", newline="") as items, (folder / "events.csv").open("w", newline="") as events:
        articles, reads = csv.writer(items), csv.writer(events)
        articles.writerow(("item_id", "categories", "created_at"))
        reads.writerow(("user_id", "item_id", "timestamp"))
        for day in range(DAYS):
            morning = f"2025-{1 + day // 28:02d}-{1 + day % 28:02d}T"
            for category in range(CATEGORIES):
                for n in range(2):
                    articles.writerow((f"{category}-{day}-{n}", f"category {category}", f"{morning}06:00:00Z"))
            for reader in range(READERS):
                if rng.random() < 0.7:
                    read = f"{reader % CATEGORIES}-{day}-{rng.integers(2)}"
                    reads.writerow((f"reader-{reader}", read, f"{morning}{7 + rng.integers(12):02d}:00:00Z"))
    return ("--events", str(folder / "events.csv"), "--items", str(folder / "items.csv"))


@pytest.fixture(scope="module")
def bundle(installed: Path, news: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that was built where the package is installed."""
    bundles = tmp_path_factory.mktemp("bundles")
    command = [sys.executable, "-m", "terrace.cli", "build", *news, "--bundles", str(bundles)]
    subprocess.run(
        [*command, "--no-deep", "--no-evaluate"], check=True, capture_output=True, env=with_package(installed)
    )
    (found,) = bundles.iterdir()
    return found


def with_package(installed: Path) -> dict[str, str]:
    path = [str(installed), str(Path.cwd()), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


def serve(bundle: Path, folder: Path) -> list[str]:
    where = ["--bundle", str(bundle), "--data", str(folder / "store"), "--port", "0"]
    return [sys.executable, "-m", "terrace.cli", "serve", *where]


@pytest.fixture
def address(bundle: Path, installed: Path, tmp_path: Path) -> Iterator[str]:
    """A server process in which the package is installed."""
    with subprocess.Popen(
        [*serve(bundle, tmp_path), "--exercise-share", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=with_package(installed),
    ) as server:
        assert server.stdout is not None
        yield server.stdout.readline().split()[-1]
        server.terminate()
        try:
            server.wait(20)
        finally:
            server.kill()


def test_a_build_takes_the_installed_package_and_a_server_names_it_in_its_answers(bundle: Path, address: str) -> None:
    """Nobody has read an article of the last day in this category; only this generator can know of it."""
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    with Client(address) as client:
        answer = client.recommend("a-stranger", limit=5, recent_events=[Event("1-40-0", "view")], timeout_ms=5_000)

    assert manifest["generators"]["new_arrivals"]["limit"] > 0
    assert "new_arrivals" in {source for item in answer.items for source in item.sources}


def test_a_server_without_the_package_says_what_is_missing(bundle: Path, tmp_path: Path) -> None:
    done = subprocess.run(serve(bundle, tmp_path), capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 2
    assert "no candidate generator is called 'new_arrivals'" in done.stderr
    assert "Install the package that brings it" in done.stderr
