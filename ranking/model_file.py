"""What an ``.onnx`` file says of itself, read without running it: for the build, and for whoever verifies a bundle.

The process that serves does not import this: it needs the ``onnx`` package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx

from core.contents import ArrayEntry, ModelEntry
from core.manifest import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_STANDARD = frozenset({"", "ai.onnx"})


def describe_model(path: Path) -> ModelEntry:
    """Opset, inputs and outputs of a model.

    Raises:
        BundleError: it is not readable, keeps weights in other files or needs operators from elsewhere.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
        wrong = complaint(model)
        opset = next((each.version for each in model.opset_import if each.domain in _STANDARD), 0)
        entry = ModelEntry(opset, _values(model.graph.input), _values(model.graph.output))
    except Exception as error:  # protobuf's errors, which only the gRPC edge knows
        raise BundleError(f"{path}: not readable as ONNX ({error}). Copy or build the bundle again") from error
    if wrong is not None:
        raise BundleError(f"{path}: {wrong}. Build the bundle again")
    return entry


def complaint(model: onnx.ModelProto) -> str | None:
    """Why serving does not load a model: weights in other files, operators that are not standard; None where it does."""
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            return f"weight {tensor.name!r} lies in another file, export it as a single file"
    domains = {node.domain for node in _nodes(model)} | {function.domain for function in model.functions}
    foreign = sorted(domains - _STANDARD)
    return f"operators of {', '.join(foreign)}, standard ones only" if foreign else None


def _values(values: Iterable[Any]) -> dict[str, ArrayEntry]:
    return {value.name: _value(value.type.tensor_type) for value in values}


def _value(tensor: Any) -> ArrayEntry:
    shape = tuple(part.dim_value if part.HasField("dim_value") else None for part in tensor.shape.dim)
    return ArrayEntry(onnx.TensorProto.DataType.Name(tensor.elem_type), shape)


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The graph of a model and those inside its nodes, at any depth."""
    yield model.graph
    for node in _nodes(model):
        for attribute in node.attribute:
            yield from (graph for graph in (attribute.g, *attribute.graphs) if graph.ByteSize())


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node, of functions and of graphs inside nodes too."""
    waiting = [model.graph.node, *(function.node for function in model.functions)]
    while waiting:
        for node in waiting.pop():
            yield node
            waiting += [graph.node for each in node.attribute for graph in (each.g, *each.graphs)]


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor that a model holds: weights of all graphs, and attributes of nodes."""
    for graph in _graphs(model):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in _nodes(model):
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
