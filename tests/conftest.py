from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from server.store.embedded import EmbeddedStore

if TYPE_CHECKING:
    from collections.abc import Iterator

# No test here says how quick a machine is.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real Valkey, one for all tests; each test takes a namespace of its own."""
    with EmbeddedStore(tmp_path_factory.mktemp("valkey")) as store:
        yield store.url
