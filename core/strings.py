"""Lists of strings on disk without pickle: UTF-8 bytes in one array, where each ends in another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def save_strings(stem: Path, values: Sequence[str]) -> None:
    """Write ``<stem>.bytes.npy`` and ``<stem>.ends.npy`` (uint8 [bytes], int64 [n])."""
    encoded = [value.encode() for value in values]
    ends = np.cumsum([len(value) for value in encoded], dtype=np.int64)
    np.save(stem.with_name(stem.name + ".bytes.npy"), np.frombuffer(b"".join(encoded), np.uint8))
    np.save(stem.with_name(stem.name + ".ends.npy"), ends)


def load_strings(stem: Path) -> list[str]:
    """Read what ``save_strings`` wrote."""
    ends = np.load(stem.with_name(stem.name + ".ends.npy"), allow_pickle=False).tolist()
    blob = np.load(stem.with_name(stem.name + ".bytes.npy"), allow_pickle=False).tobytes()
    starts = [0, *ends][: len(ends)]
    return [blob[a:b].decode() for a, b in zip(starts, ends, strict=True)]
