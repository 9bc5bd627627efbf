"""The files of benchmarks: synthetic bundles, made once, and stores that know their users."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.catalogue import Catalogue
from core.manifest import BundleError, newest_bundle
from loadtests.users import Users
from offline.build.recipe import DEFAULT_POOL_SIZES
from server.loader import load_bundle
from server.store.embedded import EmbeddedStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """A folder for bundles and data.

    Attributes:
        quick: tiny sizes, to see that everything runs; the figures mean nothing.
    """

    folder: Path
    quick: bool = False

    @property
    def most_others(self) -> float:
        """Share of the answers that may be of another rung than is measured, such as after a stall of the machine."""
        return 0.5 if self.quick else 0.01

    def synthetic(self, items: int, users: int) -> SyntheticData:
        """The synthetic bundle of that size, made by a process of its own unless one is there with a build's generators."""
        folder = self.folder / f"items-{items}"
        if not _is_current(folder / "bundles"):
            shutil.rmtree(folder, ignore_errors=True)
            sizes = ("--items", str(items), "--users", str(users))
            subprocess.run([sys.executable, "-m", "loadtests.synthetic", str(folder), *sizes], check=True)  # noqa: S603 - our own command
        return SyntheticData(folder)

    def benchmark_data(self) -> SyntheticData:
        """The bundle that requests are measured on: 100,000 items."""
        return self.synthetic(3_000, 1_000) if self.quick else self.synthetic(100_000, 60_000)


def _is_current(bundles: Path) -> bool:
    """Whether there is a bundle that can be loaded and has the generators that a build has today."""
    try:
        return load_bundle(newest_bundle(bundles)).limits.keys() == DEFAULT_POOL_SIZES.keys()
    except BundleError:
        return False


@dataclass(frozen=True)
class SyntheticData:
    """A synthetic bundle and its users."""

    folder: Path

    @property
    def bundle(self) -> Path:
        """Its folder."""
        return newest_bundle(self.folder / "bundles")

    @property
    def users(self) -> Users:
        """Who may be asked about."""
        return Users.load(self.folder)

    @property
    def ids(self) -> Sequence[str]:
        """Ids of its items."""
        return Catalogue.load(self.bundle / "catalogue").ids

    @contextmanager
    def store(self) -> Iterator[str]:
        """URL of a store of its own that knows the users."""
        with EmbeddedStore(self.folder / "store") as store:
            asyncio.run(self.users.fill(store.url, self.ids))
            yield store.url
