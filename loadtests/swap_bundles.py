"""Copies of one bundle under new versions, which tell by their items which of them has answered."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from core.catalogue import Catalogue
from core.manifest import read_manifest
from loadtests.swap_callers import MARK
from offline.bundle_folder import drafting, publish, seal

if TYPE_CHECKING:
    from pathlib import Path

EVERY = 7
"""Every so many items have the version in their ids. The others keep theirs, and so do users most of their histories."""


def copy_as(version: str, source: Path, bundles: Path) -> Path:
    """A bundle under another version, published at once.

    Args:
        version: of the copy.
        source: folder of the bundle.
        bundles: folder for the copy.

    Returns:
        The folder of the copy.
    """
    manifest = read_manifest(source)
    with drafting(bundles, version) as draft:
        for name in manifest.files:
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, draft / name)
        catalogue = Catalogue.load(draft / "catalogue")
        ids = [each if row % EVERY else f"{each}{MARK}{version}" for row, each in enumerate(catalogue.ids)]
        replace(catalogue, ids=ids).save(draft / "catalogue")
        seal(draft, replace(manifest, version=version))
        return publish(draft, bundles, version)
