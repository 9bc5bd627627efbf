"""How a list that was made for a user beforehand lies in the user store: one value, which is used whole or not at all.

Little-endian: magic (two bytes), version of the format (uint8), exponent of the scores (int8), hash of the bundle's
version, hash of the user, number of rows (uint32 each), the time it was made in milliseconds (int64); then the rows
(uint32) and the scores (float16), best first, and a CRC-32 of all that (uint32). 100 rows take 628 bytes.

A score is its float16 times two to the exponent, which brings the largest of the list to about 2**15. So any finite
score can be stored: those down to 2**-29 of the largest keep 11 significant bits, an error of at most 0.05 %, and
smaller ones keep fewer. Order is kept by position, not by score: two scores may become equal and are never swapped.
"""

from __future__ import annotations

import math
import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from core.events import UnreadableError

if TYPE_CHECKING:
    from core.types import Recommendation, Rows, Scores

LIST_ROWS = 100
"""Rows of a list, as far as so many were scored."""
LIST_FORMAT = 1
"""Lists of another format are left out: precomputing again replaces them."""
_MAGIC = b"TL"
_HEAD = struct.Struct("<2sBbIIIq")
_CHECK = struct.Struct("<I")
_WHOLE = 0x2144DF1C
"""CRC-32 of anything that ends in its own CRC-32."""
_ROW = np.dtype("<u4")
_SCORE = np.dtype("<f2")
_LARGEST_BITS = 15
"""The largest score of a list is scaled to below two to the power of this."""
_LARGEST = 32752.0
"""The largest float16 below that: rounded up, a score that is nearly the largest float32 would come back as infinity."""
_LEAST_EXPONENT = -126
"""Of a factor that is a normal float32."""


class RowSpace(NamedTuple):
    """The catalogue that the rows of lists belong to.

    Attributes:
        version: of the bundle.

        items: rows of its catalogue.
    """

    version: str
    items: int


class PrecomputedList(NamedTuple):
    """What the deep rung answered for a user some time ago.

    Attributes:
        rows: [n] unique, best first, of the catalogue of one bundle.

        scores: [n] the model's, finite, not increasing.

        created_s: when it was made, seconds since the epoch.
    """

    rows: Rows
    scores: Scores
    created_s: float

    @classmethod
    def of(cls, answer: Recommendation, created_s: float) -> PrecomputedList:
        """What is kept of an answer of the deep rung: the rows that its model scored.

        Args:
            answer: from the deep rung.
            created_s: when it was made, seconds since the epoch.
        """
        scored = np.isfinite(answer.scores)
        return cls(answer.rows[scored], answer.scores[scored], created_s)


def encode_list(version: str, user: int, rows: Rows, scores: Scores, created_s: float) -> bytes:
    """The stored form of a list.

    Args:
        version: of the bundle whose rows these are.
        user: ``core.events.user_hash`` of whose list it is.
        rows: [n] unique, >= 0, best first.
        scores: [n] finite, not increasing.
        created_s: when it was made, seconds since the epoch.

    Raises:
        ValueError: rows and scores are not of one length, a row is negative or there twice, a score is not finite or
            higher than the one before it.
    """
    if rows.ndim != 1 or rows.shape != scores.shape:
        raise ValueError(f"a list of {rows.shape} rows with {scores.shape} scores")
    if len(rows) and (rows.min() < 0 or len(np.unique(rows)) < len(rows)):
        raise ValueError("a list has a row that is negative or there twice")
    if not np.isfinite(scores).all():
        raise ValueError("a list has a score that is not finite")
    if (scores[1:] > scores[:-1]).any():
        raise ValueError("a list has a score that is higher than the one before it")
    largest = float(np.abs(scores).max()) if len(scores) else 0.0
    exponent = max(math.frexp(largest)[1] - _LARGEST_BITS, _LEAST_EXPONENT)
    scaled = np.clip(np.ldexp(scores.astype(np.float64), -exponent), -_LARGEST, _LARGEST)
    head = _HEAD.pack(_MAGIC, LIST_FORMAT, exponent, version_hash(version), user, len(rows), round(created_s * 1000))
    body = head + rows.astype(_ROW).tobytes() + scaled.astype(_SCORE).tobytes()
    return body + _CHECK.pack(zlib.crc32(body))


def decode_list(stored: bytes, version: str, user: int, items: int) -> PrecomputedList:
    """A list from its stored form.

    Args:
        stored: what was found under the user's key.
        version: of the bundle that it must belong to.
        user: ``core.events.user_hash`` of whose list it must be.
        items: rows of the bundle's catalogue.

    Raises:
        UnreadableError: it is another user's, of another bundle or format, or damaged; a list that names a row which
            the catalogue does not have is damaged.
    """
    if len(stored) < _HEAD.size + _CHECK.size:
        raise UnreadableError("corrupt", "a precomputed list is cut")
    magic, form, exponent, bundle, owner, count, created_ms = _HEAD.unpack_from(stored)
    if magic == _MAGIC and form != LIST_FORMAT:
        raise UnreadableError("version", f"a precomputed list is of format {form}, this is format {LIST_FORMAT}")
    if zlib.crc32(stored) != _WHOLE or magic != _MAGIC or len(stored) != _length(count):
        raise UnreadableError("corrupt", "a precomputed list is damaged")
    if owner != user:
        raise UnreadableError("foreign", "a precomputed list is another user's")
    if bundle != version_hash(version):
        raise UnreadableError("version", "a precomputed list is of another bundle")
    rows = np.frombuffer(stored, _ROW, count, _HEAD.size)
    if count and rows.max() >= items:
        raise UnreadableError("corrupt", f"a precomputed list has row {rows.max()}, the bundle has {items} items")
    scores = np.frombuffer(stored, _SCORE, count, _HEAD.size + count * _ROW.itemsize).astype(np.float32)
    scores *= np.float32(math.ldexp(1.0, exponent))
    return PrecomputedList(rows.astype(np.int32), scores, created_ms / 1000)


def version_hash(version: str) -> int:
    """CRC-32 of a bundle's version in UTF-8."""
    return zlib.crc32(version.encode())


def _length(count: int) -> int:
    """Bytes of a list of so many rows."""
    return _HEAD.size + count * (_ROW.itemsize + _SCORE.itemsize) + _CHECK.size
