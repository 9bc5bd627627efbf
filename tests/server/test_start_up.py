"""A bundle is opened with the rungs that can be used, or refused with the reason."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from core.manifest import BundleError, GoldenError
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
from tests.server.bundle_folder import write_broken_model, write_bundle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from core.bundle import Bundle
    from core.types import StopSignal
    from server.start_up import Started

SETTINGS = Settings(warm_up_requests=1)
HISTORY = [("item-11", "view", 60.0), ("item-02", "purchase", 3600.0)]


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
    folder: Path, load: Callable[[Path], Bundle] = load_sound_rungs, settings: Settings = SETTINGS
) -> AsyncIterator[Started]:
    work = WorkPool(threads=1, max_jobs=4)
    Store.opened = 0
    try:
        up = await start_up(folder, load, lambda _: Store(), work, settings)
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


async def test_a_bundle_with_a_broken_model_is_opened_without_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_broken_model(tmp_path / "v2", version="v2")

    async with started(folder) as up:
        assert (up.pipeline.bundle.version, up.pipeline.deep) == ("v2", None)
        assert set(up.pipeline.bundle.disabled) == {Tier.DEEP}
    assert "bundle v2: DEEP is disabled (unusable): " in caplog.text


async def test_a_bundle_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"^\S+nowhere: no such bundle folder"):
        async with started(tmp_path / "nowhere"):
            pass


async def test_a_golden_request_that_a_lower_rung_answers_otherwise_refuses_the_bundle(tmp_path: Path) -> None:
    golden = await golden_of(load_sound_rungs(write_bundle(tmp_path / "v1", version="v1")), Tier.CF)
    wrong = write_bundle(tmp_path / "v2", golden=({**golden, "items": ["item-59", "item-58"]},))

    with pytest.raises(GoldenError):
        async with started(wrong):
            pass
    assert Store.opened == 0


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

    async with started(tmp_path, lambda _: with_golden(toy.bundle(scorer=wrong), *golden)) as up:
        record = RequestRecord(Deadline.never(), Tier.DEEP)
        answer = await up.pipeline.answer(Request("ada", 3), UserState(toy.HISTORY), record, now_s=1000.0)
        assert (answer.tier, answer.skipped[Tier.DEEP]) == (Tier.CF, Reason.DISABLED)
        assert up.pipeline.bundle.disabled[Tier.DEEP].cause == "golden"


async def test_a_model_that_is_only_late_at_start_is_not_disabled(tmp_path: Path) -> None:
    """A machine that is busy while the process starts says nothing of the bundle."""

    def hang(stop: StopSignal | None) -> None:
        if stop is not None:
            toy.hang_until_stopped(stop)

    golden = await golden_of(toy.bundle(), Tier.DEEP)
    bundle = with_golden(toy.bundle(scorer=toy.ToyScorer(hang)), golden)
    async with started(tmp_path, lambda _: bundle, replace(SETTINGS, score_timeout_ms=1.0)) as up:
        assert up.pipeline.deep is not None
        assert {breaker.opened for breaker in up.pipeline.breakers.values()} == {0}


async def test_a_plug_in_that_raises_while_it_is_loaded_refuses_the_bundle(tmp_path: Path) -> None:
    def load(_: Path) -> Bundle:
        raise RuntimeError("no such device")

    with pytest.raises(BundleError, match="RuntimeError: no such device") as refused:
        async with started(tmp_path / "v2", load):
            pass
    assert refused.value.cause == "unusable"


async def test_it_can_be_cancelled_while_it_loads(tmp_path: Path) -> None:
    loading, release = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def load(_: Path) -> Bundle:
        loop.call_soon_threadsafe(loading.set)
        release.wait()
        return toy.bundle()

    async def run() -> None:
        async with started(tmp_path, load):
            pytest.fail("not cancelled")

    task = asyncio.ensure_future(run())
    await loading.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()
