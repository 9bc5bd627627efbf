"""The toy bundles as fault tests see them, and users of whom no two have an item in common."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from core.types import UserEvent
from tests.faults.history import World, things
from tests.server import toy

if TYPE_CHECKING:
    from core.bundle import Bundle
    from core.catalogue import Catalogue

VERSIONS = ("toy-1", "toy-2", "toy-3", "toy-4")
"""Rising. Every second one has another catalogue, so that nothing of one can be taken for a thing of the next."""
_SHIFT = 20
_EACH = 4
USERS = tuple(f"user-{i:02}" for i in range(toy.ITEMS // _EACH))


def owned(user: str) -> tuple[str, ...]:
    """The items of a user's history, newest first; the last of them was bought."""
    first = USERS.index(user) * _EACH
    return tuple(f"item-{row:02}" for row in range(first, first + _EACH))


def catalogue(version: str) -> Catalogue:
    """Of a version: the toy's items, or in reverse order with the first ones replaced by others.

    A row is an item of other availability, price and colour in the next version, so a row that is looked up in the wrong
    one shows.
    """
    first = toy.catalogue()
    if VERSIONS.index(version) % 2 == 0:
        return first
    return replace(first, ids=[f"item-{row:02}" for row in reversed(range(_SHIFT, _SHIFT + toy.ITEMS))])


def bundle(version: str) -> Bundle:
    """The toy bundle over the catalogue of a version."""
    whole = toy.bundle(items=catalogue(version))
    return replace(whole, version=version, manifest=replace(whole.manifest, version=version))


def world() -> World:
    """What is true of every answer over the toy bundles."""
    return World(
        catalogues={version: things(catalogue(version)) for version in VERSIONS},
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
