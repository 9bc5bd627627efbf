"""Two measured bundles beside each other: in pairs where they were evaluated on the same cases, else by their intervals."""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot
from typing import TYPE_CHECKING, Any

import numpy as np

from core.manifest import read_manifest
from core.types import Tier
from offline.evaluate.per_user import FILE_NAME, PerUser
from offline.metrics import bootstrap

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from core.manifest import Manifest

PAIRED_SHARE = 0.9
"""Two evaluations are compared in pairs when they have this share of the larger one's cases in common."""
_LONG = 8
_LEARNED = frozenset({"importance", "ablation", "features"})
_DATA = ("events", "users", "items", "items_with_events", "first_event", "last_event")


@dataclass(frozen=True)
class Measured:
    """A bundle's manifest with figures in it, and its figures per case where it kept them."""

    manifest: Manifest
    per_user: PerUser | None

    @classmethod
    def load(cls, folder: Path) -> Measured:
        """Of a published bundle.

        Raises:
            BundleError: there is no such bundle, or the file with its figures per case is damaged.
        """
        manifest = read_manifest(folder)
        kept = FILE_NAME in manifest.files
        return cls(manifest, PerUser.load(folder / FILE_NAME) if kept else None)

    @property
    def figures(self) -> Mapping[str, Any]:
        """What ``terrace evaluate --json`` prints; empty where nothing was measured."""
        return self.manifest.metrics


def main_metric(figures: Mapping[str, Any]) -> str:
    """NDCG of the longest lists, the one figure that bundles are judged by."""
    first = next(iter(figures["rungs"].values()))
    return str(max((name for name in first if name.startswith("ndcg@")), key=lambda name: int(name.partition("@")[2])))


def top_rung(figures: Mapping[str, Any]) -> str:
    """The highest rung that was measured: what a request gets when nothing is wrong."""
    return [rung.name for rung in Tier if rung.name in figures["rungs"]][-1]


def compare(old: Measured, new: Measured) -> dict[str, Any]:
    """What changed from one bundle to another, as plain values ready for JSON.

    Returns:
        ``old``, ``new``: versions; ``paired``: whether the differences are per user, ``how``: the same in words;
        ``comparable``: whether both were evaluated on the same kind of cases; ``metric``: the main one;
        ``rungs``: rung -> metric -> {old, new, difference, low, high}; ``generators``: name -> figure -> {old, new};
        ``parameters``: [{what, old, new}] that differ.
    """
    missing = [one.manifest.version for one in (old, new) if not one.figures]
    common = _common(old.per_user, new.per_user)
    paired = common is not None
    comparable = not missing and _kind(old.figures) == _kind(new.figures)
    rungs = {}
    for rung in () if missing else [name for name in new.figures["rungs"] if name in old.figures["rungs"]]:
        before, after = old.figures["rungs"][rung], new.figures["rungs"][rung]
        rungs[rung] = {
            metric: {
                "old": before[metric]["mean"],
                "new": after[metric]["mean"],
                **difference(old, new, metric, (rung, rung)),
            }
            for metric in after
            if isinstance(after[metric], dict) and isinstance(before.get(metric), dict)
        }
    return {
        "old": old.manifest.version,
        "new": new.manifest.version,
        "paired": paired,
        "how": _how(old, new, missing, common),
        "comparable": comparable,
        "metric": "" if missing else main_metric(new.figures),
        "rungs": rungs,
        "generators": _generators(old.figures, new.figures),
        "parameters": _parameters(old.manifest, new.manifest),
    }


def _kind(figures: Mapping[str, Any]) -> tuple[Any, ...]:
    """What has to agree before two means say anything about each other."""
    split = figures["split"]
    return (split.get("kind"), split.get("horizon_days"), split.get("new_only"), main_metric(figures))


