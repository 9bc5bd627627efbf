from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
import redis.asyncio as redis

from server.release.release_store import ReleaseStore
from tests.server.release.whole_bundle import copy, write_whole_bundle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PATIENT_S = 60.0


@pytest.fixture
def namespace() -> str:
    return uuid.uuid4().hex


@pytest.fixture
async def store(valkey: str, namespace: str) -> AsyncIterator[ReleaseStore]:
    store = ReleaseStore(valkey, namespace, timeout_s=PATIENT_S)
    yield store
    await store.close()


@pytest.fixture
async def client(valkey: str) -> AsyncIterator[redis.Redis]:
    """Redis as somebody else uses it."""
    async with redis.Redis.from_url(valkey) as client:
        yield client


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with every kind of part; nobody changes it."""
    return write_whole_bundle(tmp_path_factory.mktemp("sound") / "v1")


@pytest.fixture
def bundle(sound: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return copy(sound, tmp_path / "v1")
