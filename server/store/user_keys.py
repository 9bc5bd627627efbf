"""Under which keys users lie in Redis: all of one user in one slot of a Cluster, and no two users under one key."""

from __future__ import annotations

import re

_EVENTS, _IN_HEX = "}:events", "}:hex:events"
_special = re.compile(r"([\\*?\[\]])")


class UserKeys:
    """Keys of the users of one namespace.

    ``terrace:<namespace>:user:{<id>}:events`` and ``...:seen``; and ``terrace:<namespace>:pre:<version>:{<id>}``, the
    precomputed list for one bundle. The braces are part of the key: what stands between the first of them and the next
    closing one is the hash tag, so that in a Cluster all lie on one server. An id that begins with ``}`` would make an
    empty tag, which is none: its keys have ``{<id in hexadecimal>}:hex`` in place of ``{<id>}``.

    Attributes:
        prefix: what the keys of events and seen items begin with.
    """

    __slots__ = ("_lists", "prefix")

    def __init__(self, namespace: str, version: str = "") -> None:
        """Remember what all keys begin with.

        Args:
            namespace: separates deployments that share one store.
            version: of the bundle whose lists are meant.

        Raises:
            ValueError: one of them has a brace.
        """
        for name, text in (("namespace", namespace), ("bundle's version", version)):
            if "{" in text or "}" in text:
                raise ValueError(f"the {name} must not have braces: they say which keys lie together")
        self.prefix = f"terrace:{namespace}:user:"
        self._lists = f"terrace:{namespace}:pre:{version}:"

    def events_and_seen(self, user_id: str) -> tuple[str, str]:
        """Where a user's events lie, and what the user has seen."""
        key = self.prefix + _tagged(user_id)
        return f"{key}:events", f"{key}:seen"

    def precomputed(self, user_id: str) -> str:
        """Where a user's precomputed list lies."""
        return self._lists + _tagged(user_id)

    @property
    def precompute_records(self) -> str:
        """Where the records of the runs that made the lists lie, a field for each shard; no user's key is like that."""
        return f"{self._lists}shards"

    @property
    def every_user(self) -> str:
        """A pattern for SCAN that the events of every user match."""
        return _special.sub(r"\\\1", f"{self.prefix}{{") + "*:events"

    def user_of(self, key: bytes) -> str | None:
        """Whose events lie under a key; None where it is no key of events."""
        try:
            tagged = key.decode().removeprefix(self.prefix)
            if tagged.endswith(_IN_HEX):
                return bytes.fromhex(tagged[1 : -len(_IN_HEX)]).decode()
        except ValueError:  # no id is anything but UTF-8
            return None
        return tagged[1 : -len(_EVENTS)] if tagged.endswith(_EVENTS) else None


def _tagged(user_id: str) -> str:
    return f"{{{user_id.encode().hex()}}}:hex" if user_id.startswith("}") else f"{{{user_id}}}"
