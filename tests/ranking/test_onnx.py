"""The files that serve: equal to what was trained, refused when they are not what serving reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from core.manifest import BundleError
from ranking.export import ExportError, export_ranker, save_model
from ranking.networks import Ensemble, Ranker
from ranking.onnx_scorer import OnnxScorer, OnnxUserEncoder, load_model
from tests.contracts.encoder_contract import EncoderContract, with_history
from tests.contracts.scorer_contract import InterruptibleScorerContract
from tests.ranking import world
from tests.ranking.conftest import SETTINGS
from tests.ranking.test_features import FEATURES

if TYPE_CHECKING:
    from pathlib import Path

    from core.types import Pool, Query, Vector
    from ranking.tower import TowerResult

WIDTH = 16
REACH = SETTINGS.context_length
Loaded = tuple[OnnxUserEncoder, OnnxScorer, "Vector"]


@pytest.fixture(scope="module")
def folder(trained: TowerResult, ensemble: Ensemble, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    sample = FEATURES.compute(world.query([5, 12]), world.pool())
    save_model(
        path, tower=trained.tower, ensemble=ensemble, item_vectors=trained.item_vectors, features=FEATURES,
        sample=sample, about={"tower_epochs": [12]},
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Loaded:
    return load_model(folder, world.ITEMS)


class TestOnnxUserEncoder(EncoderContract):
    @pytest.fixture
    def encoder(self, loaded: Loaded) -> OnnxUserEncoder:
        return loaded[0]

    @pytest.fixture
    def query(self) -> Query:
        return world.query([5, 12, 19, 3])

    @pytest.fixture
    def width(self) -> int:
        return WIDTH

    def test_it_is_the_trained_network(self, encoder: OnnxUserEncoder, trained: TowerResult, query: Query) -> None:
        """Also in the newest place of a longer, filled-up window, which is how it was trained."""
        filled = np.zeros((1, REACH, WIDTH), np.float32)
        filled[0, :4] = trained.item_vectors[query.history]
        ages = np.full((1, REACH), query.history_age_s[-1], np.float32)
        ages[0, :4] = query.history_age_s
        types = np.zeros((1, REACH), np.int64)
        types[0, :4] = query.history_type
        with torch.no_grad():
            expected = trained.tower(*map(torch.from_numpy, (filled, types, ages)), torch.arange(REACH)[None] < 4)
        np.testing.assert_allclose(encoder.encode(query), expected[0, 0].numpy(), atol=1e-4)

    def test_what_lies_further_back_than_it_reads_changes_nothing(self, encoder: OnnxUserEncoder, query: Query) -> None:
        long = with_history(query, 200)
        short = with_history(long, REACH)
        np.testing.assert_allclose(encoder.encode(long), encoder.encode(short), atol=1e-6)

    def test_event_types_it_never_met_count_as_unknown(self, encoder: OnnxUserEncoder, query: Query) -> None:
        vectors = []
        for code in (0, 77):
            query.history_type[:] = code
            vectors.append(encoder.encode(query))
        np.testing.assert_array_equal(*vectors)


class TestOnnxScorer(InterruptibleScorerContract):
    @pytest.fixture
    def scorer(self, loaded: Loaded) -> OnnxScorer:
        return loaded[1]

    @pytest.fixture
    def query(self, loaded: Loaded) -> Query:
        plain = world.query([5, 12, 19, 3])
        return world.query([5, 12, 19, 3], lambda: loaded[0].encode(plain))

    @pytest.fixture
    def pool(self) -> Pool:
        return world.pool()

    def test_it_is_the_trained_network(
        self, scorer: OnnxScorer, ensemble: Ensemble, trained: TowerResult, query: Query, pool: Pool
    ) -> None:
        assert query.user_vector is not None
        with torch.no_grad():
            expected = ensemble(
                torch.from_numpy(query.user_vector()),
                torch.from_numpy(trained.item_vectors[pool.rows]),
                torch.from_numpy(FEATURES.compute(query, pool)),
            )
        np.testing.assert_allclose(scorer.score(query, pool), expected.numpy(), atol=1e-4)

    def test_a_user_without_history_gets_scores_too(self, scorer: OnnxScorer, pool: Pool) -> None:
        assert np.isfinite(scorer.score(world.query([]), pool)).all()

    def test_an_empty_pool_gets_no_scores(self, scorer: OnnxScorer, query: Query, pool: Pool) -> None:
        assert scorer.score(query, pool.take(slice(0))).shape == (0,)


def test_item_vectors_are_mapped_and_not_copied(loaded: Loaded, trained: TowerResult) -> None:
    assert isinstance(loaded[2].base, np.memmap)
    np.testing.assert_array_equal(loaded[2], trained.item_vectors)


def test_the_folder_holds_nothing_that_needs_pickle(folder: Path) -> None:
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {".npy", ".onnx", ".json"}


def test_a_model_of_an_older_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text('{"format_version": 1}')
    with pytest.raises(BundleError, match="format_version is 1, this program reads 2"):
        load_model(tmp_path, world.ITEMS)


@pytest.mark.parametrize(
    ("name", "content"),
    [("model.json", b"{"), ("item_vectors.npy", b""), ("user_tower.onnx", b"\x08\x01"), ("ranker.onnx", None)],
)
def test_damaged_files_are_named(folder: Path, tmp_path: Path, name: str, content: bytes | None) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            target = tmp_path / path.relative_to(folder)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        load_model(tmp_path, world.ITEMS)


def test_files_of_another_catalogue_or_place_are_refused(folder: Path, loaded: Loaded) -> None:
    with pytest.raises(BundleError, match=r"item_vectors\.npy: float32 \(40, 16\)"):
        load_model(folder, world.ITEMS + 1)
    with pytest.raises(BundleError, match=r"ranker\.onnx: inputs are"):
        OnnxUserEncoder(folder / "ranker.onnx", loaded[2])
    with pytest.raises(BundleError, match=r"ranker\.onnx: inputs are"):
        OnnxScorer(folder / "ranker.onnx", np.zeros((world.ITEMS, 3), np.float32), FEATURES)


def test_a_graph_that_computes_something_else_is_not_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: TowerResult
) -> None:
    monkeypatch.setattr("ranking.export._TOLERANCE", 0.0)
    with pytest.raises(ExportError, match="differs from the network"):
        export_ranker(tmp_path / "ranker.onnx", Ensemble([Ranker(3, (4,))], 3), trained.item_vectors, 3)


def test_diverged_vectors_are_not_exported(tmp_path: Path, trained: TowerResult, ensemble: Ensemble) -> None:
    vectors = trained.item_vectors.copy()
    vectors[3, 2] = np.nan
    with pytest.raises(ExportError, match="diverged"):
        save_model(tmp_path, tower=trained.tower, ensemble=ensemble, item_vectors=vectors, features=FEATURES)
