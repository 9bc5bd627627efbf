"""The deep rung online: two ONNX models, one that places the user, one that scores rows.

Sessions run on the calling thread alone: the server owns the threads. A run can be stopped from
another thread; it then ends at the next node of the graph, and the session stays usable.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from core.manifest import BundleError
from core.types import NO_SCORES, Stopped
from ranking.features import Features

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from core.types import Pool, Query, Scores, StopSignal, Vector

ITEM_VECTORS = "item_vectors.npy"
TOWER = "user_tower.onnx"
RANKER = "ranker.onnx"
FEATURES = "features"
DESCRIPTION = "model.json"
FORMAT_VERSION = 2
"""Of the model's folder; 2: names of the features that say which source knows a row."""

_FATAL_ONLY = 4


class OnnxUserEncoder:
    """The user tower (``core.types.UserEncoder``); thread-safe."""

    def __init__(self, path: Path, item_vectors: Vector) -> None:
        """Load the model.

        Args:
            path: the ``.onnx`` file.
            item_vectors: [items, d] float32.

        Raises:
            BundleError: the file is not a user tower for vectors of this width.
        """
        width = item_vectors.shape[1]
        self._session = _session(path)
        self._item_vectors = item_vectors
        _check(
            path,
            self._session,
            inputs={"history_vectors": (None, width), "history_types": (None,), "history_ages": (None,)},
            outputs={"user_vector": (width,)},
        )

    def encode(self, query: Query, stop: StopSignal | None = None) -> Vector:
        """[d] the user in the item-vector space; ``query.history`` must not be empty.

        Raises:
            Stopped: ``stop`` was set before the run ended.
        """
        inputs = {
            "history_vectors": self._item_vectors.take(query.history, axis=0),
            "history_types": query.history_type.astype(np.int64),
            "history_ages": query.history_age_s,
        }
        vector: Vector = _run(self._session, "user_vector", inputs, stop)
        return vector


class OnnxScorer:
    """The ranking model (``core.types.InterruptibleScorer``); thread-safe."""

    def __init__(self, path: Path, item_vectors: Vector, features: Features) -> None:
        """Load the model.

        Args:
            path: the ``.onnx`` file.
            item_vectors: [items, d] float32.
            features: the features that the model was trained with.

        Raises:
            BundleError: the file is not a ranker for these features and vectors.
        """
        width = item_vectors.shape[1]
        self._session = _session(path)
        self._item_vectors = item_vectors
        self._features = features
        self._nobody = np.zeros(width, np.float32)
        _check(
            path,
            self._session,
            inputs={
                "user_vector": (width,),
                "item_vectors": (None, width),
                "features": (None, len(features.names)),
            },
            outputs={"scores": (None,)},
        )

    def score(self, query: Query, pool: Pool, stop: StopSignal | None = None) -> Scores:
        """[n] scores in the pool's order.

        Raises:
            Stopped: ``stop`` was set before the run ended.
        """
        if not len(pool):
            return NO_SCORES
        user_vector = query.user_vector() if query.user_vector is not None else self._nobody
        inputs = {
            "user_vector": user_vector,
            "item_vectors": self._item_vectors.take(pool.rows, axis=0),
            "features": self._features.compute(query, pool),
        }
        scores: Scores = _run(self._session, "scores", inputs, stop)
        return scores


def load_model(folder: Path, n_items: int) -> tuple[OnnxUserEncoder, OnnxScorer, Vector]:
    """Open what ``ranking.export.save_model`` wrote.

    Sessions are created one after the other and from paths: ONNX Runtime holds the GIL when it loads
    from bytes, and does not support creating two at once.

    Args:
        folder: the model's folder inside the bundle.
        n_items: size of the catalogue.

    Returns:
        The user tower, the ranker and [items, d] item vectors, memory-mapped.

    Raises:
        BundleError: a file is missing or does not fit the others; the message names it.
    """
    _read_description(folder / DESCRIPTION)
    path = folder / ITEM_VECTORS
    try:
        # A plain array over the mapped file: `memmap` runs Python at every indexing.
        item_vectors = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, EOFError, ValueError) as error:
        raise BundleError(f"{path}: not readable as array ({error}). Build the bundle again") from error
    if item_vectors.dtype != np.float32 or item_vectors.ndim != 2 or len(item_vectors) != n_items:
        found = f"{item_vectors.dtype} {item_vectors.shape}"
        raise BundleError(f"{path}: {found}, float32 ({n_items}, width) expected. Build the bundle again")
    features = Features.load(folder / FEATURES, n_items)
    encoder = OnnxUserEncoder(folder / TOWER, item_vectors)
    return encoder, OnnxScorer(folder / RANKER, item_vectors, features), item_vectors


def _read_description(path: Path) -> Mapping[str, Any]:
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        version = described["format_version"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BundleError(f"{path}: not readable ({error}). Build the bundle again") from error
    if version != FORMAT_VERSION:
        raise BundleError(f"{path}: format_version is {version}, this program reads {FORMAT_VERSION}. Build again")
    found: Mapping[str, Any] = described
    return found


def _session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = _FATAL_ONLY  # what fails is raised
    if not path.is_file():
        raise BundleError(f"{path}: missing. Copy or build the bundle again")
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common base but Exception
        raise BundleError(f"{path}: ONNX Runtime cannot load it ({error}). Copy or build the bundle again") from error


def _check(
    path: Path,
    session: ort.InferenceSession,
    *,
    inputs: dict[str, tuple[int | None, ...]],
    outputs: dict[str, tuple[int | None, ...]],
) -> None:
    """Hold names and shapes of the model against what will be fed; None = any number."""
    for kind, found, expected in (("input", session.get_inputs(), inputs), ("output", session.get_outputs(), outputs)):
        shapes = {value.name: tuple(n if isinstance(n, int) else None for n in value.shape) for value in found}
        if shapes != expected:
            raise BundleError(f"{path}: {kind}s are {shapes}, {expected} expected. Build the bundle again")


def _run(session: ort.InferenceSession, output: str, inputs: Mapping[str, Any], stop: StopSignal | None) -> Any:
    """One output of one run.

    Raises:
        Stopped: ``stop`` was set before the run ended.
    """
    if stop is None:
        return session.run([output], inputs)[0]
    options = ort.RunOptions()
    options.log_severity_level = _FATAL_ONLY  # a stopped run is no error of the program

    def terminate() -> None:
        options.terminate = True

    stop.on_stop(terminate)
    try:
        return session.run([output], inputs, options)[0]
    except Exception as error:
        if options.terminate:
            raise Stopped from error
        raise
