"""A guarded rollout with real servers: a version that is worse is taken away and frozen, one that is not is promoted."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from terrace.cli.release_rollout import HELD, INTERRUPTED, ROLLED_BACK
from terrace.client import Client
from tests.e2e.served import PATIENCE_S, until
from tests.e2e.test_swaps import answered, released, replica
from tests.server import toy
from tests.server.bundle_folder import seal, write_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.served import Served

_log = logging.getLogger(__name__)
QUICK = ("--interval", "0.5s", "--hold", "2s", "--min-calls", "100", "--json")
UNTIMED = ("--threshold", "p99=1000000")
"""A machine that stalls says nothing of a version."""


def write_empty_bundle(folder: Path, **changes: Any) -> None:
    """A bundle none of whose items is available, so that its lists have no item."""
    write_bundle(folder)
    items = toy.catalogue()
    items.available[:] = False
    for path in (folder / "catalogue").iterdir():
        path.unlink()
    items.save(folder / "catalogue")
    seal(folder, **changes)


def write_foreign_bundle(folder: Path, **changes: Any) -> None:
    """A bundle whose items are all others."""
    write_bundle(folder)
    items = toy.catalogue()
    items.ids[:] = [f"other-{row:02}" for row in range(len(items.ids))]
    for path in (folder / "catalogue").iterdir():
        path.unlink()
    items.save(folder / "catalogue")
    seal(folder, **changes)


@contextmanager
def many_users(served: Served) -> Iterator[list[tuple[float, str, int]]]:
    """Calls of ever other users; when each was answered, from which version, with how many items."""
    enough = threading.Event()
    found: list[tuple[float, str, int]] = []

    def ask(name: int) -> None:
        with Client(served.target) as client:
            n = 0
            while not enough.is_set():
                n += 1
                answer = client.recommend(f"user-{name}-{n}", limit=5, timeout_ms=20_000)
                found.append((time.monotonic(), answer.bundle_version, len(answer.items)))

    threads = [threading.Thread(target=ask, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        enough.set()
        for thread in threads:
            thread.join()


def decisions(stdout: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stdout.splitlines()]


def acts(stdout: str) -> list[tuple[str, float]]:
    """What was done, and the share then."""
    return [(each["act"], each["share"]) for each in decisions(stdout) if each["act"] != "wait"]


def test_a_version_with_empty_lists_is_rolled_back_and_frozen_in_one_change(
    tmp_path: Path, valkey: str, record_property: Any
) -> None:
    with released(tmp_path, valkey) as (served, release), many_users(served) as calls:
        write_empty_bundle(tmp_path / "bundles" / "v3", version="v3")
        told = release("rollout", "v3", "--shadow", "0", "--steps", "50,100", *QUICK, *UNTIMED, expect=ROLLED_BACK)
        until(lambda: set(answered(served).values()) == {"v1"}, "all have the old one")
        found = json.loads(release("status", "--json").stdout)["release"]
        again = release("rollout", "v3", *QUICK, expect=2)

    worse = [at_s for at_s, version, _ in calls if version == "v3"]
    took_s = worse[-1] - worse[0]
    record_property("s_from_first_bad_answer_to_last", round(took_s, 1))
    _log.info("from the first answer of the bad version to the last: %.1f s, %d answers", took_s, len(worse))
    assert acts(told.stdout) == [("share", 0.5), ("withdraw", 0.0)]
    assert "empty" in found["frozen"]["v3"]
    assert decisions(told.stdout)[-1]["revision"] == found["revision"]
    assert (found["candidate_share"], found["note"].startswith("v3 rolled back and frozen: empty")) == (0.0, True)
    assert "v3 is frozen" in again.stderr
    assert took_s <= 60


def test_a_version_that_is_no_worse_is_promoted_step_by_step(tmp_path: Path, valkey: str) -> None:
    with released(tmp_path, valkey) as (served, release), many_users(served) as calls:
        told = release("rollout", "v2", "--shadow", "1", "--steps", "50,100", *QUICK, *UNTIMED)
        until(lambda: set(answered(served).values()) == {"v2"}, "all have the new one")

    assert acts(told.stdout) == [("shadow", 0.0), ("share", 0.5), ("promote", 0.0), ("done", 0.0)]
    first_seen = next(i for i, (_, version, _) in enumerate(calls) if version == "v2")
    assert first_seen > 100
    passed = decisions(told.stdout)[-1]["comparison"]
    overlap = next(each for each in passed["findings"] if each["measure"] == "overlap")
    assert (overlap["candidate"], overlap["verdict"]) == (1.0, "pass")
    assert passed["candidate_calls"] >= 100


def test_a_version_whose_lists_have_nothing_in_common_is_held_before_any_user_sees_it(
    tmp_path: Path, valkey: str
) -> None:
    with released(tmp_path, valkey) as (served, release), many_users(served) as calls:
        write_foreign_bundle(tmp_path / "bundles" / "v3", version="v3")
        told = release("rollout", "v3", "--shadow", "1", *QUICK, *UNTIMED, expect=HELD)
        report = json.loads(release("report", "--json", "--min-calls", "100").stdout)
        metrics = served.values("terrace_shadow_calls_total")

    assert acts(told.stdout) == [("shadow", 0.0), ("held", 0.0)]
    assert {version for _, version, _ in calls} == {"v1"}
    overlap = next(each for each in report["shadow"]["findings"] if each["measure"] == "overlap")
    assert (overlap["candidate"], overlap["verdict"]) == (0.0, "hold")
    assert metrics['{version="v3"}'] >= 100


def test_a_rollout_that_is_stopped_leaves_the_share_and_goes_on_from_there(tmp_path: Path, valkey: str) -> None:
    """And whoever rolls out meanwhile is told."""
    with released(tmp_path, valkey) as (served, release), many_users(served):
        release("stage", "v2")
        until(lambda: replica(release)["loaded"] == ["v1", "v2"], "both are loaded")
        namespace = next((tmp_path / "data").glob("release-*.json")).stem.removeprefix("release-")
        store = ("--store-url", valkey, "--namespace", namespace)
        endless = ("rollout", "v2", "--shadow", "0", "--steps", "50,100", "--hold", "1h", "--interval", "0.2s")
        command = [sys.executable, "-m", "terrace.cli", "release", *endless, *store]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
            share = lambda: json.loads(release("status", "--json").stdout)["release"]["candidate_share"]  # noqa: E731
            until(lambda: share() == 0.5, "the first step")
            second = release("rollout", "v2", *QUICK, expect=2)
            first.send_signal(signal.SIGINT)
            said, _ = first.communicate(timeout=PATIENCE_S)
        left = share()
        went_on = release("rollout", "v2", "--shadow", "0", "--steps", "50,100", *QUICK, *UNTIMED)

    assert "a rollout is running already: v2 by " in second.stderr
    assert (first.returncode, left) == (INTERRUPTED, 0.5)
    assert "v2 stays at 50 % of the users" in said
    assert acts(went_on.stdout) == [("promote", 0.0), ("done", 0.0)]
