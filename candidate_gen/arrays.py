"""Arrays and parameters of a generator on disk: memory-mapped, without pickle, checked when they are read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from core.manifest import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray

T = TypeVar("T")

_PARAMS = "params.json"


def check(holds: bool, path: Path, complaint: str) -> None:
    """Refuse a file.

    Raises:
        BundleError: ``holds`` is false.
    """
    if not holds:
        raise BundleError(f"{path}: {complaint}. Copy or build the bundle again")


def load_array(path: Path, dtype: DTypeLike, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """An ``.npy`` file, mapped read-only; None in ``shape`` stands for any length.

    Raises:
        BundleError: there is no such file, it is damaged, or it holds something else.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BundleError(f"{path}: not readable as .npy ({error}). Copy or build the bundle again") from error
    fits = len(array.shape) == len(shape) and all(b in (None, a) for a, b in zip(array.shape, shape, strict=True))
    expected = f"{np.dtype(dtype)} {tuple('any' if n is None else n for n in shape)}"
    check(fits and array.dtype == dtype, path, f"holds {array.dtype} {array.shape}, expected {expected}")
    return np.asarray(array)  # a plain view: every slice of a memmap costs a microsecond more


def save_params(folder: Path, params: Mapping[str, Any]) -> None:
    """Write ``params.json``."""
    (folder / _PARAMS).write_text(json.dumps(params, indent=1), encoding="utf-8")


def params_of(kind: Callable[..., T], folder: Path) -> T:
    """``kind`` called with what ``params.json`` holds.

    Raises:
        BundleError: it is missing, not a JSON object or does not suit ``kind``.
    """
    path = folder / _PARAMS
    try:
        return kind(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise BundleError(f"{path}: not readable as parameters ({error}). Copy or build the bundle again") from error