def _common(old: PerUser | None, new: PerUser | None) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
    """Places of the cases that both have; None where these are too few for pairs."""
    if old is None or new is None or not len(old) or not len(new):
        return None
    _, at_old, at_new = np.intersect1d(old.users, new.users, return_indices=True)
    same = old.relevant[at_old] == new.relevant[at_new]
    enough = same.sum() >= PAIRED_SHARE * max(len(old), len(new))
    return (at_old[same], at_new[same]) if enough else None


def _how(
    old: Measured, new: Measured, missing: list[str], common: tuple[NDArray[np.intp], NDArray[np.intp]] | None
) -> str:
    if missing:
        return f"{' and '.join(missing)} was not measured, so there is nothing to compare"
    if _kind(old.figures) != _kind(new.figures):
        return "the two were evaluated on different kinds of cases, so their figures do not say which is better"
    if common is not None:
        return f"paired: differences per user over {len(common[0]):,} cases that both have"
    sizes = [f"{one.figures['split']['cases']:,}" for one in (old, new)]
    why = "one kept no figures per user" if old.per_user is None or new.per_user is None else "the cases differ"
    return f"not paired, {why}: intervals of the difference of two means over {sizes[0]} and {sizes[1]} cases"


def difference(old: Measured, new: Measured, metric: str, rungs: tuple[str, str]) -> dict[str, float]:
    """Mean and 95 % interval of ``metric`` of the new bundle's rung minus that of the old one's.

    Args:
        old: that both were evaluated on the same kind of cases is for the caller to know.
        new: the later one.
        metric: such as ``ndcg@20``.
        rungs: the old one's and the new one's.

    Returns:
        ``difference``, ``low``, ``high``.
    """
    common = _common(old.per_user, new.per_user)
    if common is not None and old.per_user is not None and new.per_user is not None:
        before = old.per_user.values.get(rungs[0], {}).get(metric)
        after = new.per_user.values.get(rungs[1], {}).get(metric)
        if before is not None and after is not None:
            each = after[common[1]].astype(np.float64) - before[common[0]].astype(np.float64)
            found = bootstrap(each)
            return {"difference": found.mean, "low": found.low, "high": found.high}
    a, b = old.figures["rungs"][rungs[0]][metric], new.figures["rungs"][rungs[1]][metric]
    mean = b["mean"] - a["mean"]
    # Of two independent means the squared half-widths add up.
    low = mean - hypot(b["mean"] - b["low"], a["high"] - a["mean"])
    high = mean + hypot(b["high"] - b["mean"], a["mean"] - a["low"])
    return {"difference": mean, "low": low, "high": high}


def _generators(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    before, after = (_numbers(one.get("generators", {})) for one in (old, new))
    return {
        name: {
            figure: {"old": before.get(name, {}).get(figure), "new": after.get(name, {}).get(figure)}
            for figure in {**before.get(name, {}), **after.get(name, {})}
        }
        for name in {**before, **after}
    }


def _numbers(generators: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    return {
        name: {figure: value for figure, value in values.items() if isinstance(value, int | float)}
        for name, values in generators.items()
    }


def _parameters(old: Manifest, new: Manifest) -> list[dict[str, Any]]:
    """Everything in the manifests that was chosen, learned or read differently."""
    before, after = _flat(old), _flat(new)
    return [
        {"what": what, "old": before.get(what), "new": after.get(what)}
        for what in {**before, **after}
        if before.get(what) != after.get(what)
    ]


def _flat(manifest: Manifest) -> dict[str, Any]:
    parts: dict[str, Mapping[str, Any]] = {
        "data": {name: manifest.data[name] for name in _DATA if name in manifest.data},
        "weight": manifest.event_weights,
        **manifest.generators,
        "cf": manifest.cf,
        "model": {name: value for name, value in manifest.model.items() if name not in _LEARNED},
    }
    flat: dict[str, Any] = {"code version": manifest.code_version}
    for part, params in parts.items():
        for name, value in params.items():
            short = isinstance(value, list | tuple | dict) and len(value) > _LONG
            flat[f"{part}: {name}"] = f"{len(value)} values" if short else value
    return flat
