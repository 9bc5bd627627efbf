"""A process starts from the newest bundle whose lower rungs can be used, and says which it passed over and why."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from core.manifest import BundleError, finished_bundles
from core.query import Request
from core.types import Reason, Tier, UserState
from server.loader import load_sound_rungs
from server.rungs.deadline import Deadline
from server.rungs.pipeline import Pipeline
from server.rungs.request_record import RequestRecord
from server.rungs.warm_up import record_golden
from server.rungs.work_pool import WorkPool
from server.settings import Settings
from server.start_up import start_up
from server.store.user_store import MemoryUserStore
from tests.server import toy
from tests.server.bundle_folder import flip, seal, write_broken_model, write_bundle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from core.bundle import Bundle
    from core.types import StopSignal
    from server.start_up import Started

SETTINGS = Settings(warm_up_requests=1)
HISTORY = [("item-11", "view", 60.0), ("item-02", "purchase", 3600.0)]
POPULARITY_FILE = "generators/popularity/score.npy"


class Store(MemoryUserStore):
    """Counts those that are open."""

    opened = 0

    def __init__(self) -> None:
        super().__init__(())
        Store.opened += 1

    async def close(self) -> None:
        Store.opened -= 1


@asynccontextmanager
async def started(
    folders: Sequence[Path], load: Callable[[Path], Bundle] = load_sound_rungs, settings: Settings = SETTINGS
) -> AsyncIterator[Started]:
    work = WorkPool(threads=1, max_jobs=4)
    Store.opened = 0
    try:
        up = await start_up(folders, load, lambda _: Store(), work, settings)
        assert Store.opened == 1
        yield up
    finally:
        work.close()


async def golden_of(bundle: Bundle, tier: Tier) -> dict[str, Any]:
    work = WorkPool(threads=1, max_jobs=4)
    entry = await record_golden(Pipeline(bundle, MemoryUserStore(()), work, Settings()), HISTORY, 5, tier)
    work.close()
    assert entry["tier"] == tier.name
    return entry


async def test_a_damaged_newest_bundle_is_passed_over_for_an_older_sound_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for version in ("v1", "v2", "v3"):
        write_bundle(tmp_path / version, version=version)
    flip(tmp_path / "v3" / POPULARITY_FILE)
    (tmp_path / "v2" / "catalogue" / "items.npz").unlink()

    async with started(finished_bundles(tmp_path)) as up:
        assert up.pipeline.bundle.version == "v1"
        assert [(each.version, each.fault.cause) for each in up.passed_over] == [("v3", "damaged"), ("v2", "damaged")]
    assert [line.split(": ")[0] for line in caplog.messages] == [
        "bundle v3 is passed over (damaged)",
        "bundle v2 is passed over (damaged)",
    ]
    assert str(tmp_path / "v3" / POPULARITY_FILE) in caplog.messages[0]


async def test_a_newest_bundle_with_a_broken_model_is_served_without_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_bundle(tmp_path / "v1", version="v1")
    write_broken_model(tmp_path / "v2", version="v2")

    async with started(finished_bundles(tmp_path)) as up:
        assert (up.pipeline.bundle.version, up.pipeline.deep, up.passed_over) == ("v2", None, ())
        assert set(up.pipeline.bundle.disabled) == {Tier.DEEP}
    assert "bundle v2: DEEP is disabled (unusable): " in caplog.text


async def test_when_no_bundle_can_be_used_each_is_named_with_its_reason(tmp_path: Path) -> None:
    for version in ("v1", "v2"):
        write_bundle(tmp_path / version)
        flip(tmp_path / version / POPULARITY_FILE)
    seal(tmp_path / "v2", items=7)

    with pytest.raises(BundleError, match="none of 2 bundles can be used") as refused:
        async with started(finished_bundles(tmp_path)):
            pass
    _, newest, oldest = str(refused.value).splitlines()
    assert newest == f"  v2: {tmp_path / 'v2' / 'catalogue'}: {toy.ITEMS} items, the manifest says 7"
    assert oldest.startswith(f"  v1: {tmp_path / 'v1' / POPULARITY_FILE}: its SHA-256")


async def test_the_error_of_a_single_bundle_is_its_own(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"^\S+nowhere: no such bundle folder"):
        async with started([tmp_path / "nowhere"]):
            pass


async def test_a_golden_request_that_a_lower_rung_answers_otherwise_passes_the_bundle_over(tmp_path: Path) -> None:
    sound = write_bundle(tmp_path / "v1", version="v1")
    golden = await golden_of(load_sound_rungs(sound), Tier.CF)
    wrong = write_bundle(tmp_path / "v2", golden=({**golden, "items": ["item-59", "item-58"]},))
    seal(sound, version="v1", golden=(golden,))

    async with started([wrong, sound]) as up:
        assert up.pipeline.bundle.version == "v1"
        assert [(each.version, each.fault.cause) for each in up.passed_over] == [("v2", "golden")]


def with_golden(bundle: Bundle, *golden: dict[str, Any]) -> Bundle:
    return replace(bundle, manifest=replace(bundle.manifest, golden=golden))


@pytest.mark.parametrize("fault", ["other items", "NaN", "raises"])
async def test_a_golden_request_that_the_model_answers_otherwise_disables_the_model(tmp_path: Path, fault: str) -> None:
    golden = [await golden_of(toy.bundle(), tier) for tier in (Tier.CF, Tier.DEEP)]
    wrong = {
        "other items": toy.ToyScorer(after=lambda scores: -scores),
        "NaN": toy.ToyScorer(after=lambda scores: scores * np.float32(np.nan)),
        "raises": toy.ToyScorer(toy.fail),
    }[fault]

    async with started([tmp_path], lambda _: with_golden(toy.bundle(scorer=wrong), *golden)) as up:
        record = RequestRecord(Deadline.never(), Tier.DEEP)
        answer = await up.pipeline.answer(Request("ada", 3), UserState(toy.HISTORY), record, now_s=1000.0)
        assert (answer.tier, answer.skipped[Tier.DEEP]) == (Tier.CF, Reason.DISABLED)
        assert up.pipeline.bundle.disabled[Tier.DEEP].cause == "golden"
        assert up.passed_over == ()


async def test_a_model_that_is_only_late_at_start_is_not_disabled(tmp_path: Path) -> None:
    """A machine that is busy while the process starts says nothing of the bundle."""

    def hang(stop: StopSignal | None) -> None:
        if stop is not None:
            toy.hang_until_stopped(stop)

    golden = await golden_of(toy.bundle(), Tier.DEEP)
    bundle = with_golden(toy.bundle(scorer=toy.ToyScorer(hang)), golden)
    async with started([tmp_path], lambda _: bundle, replace(SETTINGS, score_timeout_ms=1.0)) as up:
        assert up.pipeline.deep is not None
        assert {breaker.opened for breaker in up.pipeline.breakers.values()} == {0}


async def test_a_plug_in_that_raises_while_it_is_loaded_passes_the_bundle_over(tmp_path: Path) -> None:
    def load(folder: Path) -> Bundle:
        if folder.name == "v2":
            raise RuntimeError("no such device")
        return toy.bundle()

    async with started([tmp_path / "v2", tmp_path / "v1"], load) as up:
        assert [(each.version, each.fault.cause) for each in up.passed_over] == [("v2", "unusable")]
        assert "RuntimeError: no such device" in up.passed_over[0].fault.text


async def test_it_can_be_cancelled_while_it_loads(tmp_path: Path) -> None:
    loading, release = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def load(_: Path) -> Bundle:
        loop.call_soon_threadsafe(loading.set)
        release.wait()
        return toy.bundle()

    async def run() -> None:
        async with started([tmp_path], load):
            pytest.fail("not cancelled")

    task = asyncio.ensure_future(run())
    await loading.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()
