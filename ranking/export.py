"""From trained networks to the files that serve: ONNX graphs, checked against what was trained."""

from __future__ import annotations

import json
import logging
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch

from ranking.model_file import complaint
from ranking.networks import Ensemble, ServedTower, UserTower
from ranking.onnx_scorer import DESCRIPTION, FEATURES, FORMAT_VERSION, ITEM_VECTORS, RANKER, TOWER

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import nn

    from core.types import Vector
    from ranking.features import Features
    from ranking.networks import SetTower

_OPSET = 18
_TOLERANCE = 1e-4


class ExportError(Exception):
    """A graph does not compute what was trained, or has what serving does not load."""


def save_model(
    folder: Path,
    *,
    tower: UserTower | SetTower,
    ensemble: Ensemble,
    item_vectors: Vector,
    features: Features,
    sample: Vector | None = None,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write what ``ranking.onnx_scorer.load_model`` reads into ``folder``, which exists and is empty.

    Args:
        folder: the model's folder inside the bundle.
        tower: the trained user tower.
        ensemble: the trained rankers.
        item_vectors: [items, d] of the same training as ``tower``.
        features: built at the release's cut.
        sample: [n, F] real features to check the ranker's graph with, beside random ones.
        about: anything that JSON can say about the training; kept in ``model.json``.

    Raises:
        ExportError: a graph's answers are not the network's.
    """
    vectors = np.ascontiguousarray(item_vectors, np.float32)
    if not np.isfinite(vectors).all():
        raise ExportError("item vectors: NaN or infinite values, training diverged")
    np.save(folder / ITEM_VECTORS, vectors)
    export_tower(folder / TOWER, tower, vectors)
    export_ranker(folder / RANKER, ensemble, vectors, len(features.names), sample)
    (folder / FEATURES).mkdir()
    features.save(folder / FEATURES)
    described = {"format_version": FORMAT_VERSION, "width": vectors.shape[1], **(about or {})}
    (folder / DESCRIPTION).write_text(json.dumps(described, indent=1, allow_nan=False), encoding="utf-8")


def export_tower(path: Path, tower: UserTower | SetTower, item_vectors: Vector) -> None:
    """Write the user tower for one user and h events, newest first, and check it.

    Raises:
        ExportError: the graph's answers are not the network's.
    """
    rng = np.random.default_rng(0)
    n_types = tower.types.num_embeddings

    def history(h: int) -> dict[str, NDArray[Any]]:
        return {
            "history_vectors": item_vectors[rng.integers(0, len(item_vectors), h)],
            "history_types": rng.integers(0, n_types + 1, h),
            "history_ages": np.linspace(0, 1e6, h, dtype=np.float32),
        }

    module = ServedTower(tower.eval())
    length = torch.export.Dim("h", min=1, max=4096)
    shapes = {name: {0: length} for name in history(1)}
    _export(path, module, history(tower.context_length + 7), shapes, "user_vector")
    _check(path, module, [history(h) for h in (1, 2, 3, 17, tower.context_length, 4 * tower.context_length)])


def export_ranker(
    path: Path, ensemble: Ensemble, item_vectors: Vector, n_features: int, sample: Vector | None = None
) -> None:
    """Write the ranker for one user and n rows, and check it on random and real features.

    Raises:
        ExportError: the graph's answers are not the network's.
    """
    rng = np.random.default_rng(0)
    width = item_vectors.shape[1]

    def pool(n: int, features: Vector | None = None) -> dict[str, NDArray[Any]]:
        return {
            "user_vector": rng.normal(size=(width,)).astype(np.float32),
            "item_vectors": item_vectors[rng.integers(0, len(item_vectors), n)],
            "features": rng.normal(size=(n, n_features)).astype(np.float32) if features is None else features,
        }

    module = ensemble.eval()
    rows = torch.export.Dim("n", min=1, max=1 << 20)
    shapes: dict[str, dict[int, Any]] = {"user_vector": {}, "item_vectors": {0: rows}, "features": {0: rows}}
    _export(path, module, pool(7), shapes, "scores")
    checks = [pool(n) for n in (1, 2, 33, 500)]
    if sample is not None and len(sample):
        checks.append(pool(min(len(sample), 1000), np.asarray(sample[:1000], np.float32)))
    nobody = pool(5)
    nobody["user_vector"] = np.zeros(width, np.float32)
    _check(path, module, [*checks, nobody])


def _export(
    path: Path, module: nn.Module, example: dict[str, NDArray[Any]], shapes: dict[str, dict[int, Any]], output: str
) -> None:
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # deprecations inside torch and onnxscript, none of ours
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            torch.onnx.export(
                module,
                tuple(torch.from_numpy(value) for value in example.values()),
                str(path),
                input_names=list(example),
                output_names=[output],
                dynamic_shapes=shapes,
                opset_version=_OPSET,
                dynamo=True,
                external_data=False,
                optimize=True,
                verbose=False,
            )
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
    wrong = complaint(onnx.load(str(path), load_external_data=False))
    if wrong is not None:
        raise ExportError(f"{path}: {wrong}")


def _check(path: Path, module: nn.Module, cases: list[dict[str, NDArray[Any]]]) -> None:
    """Run both on the same inputs."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    for case in cases:
        (found,) = session.run(None, case)
        with torch.no_grad():
            expected = module(*(torch.from_numpy(value) for value in case.values())).numpy()
        scale = max(float(np.abs(expected).max()), 1.0)
        error = float(np.abs(found - expected).max()) / scale if found.shape == expected.shape else float("inf")
        if not error < _TOLERANCE:
            shapes = {name: value.shape for name, value in case.items()}
            raise ExportError(f"{path}: differs from the network by {error:.2g} of its scale on {shapes}")
