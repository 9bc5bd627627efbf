"""What ``.npy`` and ``.npz`` files say of their arrays, without reading the data."""

from __future__ import annotations

import math
import zipfile
from typing import IO, TYPE_CHECKING

import numpy as np

from core.contents import ArrayEntry
from core.manifest import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HEADS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def describe_arrays(path: Path) -> dict[str, ArrayEntry]:
    """Types and shapes of an ``.npy`` or ``.npz`` file, by the heads of its arrays; their data is not read.

    Returns:
        Name inside the ``.npz`` -> entry; the name is empty for an ``.npy``.

    Raises:
        BundleError: it is no such file, needs pickle, or is not as long as its heads say.
    """
    found = {}
    try:
        for name, file, size in _streams(path):
            with file:
                found[name] = _head(file, size)
    except Exception as error:  # a head is text in Python's syntax, and a damaged one fails in many ways
        raise BundleError(f"{path}: not readable as arrays ({error}). Copy or build the bundle again") from error
    return found


def _streams(path: Path) -> Iterator[tuple[str, IO[bytes], int]]:
    """Name, content and size in bytes of each array of a file."""
    if path.suffix == ".npy":
        yield "", path.open("rb"), path.stat().st_size
        return
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            yield member.filename.removesuffix(".npy"), archive.open(member), member.file_size


def _head(file: IO[bytes], size: int) -> ArrayEntry:
    version = np.lib.format.read_magic(file)
    if version not in _HEADS:
        raise ValueError(f"version {version} of the array format is not read")
    shape, _, dtype = _HEADS[version](file)
    if dtype.hasobject:
        raise ValueError(f"{dtype} needs pickle")
    entry = ArrayEntry(dtype.str, shape)
    data = size - file.tell()
    expected = dtype.itemsize * math.prod(shape)
    if data != expected:
        raise ValueError(f"{data} bytes of data, {entry} has {expected}")
    return entry
