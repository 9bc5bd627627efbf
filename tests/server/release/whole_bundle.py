"""A small bundle with every kind of part: the toy's lower rungs, an index of nearest vectors, two models, golden requests.

The models are written by hand, so that nothing is trained: the user is the mean of the history's vectors, and a row's
score is its inner product with the user plus a little of its features.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from candidate_gen.ann import Ann
from candidate_gen.registry import BuildInputs
from core.manifest import digest, read_manifest, write_manifest
from ranking.features import Features, SourceScale
from ranking.onnx_scorer import DESCRIPTION, FEATURES, FORMAT_VERSION, ITEM_VECTORS, RANKER, TOWER
from ranking.sequences import Sequences
from terrace.cli.served import InProcess
from tests.server import toy
from tests.server.bundle_folder import seal, write_bundle

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

WIDTH = 8
OPSET = 18
GENERATORS = {"co_occurrence": {"limit": 20}, "ann": {"limit": 20}, "popularity": {"limit": 20}}
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def write_whole_bundle(folder: Path) -> Path:
    """Write it; returns the folder."""
    write_bundle(folder)
    items = toy.catalogue()
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(toy.ITEMS, WIDTH)).astype(np.float32)
    events: Any = None  # not looked at
    (folder / "generators" / "ann").mkdir()
    Ann.build(BuildInputs(events, items, (), 1000.0, vectors)).save(folder / "generators" / "ann")
    model = folder / "model"
    (model / FEATURES).mkdir(parents=True)
    np.save(model / ITEM_VECTORS, vectors)
    scales = {name: SourceScale(logarithm=False, low=0.0, high=1.0) for name in GENERATORS}
    features = Features.build(_sequences(), items, as_of_s=1000.0, scales=scales, content=vectors.astype(np.float16))
    features.save(model / FEATURES)
    write_models(model, len(features.names))
    (model / DESCRIPTION).write_text(json.dumps({"format_version": FORMAT_VERSION}))
    seal(folder, generators=GENERATORS, model={"width": WIDTH})
    with InProcess(folder) as served:
        golden = served.golden()
    seal(folder, generators=GENERATORS, model={"width": WIDTH}, golden=golden)
    return folder


def _sequences() -> Sequences:
    """Ten users with six events each."""
    items = np.random.default_rng(5).integers(0, toy.ITEMS, 60, np.int32)
    ptr = np.arange(0, 61, 6, dtype=np.int64)
    return Sequences(ptr, items, np.ones(60, np.int8), np.ones(60, np.float32), np.arange(900, 960, dtype=np.int64))


def write_models(folder: Path, n_features: int) -> None:
    """Write both models."""
    value = helper.make_tensor_value_info
    weights = numpy_helper.from_array(np.linspace(-0.1, 0.1, n_features, dtype=np.float32), "weights")
    axes = numpy_helper.from_array(np.array([0]), "axes")
    write_model(
        folder / TOWER,
        [helper.make_node("ReduceMean", ["history_vectors", "axes"], ["user_vector"], keepdims=0)],
        [
            value("history_vectors", FLOAT, ["h", WIDTH]),
            value("history_types", INT64, ["h"]),
            value("history_ages", FLOAT, ["h"]),
        ],
        [value("user_vector", FLOAT, [WIDTH])],
        [axes],
    )
    write_model(
        folder / RANKER,
        [
            helper.make_node("MatMul", ["item_vectors", "user_vector"], ["near"]),
            helper.make_node("MatMul", ["features", "weights"], ["said"]),
            helper.make_node("Add", ["near", "said"], ["scores"]),
        ],
        [
            value("user_vector", FLOAT, [WIDTH]),
            value("item_vectors", FLOAT, ["n", WIDTH]),
            value("features", FLOAT, ["n", n_features]),
        ],
        [value("scores", FLOAT, ["n"])],
        [weights],
    )


def write_model(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: list[onnx.TensorProto],
    *,
    opset: int = OPSET,
) -> None:
    """Write one model."""
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializer=weights)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10), str(path))


def copy(bundle: Path, folder: Path) -> Path:
    """The same bundle in another folder."""
    shutil.copytree(bundle, folder)
    return folder


def fit_manifest(folder: Path, **contents: Any) -> None:
    """Make the manifest's list that of the files that are there, and its account of them as before but for ``contents``."""
    manifest = read_manifest(folder)
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    files = {name: digest(folder / name) for name in sorted(names) if name != "manifest.json"}
    kept = {
        kind: {name: entry for name, entry in getattr(manifest.contents, kind).items() if name in files}
        for kind in ("arrays", "indexes", "models")
    }
    write_manifest(folder, replace(manifest, files=files, contents=replace(manifest.contents, **(kept | contents))))
