from __future__ import annotations

import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.server.precompute.world import world_in

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.precompute.world import World


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of 600 items with real generators and networks, and 240 users."""
    folder = tmp_path_factory.mktemp("synthetic")
    command = [sys.executable, "-m", "loadtests.synthetic", str(folder), "--items", "600", "--users", "240"]
    subprocess.run(command, check=True, timeout=280)
    return folder


@pytest.fixture
async def world(files: Path, valkey: str) -> World:
    """The bundle and its users in a namespace of their own."""
    found = world_in(files, valkey, uuid.uuid4().hex)
    await found.fill(found.events())
    return found
