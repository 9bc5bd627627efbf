"""The distribution ``terrace-client``: what a calling service installs, and nothing else."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.server.running import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SOURCE = Path(__file__).parents[2] / "terrace"
ASK = """
import sys
from terrace.client import Client, Event
with Client(sys.argv[1]) as client:
    print(",".join(client.recommend("ada", limit=3, recent_events=[Event("item-11", "view")], timeout_ms=20_000).item_ids))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(SOURCE)]
    subprocess.run(command, check=True, capture_output=True)
    (found,) = out.glob("*.whl")
    return found


def test_the_wheel_has_stubs_and_client_only(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}

    assert wheel.name.startswith("terrace_client-")
    assert names == {
        "terrace/__init__.py",
        "terrace/client.py",
        "terrace/errors.py",
        "terrace/messages.py",
        "terrace/py.typed",
        "terrace/v1/__init__.py",
        "terrace/v1/recommendation_pb2.py",
        "terrace/v1/recommendation_pb2.pyi",
        "terrace/v1/recommendation_pb2_grpc.py",
        "terrace/v1/release_pb2.py",
        "terrace/v1/release_pb2.pyi",
        "terrace/v1/release_pb2_grpc.py",
    }


@pytest.fixture
async def target() -> AsyncIterator[str]:
    async with running() as server:
        yield server.address


async def test_a_service_that_installs_the_wheel_alone_gets_answers(wheel: Path, target: str, tmp_path: Path) -> None:
    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=120)

    def install_and_ask() -> tuple[str, set[str]]:
        run(sys.executable, "-m", "venv", "venv").check_returncode()
        python = str(tmp_path / "venv" / "bin" / "python")
        run(python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", str(wheel)).check_returncode()
        installed = run(python, "-m", "pip", "install", "--quiet", "--no-input", "--retries", "0", str(wheel))
        if installed.returncode:
            pytest.skip(f"no package registry in reach: {installed.stderr.strip().splitlines()[-1]}")
        asked = run(python, "-c", ASK, target)
        assert asked.returncode == 0, asked.stderr
        (site,) = (tmp_path / "venv" / "lib").glob("*/site-packages")
        return asked.stdout.strip(), {path.name for path in site.iterdir()}

    answer, packages = await asyncio.to_thread(install_and_ask)

    assert len(answer.split(",")) == 3
    assert "terrace" in packages
    assert packages.isdisjoint({"server", "core", "candidate_gen", "ranking", "offline", "loadtests", "numpy"})
