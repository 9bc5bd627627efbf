"""A bundle folder is opened as it was sealed or not at all, but for a deep rung that cannot be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core.manifest import BundleError, read_manifest
from core.query import Request
from core.types import Tier, UserState
from server.loader import load_bundle, load_sound_rungs
from server.rungs.deadline import Deadline
from server.rungs.pipeline import Pipeline
from server.rungs.request_record import RequestRecord
from server.rungs.warm_up import record_golden, warm_up
from server.rungs.work_pool import WorkPool
from server.settings import Settings
from server.store.user_store import MemoryUserStore
from tests.server import toy
from tests.server.bundle_folder import MODEL, flip, seal, write_broken_model, write_bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core.bundle import Bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "toy")


async def test_a_loaded_bundle_answers(folder: Path) -> None:
    bundle = load_bundle(folder)
    work = WorkPool(threads=1, max_jobs=2)
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


def test_a_file_that_no_list_names_is_not_opened(folder: Path) -> None:
    (folder / "generators" / "popularity" / "stray.npy").write_bytes(b"1")

    with pytest.raises(BundleError, match=r"popularity/stray.npy: not in the manifest's list of files"):
        load_bundle(folder)


@pytest.mark.parametrize("loads", [load_bundle, load_sound_rungs])
def test_a_file_of_the_lower_rungs_is_needed(folder: Path, loads: Callable[[Path], Bundle]) -> None:
    flip(folder / "generators" / "co_occurrence" / "params.json")

    with pytest.raises(BundleError, match="SHA-256") as refused:
        loads(folder)
    assert refused.value.cause == "damaged"


def test_a_deep_rung_that_cannot_be_opened_is_disabled_and_the_rest_is_not(tmp_path: Path) -> None:
    folder = write_broken_model(tmp_path / "v1")
    bundle = load_sound_rungs(folder)

    assert bundle.disabled[Tier.DEEP].cause == "unusable"
    assert str(folder / MODEL) in bundle.disabled[Tier.DEEP].text
    assert [generator.name for generator in bundle.generators] == ["co_occurrence", "popularity"]
    with pytest.raises(BundleError, match=MODEL):
        load_bundle(folder)


@pytest.mark.parametrize("name", [MODEL, "model/stray.onnx", "generators/ann/params.json"])
def test_a_damaged_file_of_the_deep_rung_alone_disables_it(tmp_path: Path, name: str) -> None:
    generators = {n: {"limit": 20} for n in ("co_occurrence", "ann", "popularity")}
    folder = write_broken_model(tmp_path / "v1")
    (folder / "generators" / "ann").mkdir()
    (folder / "generators" / "ann" / "params.json").write_text("{}")
    seal(folder, model={"kind": "toy"}, generators=generators)
    (folder / name).write_text("damaged!")
    bundle = load_sound_rungs(folder)

    assert (bundle.scorer, bundle.disabled[Tier.DEEP].cause) == (None, "damaged")
    assert str(folder / name) in bundle.disabled[Tier.DEEP].text
    assert [generator.name for generator in bundle.generators] == ["co_occurrence", "popularity"]


def test_a_model_folder_that_is_a_link_disables_the_deep_rung(tmp_path: Path) -> None:
    folder = write_broken_model(tmp_path / "v1")
    (folder / "model").rename(tmp_path / "elsewhere")
    (folder / "model").symlink_to(tmp_path / "elsewhere")

    assert f"{folder / 'model'}: a symbolic link" in load_sound_rungs(folder).disabled[Tier.DEEP].text


async def test_answers_tell_a_disabled_rung_from_one_that_was_never_built(tmp_path: Path) -> None:
    work = WorkPool(threads=1, max_jobs=2)
    reasons = []
    for folder in (write_broken_model(tmp_path / "v1"), write_bundle(tmp_path / "v2")):
        pipeline = Pipeline(load_sound_rungs(folder), MemoryUserStore(()), work, Settings())
        record = RequestRecord(Deadline.never(), Tier.DEEP)
        answer = await pipeline.answer(Request("ada", 3), UserState(toy.HISTORY), record, now_s=1000.0)
        assert answer.tier is Tier.CF
        reasons.append(answer.skipped[Tier.DEEP])
    work.close()

    assert reasons == ["disabled", "not_configured"]


def test_a_generator_without_a_limit_is_an_error_of_the_bundle(folder: Path) -> None:
    seal(folder, generators={"co_occurrence": {}, "popularity": {"limit": 5}})

    with pytest.raises(BundleError, match="limit"):
        load_bundle(folder)


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
    work = WorkPool(threads=1, max_jobs=2)
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
    failed = {"name": "DEEP above CF", "passed": False, "message": "0.10 against 0.12", "mend": ""}
    passed = {"name": "CF above POPULARITY", "passed": True, "message": "", "mend": ""}
    seal(folder, gate={"passed": False, "action": "mark", "checks": [passed, failed]})
    load_bundle(folder)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "not DEEP above CF: 0.10 against 0.12" in record.getMessage()
