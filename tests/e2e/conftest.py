from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from offline.shop import generate_shop
from tests.e2e.commands import terrace

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Options that name the files of a small generated shop."""
    events, items = generate_shop(users=260, items=180, events=9_000, days=120, seed=3).write(
        tmp_path_factory.mktemp("shop")
    )
    return ("--events", str(events), "--items", str(items))


@pytest.fixture(scope="session")
def built(shop: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Folder of bundles with one bundle, signed by the key beside the folder, and the figures that its build printed."""
    parent = tmp_path_factory.mktemp("built")
    bundles = parent / "bundles"
    terrace("bundle", "keygen", str(parent / "key"))
    done = terrace("build", *shop, "--bundles", str(bundles), "--sign-key", str(parent / "key"), "--json")
    return bundles, json.loads(done.stdout)
