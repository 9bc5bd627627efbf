"""How the commands of `terrace release` reach the release, and how they show what refuses them."""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import typer

from core.release import ReleaseError
from server.release.bundle_store import open_store
from terrace.cli.options import user_store
from terrace.cli.output import UNREACHABLE, print_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from server.release.operations import Operations, PromotionCheck
    from server.release.release_store import ReleaseStore

REFUSED = 2
"""Exit code where a rule refuses, or somebody else was first."""
TIMEOUT_S = 5.0
"""Longest wait for one answer of the store, for a person."""
T = TypeVar("T")


class Where(NamedTuple):
    """Which release, as the options name it."""

    store_url: str | None
    store_url_file: Path | None
    data: Path
    namespace: str


def with_operations(
    work: Callable[[Operations, ReleaseStore], Awaitable[T]],
    where: Where,
    by: str | None = None,
    known_versions: Callable[[], list[str]] | None = None,
) -> T:
    """Do something as an operator; arguments and errors as for ``with_store``."""
    from server.release.operations import Operations

    async def run(store: ReleaseStore, check: PromotionCheck) -> T:
        operations = Operations(store, by or _somebody(), known_versions=known_versions, promotion_check=check)
        return await work(operations, store)

    return with_store(run, where)


def with_store(work: Callable[[ReleaseStore, PromotionCheck], Awaitable[T]], where: Where) -> T:
    """Do something with the store of a release, and with what must agree before a version of it is promoted.

    Raises:
        typer.Exit: a rule or the store refuses; the message was printed.
        typer.BadParameter: the URL or the namespace is none of a store.
        InputError: the file with the URL cannot be read, or the embedded store does not start.
    """
    from server.release.release_store import ReleaseStore

    async def run(url: str) -> T:
        try:
            store = ReleaseStore(url, where.namespace, timeout_s=TIMEOUT_S)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        try:
            return await work(store, _lists_check(store, url, where.namespace))
        finally:
            await store.close()

    with _refusals(), user_store(where.store_url, where.store_url_file, where.data) as url:
        return asyncio.run(run(url))


def versions_in(bundles: str | None) -> Callable[[], list[str]] | None:
    """What lists the versions of a bundle store; None where there is none to look in.

    Raises:
        BundleError: its URL cannot be used.
    """
    return None if bundles is None else open_store(bundles).versions


def _lists_check(store: ReleaseStore, url: str, namespace: str) -> PromotionCheck:
    """Where a deployment precomputes lists, a version is promoted once its lists are complete."""

    async def why_not(version: str) -> str | None:
        from server.precompute.completeness import why_incomplete

        release = await store.read()
        return await why_incomplete(url, namespace, version, live=release.live_version if release else None)

    return why_not


@contextmanager
def _refusals() -> Iterator[None]:
    """What a rule or the store refuses is one message and an exit code."""
    from server.release.release_store import ReleaseStoreError

    try:
        yield
    except ReleaseError as error:
        print_error(error)
        raise typer.Exit(UNREACHABLE if isinstance(error, ReleaseStoreError) else REFUSED) from None


def _somebody() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # the user of a container may have no name
        user = f"user {os.getuid()}"
    return f"{user}@{socket.gethostname()}"
