"""How users lie in the user store: each value is checked by itself, and one that is not this user's is never used.

An event is one value, little-endian: version of the format (uint8), hash of the user (uint32), timestamp in
milliseconds (int64), value (float32), length of the type in bytes (uint8), the type and the item id in UTF-8,
and a checksum of all that (uint32): a CRC-32 that starts from version and user, so that one comparison shows
that a value is whole, of this version and of this user.

Seen items are entries of eight bytes: the item's hash (uint32) and a seal (uint32) that only this item of
this user has. Hashes are CRC-32 of the id: with 4,000 remembered items and a pool of 500 the chance of
hiding one wrong item is about 1 in 2,000 requests.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from core.types import UserEvent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

Flaw: TypeAlias = Literal["foreign", "version", "corrupt"]
VERSION = 1
"""Of the form of events. Values of another version are left out: loading users again replaces them."""
MAX_TYPE_BYTES = 255
SEEN_BYTES = 8
"""Length of one seen item."""
_HEAD = struct.Struct("<BIqfB")
_WANTED = struct.Struct("<5xqfB")
_CHECK = struct.Struct("<I")
_WHOLE = 0x2144DF1C
"""CRC-32 of anything that ends in its own CRC-32, whatever it started from."""
_SPREAD = np.uint32(0x9E3779B1)
"""Odd, so that no two items of a user share a seal; 2**32 over the golden ratio, Knuth's multiplicative hash."""


class UnreadableError(ValueError):
    """A stored value that cannot be used.

    Attributes:
        flaw: ``foreign`` is another user's, ``version`` is of a format unknown here, ``corrupt`` is anything else.
    """

    def __init__(self, flaw: Flaw, message: str) -> None:
        super().__init__(message)
        self.flaw: Flaw = flaw


def item_hash(item_id: str) -> int:
    """CRC-32 of the id in UTF-8."""
    return zlib.crc32(item_id.encode())


def item_hashes(ids: Iterable[str]) -> NDArray[np.uint32]:
    """``item_hash`` of each id."""
    return np.fromiter((zlib.crc32(i.encode()) for i in ids), np.uint32)


def user_hash(user_id: str) -> int:
    """CRC-32 of the id in UTF-8: what stored values say of whose they are."""
    return zlib.crc32(user_id.encode())


def encode_event(event: UserEvent, user: int) -> bytes:
    """The stored form of an event of the user with this ``user_hash``.

    Raises:
        ValueError: the event type is longer than 255 bytes.
    """
    kind = event.event_type.encode()
    if len(kind) > MAX_TYPE_BYTES:
        raise ValueError(f"event_type: {len(kind)} bytes, at most {MAX_TYPE_BYTES} are kept")
    head = _HEAD.pack(VERSION, user, round(event.timestamp_s * 1000), event.value, len(kind))
    body = head + kind + event.item_id.encode()
    return body + _CHECK.pack(zlib.crc32(body, _start(VERSION, user)))


def decode_events(values: Sequence[bytes], user: int) -> tuple[tuple[UserEvent, ...], Sequence[Flaw]]:
    """Events of the user with this ``user_hash`` from their stored form.

    Returns:
        The readable events in the order of ``values``, and why each of the other values is not readable.
    """
    try:
        return _decode_events(values, user), ()
    except UnreadableError:  # rare, so that only now each value is decoded by itself
        pass
    events: list[UserEvent] = []
    flaws: list[Flaw] = []
    for value in values:
        try:
            events += _decode_events((value,), user)
        except UnreadableError as error:
            flaws.append(error.flaw)
    return tuple(events), flaws


def encode_seen(items: NDArray[np.uint32], user: int) -> bytes:
    """The stored form of seen items of the user with this ``user_hash``: ``SEEN_BYTES`` for each."""
    entries = np.empty((len(items), 2), "<u4")
    entries[:, 0] = items
    entries[:, 1] = items * _SPREAD ^ np.uint32(user)
    return entries.tobytes()


def decode_seen(stored: bytes, user: int) -> tuple[NDArray[np.uint32], Sequence[Flaw]]:
    """Hashes of the items that the user with this ``user_hash`` has seen.

    Returns:
        [n] hashes of the readable entries, in the order in which they were stored; and the flaws of the others: one
        for all entries that are not readable, one for a cut entry at the end.
    """
    cut = len(stored) % SEEN_BYTES
    flaws: list[Flaw] = ["corrupt"] if cut else []
    numbers = np.frombuffer(stored[:-cut] if cut else stored, "<u4")
    items = numbers[::2]
    owners = items * _SPREAD ^ numbers[1::2]
    raw = owners.tobytes()
    # bytes are compared, not numbers: each ufunc on its way from one read to the next costs microseconds
    if raw == _CHECK.pack(user) * len(items):
        return items, flaws
    one_owner = raw == raw[: _CHECK.size] * len(items)
    return items[owners == user], ["foreign" if one_owner else "corrupt", *flaws]


def _decode_events(values: Sequence[bytes], user: int) -> tuple[UserEvent, ...]:
    """Events from their stored form.

    Raises:
        UnreadableError: at least one of the values is no event of this user.
    """
    head, kind, check, crc32 = _WANTED.unpack_from, _HEAD.size, _CHECK.size, zlib.crc32
    start, fields = _start(VERSION, user), []
    for value in values:
        if crc32(value, start) != _WHOLE:
            raise _unreadable(value)
        try:
            time_ms, amount, length = head(value)
            end = kind + length
            fields.append((value[end:-check].decode(), value[kind:end].decode(), time_ms / 1000, amount))
        except (struct.error, UnicodeDecodeError):
            raise UnreadableError("corrupt", "a stored event has a right checksum and a wrong form") from None
    return tuple(map(UserEvent._make, fields))


def _start(version: int, user: int) -> int:
    """What the checksum of an event starts from."""
    return zlib.crc32(bytes([version]), user)


def _unreadable(value: bytes) -> UnreadableError:
    """Why an event was refused."""
    if len(value) < _HEAD.size + _CHECK.size:
        return UnreadableError("corrupt", "a stored event is cut")
    version, owner, *_ = _HEAD.unpack_from(value)
    if version != VERSION:
        return UnreadableError("version", f"a stored event is of version {version}, this is version {VERSION}")
    if zlib.crc32(value, _start(version, owner)) != _WHOLE:
        return UnreadableError("corrupt", "a stored event's checksum is wrong")
    return UnreadableError("foreign", "a stored event is another user's")
