"""From a bundle folder to a bundle in memory: the one place that knows how its parts are opened.

Nothing is opened before its files were held against the manifest, which lists every file: a changed or unlisted file
is never read. Where there are keys, the manifest is not read before its signature is known to be good. What belongs to
the deep rung alone (the model, and the generators that run on the work pool) may be unusable without the rest being so;
everything else belongs to the lower rungs, without which a bundle is not used.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from candidate_gen.registry import generator_class
from core.bundle import Bundle
from core.catalogue import Catalogue
from core.manifest import BundleError, Fault, find_damage, raise_damage, read_manifest
from core.types import NO_HASHES
from ranking.cf_scorer import CfScorer
from ranking.onnx_scorer import load_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from candidate_gen.registry import BuildableGenerator
    from core.bundle import PopularityFloor
    from core.manifest import Manifest
    from core.types import InterruptibleScorer, UserEncoder, Vector
    from server.signature import PublicKeys

POPULARITY = "popularity"
_MODEL = "model"
_log = logging.getLogger(__name__)


def load_bundle(folder: Path, keys: PublicKeys | None = None) -> Bundle:
    """Check and open a bundle, all of it.

    Args:
        folder: of the bundle.
        keys: one of which must have signed it; None takes bundles that nobody signed.

    Raises:
        BundleError: it is missing, unfinished, damaged, of another format, or not signed; the message names the file.
    """
    bundle, error = _open(folder, keys)
    if error is not None:
        raise error
    return bundle


def load_sound_rungs(folder: Path, keys: PublicKeys | None = None) -> Bundle:
    """Check and open a bundle; one whose deep rung cannot be used comes without it, see ``Bundle.disabled``.

    Args:
        folder: of the bundle.
        keys: one of which must have signed it; None takes bundles that nobody signed.

    Raises:
        BundleError: the lower rungs cannot be used either, or it is not signed; the message names the file.
    """
    bundle, error = _open(folder, keys)
    return bundle if error is None else bundle.without_deep(Fault.of(error))


def _open(folder: Path, keys: PublicKeys | None) -> tuple[Bundle, BundleError | None]:
    """The bundle, and what is wrong with its deep rung, which it comes without in that case."""
    manifest = read_manifest(folder) if keys is None else keys.read_manifest(folder)
    with naming(folder):
        _log_marks(manifest)
        limits = {name: int(params["limit"]) for name, params in manifest.generators.items()}
    kinds = _generator_classes(folder, manifest)
    deep_only = (f"{_MODEL}/", *(f"generators/{name}/" for name, kind in kinds.items() if not kind.inline))
    damage = find_damage(folder, manifest)
    raise_damage({name: wrong for name, wrong in damage.items() if not f"{name}/".startswith(deep_only)})

    with naming(folder / "catalogue"):
        catalogue = Catalogue.load(folder / "catalogue")
    if len(catalogue) != manifest.items:
        raise BundleError(f"{folder / 'catalogue'}: {len(catalogue)} items, the manifest says {manifest.items}")
    generators = {name: _load_generator(folder, name, kind, catalogue) for name, kind in kinds.items() if kind.inline}
    with naming(folder):
        prior = CfScorer.load(folder / "cf", len(catalogue))
        similar = CfScorer.load(folder / "similar", len(catalogue))
    # Ids and hashes of a large catalogue take a moment to index: now, not in the first request.
    _ = catalogue.row_of, catalogue.category_code, catalogue.rows_of_hashes(NO_HASHES)
    with naming(folder / "catalogue"):
        catalogue.index_filters()

    model: tuple[UserEncoder, InterruptibleScorer, Vector] | tuple[None, None, None] = (None, None, None)
    deep_error = None
    try:
        raise_damage(damage)
        slow = {k: _load_generator(folder, k, kind, catalogue) for k, kind in kinds.items() if not kind.inline}
        with naming(folder / _MODEL):
            model = load_model(folder / _MODEL, len(catalogue)) if manifest.model else model
        generators |= slow
    except BundleError as error:
        deep_error = error
    encoder, scorer, item_vectors = model
    bundle = Bundle(
        version=manifest.version,
        catalogue=catalogue,
        generators=tuple(generators[name] for name in kinds if name in generators),
        limits=limits,
        popularity=cast("PopularityFloor", generators[POPULARITY]),
        prior=prior,
        similar=similar,
        manifest=manifest,
        encoder=encoder,
        scorer=scorer,
        item_vectors=item_vectors,
    )
    return bundle, deep_error


def _log_marks(manifest: Manifest) -> None:
    """Warn of rules of the gate that a bundle was published without."""
    for entry in manifest.gate.get("checks", ()):
        if entry["passed"] is False:
            _log.warning("bundle %s is marked, not %s: %s", manifest.version, entry["name"], entry["message"])


def _generator_classes(folder: Path, manifest: Manifest) -> Mapping[str, type[BuildableGenerator]]:
    """The class of every generator that the manifest names, in its order."""
    kinds = {}
    for name in manifest.generators:
        with naming(folder / "generators" / name):
            try:
                kinds[name] = generator_class(name)
            except LookupError as error:
                raise BundleError(f"{folder}: {error.args[0]}. Install the package that brings it") from error
    if POPULARITY not in kinds:
        raise BundleError(f"{folder}: no generator is called {POPULARITY!r}, the rung that cannot fail. Build it again")
    if not kinds[POPULARITY].inline:
        raise BundleError(f"{folder}: the generator {POPULARITY!r} must run on the event loop. Install another version")
    return kinds


def _load_generator(
    folder: Path, name: str, kind: type[BuildableGenerator], catalogue: Catalogue
) -> BuildableGenerator:
    with naming(folder / "generators" / name):
        return kind.load(folder / "generators" / name, catalogue)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn whatever is raised into an error that names a part of a bundle, or the bundle; parts may be plug-ins.

    Raises:
        BundleError: something was raised; the error itself where it is one already.
    """
    try:
        yield
    except BundleError:
        raise
    except Exception as error:
        raise BundleError(f"{path}: not usable ({type(error).__name__}: {error}). Copy or build it again") from error
