"""A model says of itself what serving needs to know, and one that serving would not load is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from core.contents import ArrayEntry, ModelEntry
from core.manifest import BundleError
from ranking.model_file import complaint, describe_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

X = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])
WEIGHT = numpy_helper.from_array(np.ones(3, np.float32), "w")


def model(*nodes: onnx.NodeProto, **parts: Any) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", [X], [Y], **parts)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def branch(*nodes: onnx.NodeProto, **parts: Any) -> onnx.NodeProto:
    """A node with graphs inside."""
    graph = helper.make_graph(nodes, "inside", [], [Y], **parts)
    return helper.make_node("If", ["yes"], ["y"], then_branch=graph, else_branch=graph)


def outside(weight: onnx.TensorProto = WEIGHT) -> onnx.TensorProto:
    """The weight, kept in another file."""
    moved = onnx.TensorProto()
    moved.CopyFrom(weight)
    moved.ClearField("raw_data")
    moved.data_location = TensorProto.EXTERNAL
    moved.external_data.add(key="location", value="../weights.bin")
    return moved


def test_a_model_says_its_opset_inputs_and_outputs(tmp_path: Path) -> None:
    onnx.save(model(helper.make_node("Add", ["x", "w"], ["y"]), initializer=[WEIGHT]), str(tmp_path / "m.onnx"))

    value = ArrayEntry("FLOAT", (None, 3))
    found = describe_model(tmp_path / "m.onnx")
    assert found == ModelEntry(18, {"x": value}, {"y": value})
    assert str(found) == "opset 18, x: FLOAT [any, 3] -> y: FLOAT [any, 3]"


@pytest.mark.parametrize("content", [b"\x08\x01\xff", b"no model", None], ids=["cut", "text", "missing"])
def test_a_file_that_is_no_model_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(BundleError, match=r"m\.onnx: not readable as ONNX"):
        describe_model(tmp_path / "m.onnx")


FOREIGN = helper.make_node("Do", ["x"], ["y"], domain="somewhere")


@pytest.mark.parametrize(
    "made",
    [
        lambda: model(FOREIGN),
        lambda: model(branch(FOREIGN)),
        lambda: model(branch(branch(FOREIGN))),
    ],
    ids=["in the graph", "inside a node", "deeper"],
)
def test_operators_that_are_not_standard_are_found_at_any_depth(made: Callable[[], onnx.ModelProto]) -> None:
    assert complaint(made()) == "operators of somewhere, standard ones only"


def test_functions_of_a_model_s_own_are_not_standard() -> None:
    own = model()
    own.functions.append(
        helper.make_function("ours", "Twice", ["x"], ["y"], [helper.make_node("Add", ["x", "x"], ["y"])], [])
    )
    assert complaint(own) == "operators of ours, standard ones only"


@pytest.mark.parametrize(
    "made",
    [
        lambda: model(initializer=[outside()]),
        lambda: model(branch(initializer=[outside()])),
        lambda: model(branch(helper.make_node("Constant", [], ["y"], value=outside()))),
    ],
    ids=["in the graph", "inside a node", "of a node"],
)
def test_weights_in_other_files_are_found_at_any_depth(made: Callable[[], onnx.ModelProto]) -> None:
    assert complaint(made()) == "weight 'w' lies in another file, export it as a single file"
