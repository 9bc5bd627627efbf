"""The embedded store lives as long as the process that started it, and its folder belongs to one at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import redis

from server.store.embedded import EmbeddedStore, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OWNER = """
import sys, time
from pathlib import Path
from server.store.embedded import EmbeddedStore
store = EmbeddedStore(Path(sys.argv[1]))
print(store.url, flush=True)
time.sleep(600)
"""


@contextmanager
def owner(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process with an embedded store, and its URL."""
    command = [sys.executable, "-c", OWNER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_a_valkey_ends_with_its_data_written_when_its_owner_is_killed(tmp_path: Path) -> None:
    with owner(tmp_path) as (process, url):
        with redis.Redis.from_url(url) as client:
            client.set("kept", "yes")
        process.send_signal(signal.SIGKILL)

        with (
            EmbeddedStore(tmp_path) as again,
            redis.Redis.from_url(again.url) as client,
        ):  # it had the lock till its end
            assert client.get("kept") == b"yes"


def test_a_second_one_on_the_same_folder_is_refused_by_the_name_of_the_first(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path) as first:
        with pytest.raises(
            StoreError,
            match=f"process {first._process.pid}, started by process {os.getpid()}, with the URL {first.url}",
        ) as refused:
            EmbeddedStore(tmp_path)

        assert str(tmp_path) in str(refused.value)
        with redis.Redis.from_url(first.url) as client:
            assert client.ping()
    with EmbeddedStore(tmp_path):
        pass
