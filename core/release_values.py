"""What may stand in a release document: versions, shares of users, reasons; and what is raised where something may not."""

from __future__ import annotations

import hashlib
import re

MAX_REASON = 500
"""Characters of a reason at most."""
_is_version = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}").fullmatch
"""A version names a folder, and keys a hash that takes 64 bytes."""


class ReleaseError(Exception):
    """A release cannot be changed as asked; the message says what to do."""


class ReleaseArgumentError(ReleaseError):
    """A value that no release can have: a share, a version, a reason."""


class ReleaseDocumentError(ReleaseError):
    """What is stored as the release document is none, or of another format."""


def is_version(value: object) -> bool:
    """Whether a value may name a version."""
    return isinstance(value, str) and _is_version(value) is not None


def is_share(value: object) -> bool:
    """Whether a value may be a part of the users or calls."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def is_text(value: object) -> bool:
    """Whether a value is text that can be stored."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can hold
        return False


def checked_version(version: str) -> str:
    """The version.

    Raises:
        ReleaseArgumentError: it is none.
    """
    if not is_version(version):
        raise ReleaseArgumentError(
            f"{version[:80]!r} is no version: 1 to 64 letters, digits and any of ._+-, the first a letter or digit"
        )
    return version


def checked_share(share: float) -> float:
    """The share.

    Raises:
        ReleaseArgumentError: it is none.
    """
    if not is_share(share):
        raise ReleaseArgumentError(f"a share of {share} is none; it must lie between 0 and 1, 0.05 for 5 %")
    return share


def checked_reason(reason: str) -> str:
    """The reason.

    Raises:
        ReleaseArgumentError: it is empty, too long or no text.
    """
    if not reason.strip() or len(reason) > MAX_REASON or not is_text(reason):
        raise ReleaseArgumentError(f"a reason has 1 to {MAX_REASON} characters; it tells others why")
    return reason


def percent(share: float) -> str:
    """A share as people read it."""
    return f"{share * 100:.4g} %"


def part_of(version: str, key: str) -> float:
    """Where in [0, 1) a key lies for a candidate: evenly spread, the same everywhere, another for each candidate."""
    digest = hashlib.blake2b(key.encode(), key=version.encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) / 2**53  # as many bits as a float has: never rounded up to 1
