"""From a bundle folder to a bundle in memory: the one place that knows how its parts are opened."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

from candidate_gen.registry import generator_class
from core.bundle import Bundle
from core.catalogue import Catalogue
from core.manifest import BundleError, read_manifest, verify
from core.types import NO_HASHES
from ranking.cf_scorer import CfScorer
from ranking.onnx_scorer import load_model

if TYPE_CHECKING:
    from pathlib import Path

    from core.bundle import PopularityFloor

POPULARITY = "popularity"
_log = logging.getLogger(__name__)


def load_bundle(folder: Path) -> Bundle:
    """Check and open a bundle.

    Raises:
        BundleError: it is missing, unfinished, changed, or of another format; the message names the file.
    """
    manifest = read_manifest(folder)
    verify(folder, manifest)
    for entry in manifest.gate.get("checks", ()):
        if entry["passed"] is False:
            _log.warning("bundle %s is marked, not %s: %s", manifest.version, entry["name"], entry["said"])
    try:
        catalogue = Catalogue.load(folder / "catalogue")
    except (OSError, ValueError, KeyError) as error:
        raise BundleError(f"{folder / 'catalogue'}: not readable ({error}). Build the bundle again") from error
    if len(catalogue) != manifest.items:
        raise BundleError(f"{folder / 'catalogue'}: {len(catalogue)} items, the manifest says {manifest.items}")
    if POPULARITY not in manifest.generators:
        raise BundleError(f"{folder}: no generator is called {POPULARITY!r}, the rung that cannot fail. Build it again")
    try:
        generators = {
            name: generator_class(name).load(folder / "generators" / name, catalogue) for name in manifest.generators
        }
    except LookupError as error:
        raise BundleError(f"{folder}: {error.args[0]}. Install the package that brings it") from error
    # Ids and hashes of a large catalogue take a moment to index: now, not in the first request.
    _ = catalogue.row_of, catalogue.category_code, catalogue.rows_of_hashes(NO_HASHES)
    encoder, scorer, vectors = load_model(folder / "model", len(catalogue)) if manifest.model else (None, None, None)
    return Bundle(
        version=manifest.version,
        catalogue=catalogue,
        generators=tuple(generators.values()),
        limits={name: int(params["limit"]) for name, params in manifest.generators.items()},
        popularity=cast("PopularityFloor", generators[POPULARITY]),
        prior=CfScorer.load(folder / "cf", len(catalogue)),
        similar=CfScorer.load(folder / "similar", len(catalogue)),
        manifest=manifest,
        encoder=encoder,
        scorer=scorer,
        item_vectors=vectors,
    )
