"""A bundle on disk: the toy catalogue with the real generators; item i goes with i + 1 and i + 2."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from candidate_gen.cooccurrence import CoOccurrence, Params
from candidate_gen.neighbours import NeighbourTable
from candidate_gen.popularity import Popularity, Ranking
from offline import bundle_folder
from ranking.cf_scorer import CfParams, CfScorer, SourceTerm
from tests.server import toy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

MODEL = "model/model.json"


def seal(folder: Path, **changes: Any) -> None:
    """Write the manifest: the toy bundle's, with every file in the folder, but for ``changes``."""
    generators: Mapping[str, Mapping[str, Any]] = {"co_occurrence": {"limit": 20}, "popularity": {"limit": 20}}
    bundle_folder.seal(folder, replace(toy.bundle().manifest, **({"generators": generators} | changes)))


def write_bundle(folder: Path, **changes: Any) -> Path:
    """Write a whole bundle without a model, and seal it; returns the folder."""
    items = toy.catalogue()
    for name in ("catalogue", "cf", "similar", "generators/co_occurrence", "generators/popularity"):
        (folder / name).mkdir(parents=True)
    items.save(folder / "catalogue")
    popularity = np.arange(1, toy.ITEMS + 1, dtype=np.float32)
    left = np.repeat(np.arange(toy.ITEMS, dtype=np.int32), 2)
    right = ((left + np.tile([1, 2], toy.ITEMS)) % toy.ITEMS).astype(np.int32)
    table = NeighbourTable.of_pairs(toy.ITEMS, left, right, np.tile([1.0, 0.5], toy.ITEMS).astype(np.float32))
    CoOccurrence(table, Params()).save(folder / "generators" / "co_occurrence")
    order = np.arange(toy.ITEMS - 1, -1, -1, dtype=np.int32)
    by_category = [np.flatnonzero(items.category_idx[order] == c).astype(np.int32) for c in (0, 1)]
    ptr = np.array([0, len(by_category[0]), toy.ITEMS], np.int64)
    ranking = Ranking(popularity, order, ptr, np.concatenate(by_category))
    Popularity(ranking).save(folder / "generators" / "popularity")
    CfScorer(CfParams(sources={"co_occurrence": SourceTerm(1.0)}), popularity).save(folder / "cf")
    CfScorer(CfParams(sources={"co_occurrence": SourceTerm(1.0)}), popularity).save(folder / "similar")
    seal(folder, **changes)
    return folder


def write_broken_model(folder: Path, **changes: Any) -> Path:
    """The same, listed and sealed with a model that no program can open."""
    write_bundle(folder)
    (folder / MODEL).parent.mkdir()
    (folder / MODEL).write_text("no model")
    seal(folder, model={"kind": "toy"}, **changes)
    return folder


def flip(path: Path) -> None:
    """Change one bit of a file."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
