"""The toy bundle as fault tests see it, and users of whom no two have an item in common."""

from __future__ import annotations

import time

from core.types import UserEvent
from tests.faults.history import World, things
from tests.server import toy

VERSION = "toy"
_EACH = 4
USERS = tuple(f"user-{i:02}" for i in range(toy.ITEMS // _EACH))


def owned(user: str) -> tuple[str, ...]:
    """The items of a user's history, newest first; the last of them was bought."""
    first = USERS.index(user) * _EACH
    return tuple(f"item-{row:02}" for row in range(first, first + _EACH))


def world() -> World:
    """What is true of every answer over the toy bundle."""
    return World(
        catalogues={VERSION: things(toy.catalogue())},
        owned={user: frozenset(owned(user)) for user in USERS},
        bought={user: frozenset(owned(user)[-1:]) for user in USERS},
    )


def events(user: str) -> list[UserEvent]:
    """The history of a user, as a store gets it."""
    now_s = time.time()
    items = owned(user)
    kinds = ["view"] * (len(items) - 1) + ["purchase"]
    return [
        UserEvent(item, kind, now_s - 3600.0 * (i + 1)) for i, (item, kind) in enumerate(zip(items, kinds, strict=True))
    ]
