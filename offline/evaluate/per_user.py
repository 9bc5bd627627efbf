"""Metrics of every single case of an evaluation, kept in the bundle so that two bundles can be compared in pairs."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from core.manifest import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from offline.split.cases import Cases

FILE_NAME = "per_user.npz"
_SEPARATOR = ":"


@dataclass(frozen=True)
class PerUser:
    """Metrics of each case, without naming anyone.

    Attributes:
        users: [q] 64-bit hashes of user ids.

        relevant: [q] 64-bit hashes of the relevant items; two evaluations have a case in common where both hashes agree.

        values: rung -> metric -> [q] float32.
    """

    users: NDArray[np.uint64]
    relevant: NDArray[np.uint64]
    values: Mapping[str, Mapping[str, NDArray[np.float32]]]

    def __len__(self) -> int:
        """Number of cases."""
        return len(self.users)

    @classmethod
    def of(
        cls,
        cases: Cases,
        user_ids: Sequence[str],
        item_ids: Sequence[str],
        values: Mapping[str, Mapping[str, NDArray[Any]]],
    ) -> PerUser:
        """Of an evaluation.

        Args:
            cases: the cases.
            user_ids: by user number.
            item_ids: by row.
            values: rung -> metric -> [q], in the order of ``cases``.
        """
        return cls(
            np.array([_hash([user_ids[user]]) for user in cases.users], np.uint64),
            np.array([_hash(sorted(item_ids[row] for row in rows)) for rows in cases.relevant], np.uint64),
            {rung: {name: np.asarray(v, np.float32) for name, v in of.items()} for rung, of in values.items()},
        )

    def save(self, path: Path) -> None:
        """Write one ``.npz``; the same figures give the same bytes."""
        arrays: dict[str, Any] = {
            f"{rung}{_SEPARATOR}{name}": values for rung, of in self.values.items() for name, values in of.items()
        }
        np.savez_compressed(path, users=self.users, relevant=self.relevant, **arrays)

    @classmethod
    def load(cls, path: Path) -> PerUser:
        """Read what ``save`` wrote.

        Raises:
            BundleError: the file is damaged.
        """
        try:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            users, relevant = arrays.pop("users"), arrays.pop("relevant")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise BundleError(f"{path}: not readable ({error}). Copy or build the bundle again") from error
        values: dict[str, dict[str, NDArray[np.float32]]] = {}
        for name, array in arrays.items():
            rung, _, metric = name.partition(_SEPARATOR)
            values.setdefault(rung, {})[metric] = array
        return cls(users, relevant, values)


def _hash(texts: Sequence[str]) -> int:
    """64 bits of the texts in their order; lengths keep ("ab", "c") and ("a", "bc") apart."""
    sha = hashlib.blake2b(digest_size=8)
    for text in texts:
        raw = text.encode()
        sha.update(len(raw).to_bytes(4, "little") + raw)
    return int.from_bytes(sha.digest(), "little")
