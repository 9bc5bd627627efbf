from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from offline.read.engine import open_engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from offline.read.engine import Engine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A DuckDB engine of its own for each test."""
    with open_engine(memory="1GB", threads=1, folder=tmp_path) as opened:
        yield opened
