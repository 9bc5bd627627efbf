"""A bundle folder is opened whole or not at all."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from candidate_gen.cooccurrence import CoOccurrence, Params
from candidate_gen.neighbours import NeighbourTable
from candidate_gen.popularity import Popularity, Ranking
from core.manifest import BundleError, digest, read_manifest, write_manifest
from core.query import Request
from core.types import Tier, UserState
from ranking.cf_scorer import CfParams, CfScorer, SourceTerm
from server.loader import load_bundle
from server.rungs.deadline import Deadline
from server.rungs.pipeline import Pipeline
from server.rungs.request_record import RequestRecord
from server.rungs.warm_up import record_golden, warm_up
from server.rungs.work_pool import WorkPool
from server.settings import Settings
from server.store.user_store import MemoryUserStore
from tests.server import toy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any


def seal(folder: Path, **changes: Any) -> None:
    generators: Mapping[str, Mapping[str, Any]] = {"co_occurrence": {"limit": 20}, "popularity": {"limit": 20}}
    manifest = replace(toy.bundle().manifest, generators=generators)
    files = {
        path.relative_to(folder).as_posix(): digest(path)
        for path in folder.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    write_manifest(folder, replace(manifest, files=files, **changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle of the toy catalogue with the real generators: item i goes with i + 1 and i + 2."""
    items = toy.catalogue()
    for name in ("catalogue", "cf", "similar", "generators/co_occurrence", "generators/popularity"):
        (tmp_path / name).mkdir(parents=True)
    items.save(tmp_path / "catalogue")
    popularity = np.arange(1, toy.ITEMS + 1, dtype=np.float32)
    left = np.repeat(np.arange(toy.ITEMS, dtype=np.int32), 2)
    right = ((left + np.tile([1, 2], toy.ITEMS)) % toy.ITEMS).astype(np.int32)
    table = NeighbourTable.of_pairs(toy.ITEMS, left, right, np.tile([1.0, 0.5], toy.ITEMS).astype(np.float32))
    CoOccurrence(table, Params()).save(tmp_path / "generators" / "co_occurrence")
    order = np.arange(toy.ITEMS - 1, -1, -1, dtype=np.int32)
    by_category = [np.flatnonzero(items.category_idx[order] == c).astype(np.int32) for c in (0, 1)]
    ptr = np.array([0, len(by_category[0]), toy.ITEMS], np.int64)
    ranking = Ranking(popularity, order, ptr, np.concatenate(by_category))
    Popularity(ranking).save(tmp_path / "generators" / "popularity")
    CfScorer(CfParams(sources={"co_occurrence": SourceTerm(1.0)}), popularity).save(tmp_path / "cf")
    CfScorer(CfParams(sources={"co_occurrence": SourceTerm(1.0)}), popularity).save(tmp_path / "similar")
    seal(tmp_path)
    return tmp_path


async def test_a_loaded_bundle_answers(folder: Path) -> None:
    bundle = load_bundle(folder)
    work = WorkPool(threads=1, slots=2)
    pipeline = Pipeline(bundle, MemoryUserStore(()), work, Settings())

    record = RequestRecord(Deadline.never(), Tier.DEEP)
    answer = await pipeline.answer(Request("ada", 3), UserState(toy.HISTORY), record, now_s=1000.0)
    work.close()

    assert answer.tier is Tier.CF
    assert {"item-12", "item-13"} <= {bundle.catalogue.ids[row] for row in answer.rows.tolist()}


def test_a_changed_cut_or_missing_file_is_named_and_nothing_is_loaded(folder: Path) -> None:
    for name in read_manifest(folder).files:
        path = folder / name
        whole = path.read_bytes()
        middle = len(whole) // 2
        for damaged in (b"", whole[:-1], whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :], None):
            if damaged is None:
                path.unlink()
            else:
                path.write_bytes(damaged)
            with pytest.raises(BundleError) as refused:
                load_bundle(folder)
            assert str(path) in str(refused.value)
        path.write_bytes(whole)

    assert load_bundle(folder).version == "toy"


def test_a_generator_that_is_not_installed_is_named(folder: Path) -> None:
    seal(folder, generators={"popularity": {"limit": 5}, "astrology": {"limit": 5}})

    with pytest.raises(BundleError, match="astrology"):
        load_bundle(folder)


def test_a_bundle_without_popularity_is_refused(folder: Path) -> None:
    seal(folder, generators={"co_occurrence": {"limit": 5}})

    with pytest.raises(BundleError, match="popularity"):
        load_bundle(folder)


def test_a_catalogue_of_another_size_is_refused(folder: Path) -> None:
    seal(folder, items=toy.ITEMS + 1)

    with pytest.raises(BundleError, match="60 items, the manifest says 61"):
        load_bundle(folder)


async def test_golden_answers_must_come_again(folder: Path) -> None:
    work = WorkPool(threads=1, slots=2)
    history = [("item-11", "view", 60.0), ("item-02", "purchase", 3600.0)]
    golden = await record_golden(Pipeline(load_bundle(folder), MemoryUserStore(()), work, Settings()), history, 5)
    seal(folder, golden=(golden,))
    same = Pipeline(load_bundle(folder), MemoryUserStore(()), work, Settings())
    seal(folder, golden=({**golden, "items": ["item-59", "item-58"]},))
    other = Pipeline(load_bundle(folder), MemoryUserStore(()), work, Settings())

    await warm_up(same, 1)
    with pytest.raises(BundleError, match="golden"):
        await warm_up(other, 1)
    work.close()


def test_a_marked_bundle_is_served_and_the_mark_is_logged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    failed = {"name": "DEEP above CF", "passed": False, "said": "0.10 against 0.12", "mend": ""}
    passed = {"name": "CF above POPULARITY", "passed": True, "said": "", "mend": ""}
    seal(folder, gate={"passed": False, "action": "mark", "checks": [passed, failed]})
    load_bundle(folder)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "not DEEP above CF: 0.10 against 0.12" in record.getMessage()
