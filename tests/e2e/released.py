"""Servers that follow a release document, and the command that changes it."""

from __future__ import annotations

import json
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

from terrace.client import Client
from tests.e2e.commands import terrace
from tests.e2e.served import serving, until
from tests.server.bundle_folder import write_bundle

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.served import Served

    Release = Callable[..., subprocess.CompletedProcess[str]]

USERS = [f"user-{i}" for i in range(60)]


@contextmanager
def released(tmp_path: Path, valkey: str, *options: str) -> Iterator[tuple[Served, Release]]:
    """A server of two workers over the bundles v1 and v2, of which v1 is live, and the command that releases."""
    bundles, namespace = tmp_path / "bundles", uuid.uuid4().hex
    write_bundle(bundles / "v1", version="v1")
    store = ("--store-url", valkey, "--namespace", namespace)

    def release(*arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        return terrace("release", *arguments, *store, expect=expect)

    more = ("--workers", "2", "--max-connection-age-s", "0.5", "--data", str(tmp_path / "data"), *options)
    with serving("--bundles", str(bundles), *store, *more, log=tmp_path / "log") as served:
        assert served.line.startswith("serving v1 on ")
        write_bundle(bundles / "v2", version="v2")
        until(lambda: replica(release).get("answers_from") == "v1", "it has reported")
        yield served, release


def answered(served: Served) -> dict[str, str]:
    """The version that answers each user."""
    with Client(served.target) as client:
        return {user: client.recommend(user, limit=5, timeout_ms=20_000).bundle_version for user in USERS}


def replica(release: Release) -> dict[str, object]:
    """What the server has reported; nothing where it has not."""
    found = json.loads(release("status", "--json").stdout)["replicas"]
    return found[0] if found else {}
