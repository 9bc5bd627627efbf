"""What the binary files of a bundle hold, so that it can be checked before any of them is opened by the code that serves.

A checksum says that a file is the one that was sealed; these entries say that it is one that can be opened.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

ARRAY_SUFFIXES = frozenset({".npy", ".npz"})
MODEL_SUFFIX = ".onnx"


@dataclass(frozen=True, slots=True)
class ArrayEntry:
    """Type and shape of an array, or of what goes into a model or comes out of it.

    Attributes:
        dtype: of an array numpy's name with the byte order, such as ``<f4``; of a model's value ONNX's, such as ``FLOAT``.

        shape: None stands for any length.
    """

    dtype: str
    shape: tuple[int | None, ...]

    @classmethod
    def read(cls, *, dtype: str, shape: list[int | None]) -> Self:
        """From JSON."""
        return cls(dtype, tuple(shape))

    def __str__(self) -> str:
        """Such as ``<f4 [60, 64]``."""
        return f"{self.dtype} [{', '.join('any' if n is None else str(n) for n in self.shape)}]"


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """An index of nearest vectors.

    Attributes:
        space: hnswlib's name of the metric.

        dimension: coordinates of a vector in the file.

        count: vectors.
    """

    space: str
    dimension: int
    count: int

    def __str__(self) -> str:
        """Such as ``200 vectors of 65 dimensions in the space ip``."""
        return f"{self.count} vectors of {self.dimension} dimensions in the space {self.space}"


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """An ONNX model.

    Attributes:
        opset: version of the standard operators.

        inputs: by name.

        outputs: by name.
    """

    opset: int
    inputs: Mapping[str, ArrayEntry]
    outputs: Mapping[str, ArrayEntry]

    @classmethod
    def read(cls, *, opset: int, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Self:
        """From JSON."""
        return cls(opset, _entries(inputs), _entries(outputs))

    def __str__(self) -> str:
        """Such as ``opset 18, x: FLOAT [any] -> y: FLOAT [4]``."""
        inputs, outputs = (
            ", ".join(f"{name}: {entry}" for name, entry in values.items()) for values in (self.inputs, self.outputs)
        )
        return f"opset {self.opset}, {inputs} -> {outputs}"


@dataclass(frozen=True)
class Contents:
    """Of one bundle, by path inside the folder, with ``/``.

    Attributes:
        arrays: every ``.npy`` and ``.npz`` file: name inside the ``.npz`` (empty for an ``.npy``) -> type and shape.

        indexes: the index of nearest vectors, where there is one.

        models: every ``.onnx`` file.
    """

    arrays: Mapping[str, Mapping[str, ArrayEntry]] = field(default_factory=dict)
    indexes: Mapping[str, IndexEntry] = field(default_factory=dict)
    models: Mapping[str, ModelEntry] = field(default_factory=dict)

    @classmethod
    def read(cls, *, arrays: Mapping[str, Any], indexes: Mapping[str, Any], models: Mapping[str, Any]) -> Self:
        """From JSON.

        Raises:
            TypeError: a field is missing, unknown or of another type.
            AttributeError: a field is of another type.
        """
        return cls(
            {name: _entries(members) for name, members in arrays.items()},
            {name: IndexEntry(**entry) for name, entry in indexes.items()},
            {name: ModelEntry.read(**entry) for name, entry in models.items()},
        )


def _entries(raw: Mapping[str, Any]) -> dict[str, ArrayEntry]:
    return {name: ArrayEntry.read(**entry) for name, entry in raw.items()}
