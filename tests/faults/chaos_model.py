"""Models that can be made slow, endless or wrong from outside: ONNX graphs with a command input.

The ranker's feature ``spins`` is how often it goes round a loop before it answers, ``factor`` is what its scores are multiplied by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from pathlib import Path

FEATURES = ("spins", "factor")
_SIZE = 48


def _turning() -> onnx.GraphProto:
    """The body of a loop that multiplies a unit matrix by itself."""
    return helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["still"]),
            helper.make_node("MatMul", ["state", "square"], ["next"]),
        ],
        "round",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [_SIZE, _SIZE]),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [_SIZE, _SIZE]),
        ],
    )


def _save(path: Path, graph: onnx.GraphProto) -> None:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def write_tower(path: Path, width: int, rounds: int = 0) -> None:
    """Write a user tower with the inputs and outputs of ``ranking.export``'s: the mean of the history, after so many rounds."""
    nodes = [
        helper.make_node("Loop", ["rounds", "yes", "square"], ["done"], body=_turning()),
        helper.make_node("ReduceMin", ["done"], ["nothing"], keepdims=0),  # of a unit matrix: 0
        helper.make_node("ReduceMean", ["history_vectors"], ["mean"], axes=[0], keepdims=0),
        helper.make_node("Add", ["mean", "nothing"], ["user_vector"]),
    ]
    graph = helper.make_graph(
        nodes,
        "chaos_tower",
        [
            helper.make_tensor_value_info("history_vectors", TensorProto.FLOAT, ["events", width]),
            helper.make_tensor_value_info("history_types", TensorProto.INT64, ["events"]),
            helper.make_tensor_value_info("history_ages", TensorProto.FLOAT, ["events"]),
        ],
        [helper.make_tensor_value_info("user_vector", TensorProto.FLOAT, [width])],
        [
            numpy_helper.from_array(np.eye(_SIZE, dtype=np.float32), "square"),
            numpy_helper.from_array(np.array(rounds, np.int64), "rounds"),
            numpy_helper.from_array(np.array(True), "yes"),
        ],
    )
    _save(path, graph)


def write_model(path: Path, width: int) -> None:
    """Write a model with the inputs and outputs of ``ranking.export``'s, for vectors [n, width]."""
    square = numpy_helper.from_array(np.eye(_SIZE, dtype=np.float32), "square")
    body = _turning()
    nodes = [
        helper.make_node("ReduceMax", ["features"], ["most"], axes=[0], keepdims=0),
        helper.make_node("Split", ["most", "ones"], ["spins", "factor"], axis=0),
        helper.make_node("Cast", ["spins"], ["rounds_list"], to=TensorProto.INT64),
        helper.make_node("Squeeze", ["rounds_list"], ["rounds"]),
        helper.make_node("Loop", ["rounds", "yes", "square"], ["done"], body=body),
        helper.make_node("ReduceMin", ["done"], ["nothing"], keepdims=0),  # of a unit matrix: 0
        helper.make_node("MatMul", ["item_vectors", "user_vector"], ["liking"]),
        helper.make_node("Add", ["liking", "nothing"], ["raw"]),
        helper.make_node("Mul", ["raw", "factor"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "chaos",
        [
            helper.make_tensor_value_info("user_vector", TensorProto.FLOAT, [width]),
            helper.make_tensor_value_info("item_vectors", TensorProto.FLOAT, ["rows", width]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", len(FEATURES)]),
        ],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows"])],
        [
            square,
            numpy_helper.from_array(np.array([1, 1], np.int64), "ones"),
            numpy_helper.from_array(np.array(True), "yes"),
        ],
    )
    _save(path, graph)
