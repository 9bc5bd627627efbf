from __future__ import annotations

import pytest

from offline.shop import generate_shop


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Options that name the files of a small generated shop."""
    events, items = generate_shop(users=260, items=180, events=9_000, days=120, seed=3).write(
        tmp_path_factory.mktemp("shop")
    )
    return ("--events", str(events), "--items", str(items))
