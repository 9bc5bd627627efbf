"""The Markdown table of one public data set, for docs/quality.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from offline.evaluate.measurement import MAIN
from offline.evaluate.public_data import NEW, REPEATS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from offline.evaluate.public_data import Protocol


def markdown(
    protocol: Protocol, figures: Mapping[str, Any], beside: Mapping[str, Any], targets: Sequence[Mapping[str, Any]]
) -> str:
    """Rungs, steps between them, plain baselines and targets.

    Args:
        protocol: of the data set.
        figures: what ``offline.evaluate.evaluation.evaluate`` measured.
        beside: ``new`` and ``repeats`` -> baseline -> metric -> {mean, low, high}; empty without baselines.
        targets: what ``offline.evaluate.public_data.hold`` found.
    """
    split = figures["split"]
    parts = [f"### {protocol.name}", "", f"{protocol.about} {split['cases']:,} users.", ""]
    parts += _table(protocol.metrics, figures, beside.get(NEW, {}))
    if figures.get("repeats") and REPEATS in beside:
        n_users = figures["repeats"]["split"]["cases"]
        parts += ["", f"With repeats allowed, {n_users:,} users:", ""]
        parts += _table(protocol.metrics, figures["repeats"], beside[REPEATS])
    parts += ["", _generators(figures["generators"])]
    if (figures.get("list_ages") or {}).get("ages"):
        parts += ["", *_list_ages(figures["list_ages"])]
    parts += ["", "| target | bound | reached | met |", "|---|---|---|---|"]
    for entry in targets:
        met = {True: "yes", False: "**no**", None: "cannot be said"}[entry["met"]]
        met += ", the interval reaches below" if entry["chance"] else ""
        parts.append(f"| {entry['target']} | {_number(entry['bound'])} | {_number(entry['value'])} | {met} |")
    return "\n".join(parts) + "\n"


def _table(metrics: Sequence[str], figures: Mapping[str, Any], beside: Mapping[str, Any]) -> list[str]:
    rows = [f"| | {' | '.join(_plain(name) for name in metrics)} |", f"|---|{'---|' * len(metrics)}"]
    rows += [f"| {name} | {_cells(values, metrics)} |" for name, values in beside.items()]
    rows += [f"| `{rung}` | {_cells(values, metrics)} |" for rung, values in figures["rungs"].items()]
    rows += [
        f"| `{pair}` | {_cells(values, metrics, signed=True)} |" for pair, values in figures["differences"].items()
    ]
    return rows


def _cells(values: Mapping[str, Any], metrics: Sequence[str], *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return " | ".join(
        f"{values[name]['mean']:{sign}.4f} [{values[name]['low']:.4f}, {values[name]['high']:.4f}]" for name in metrics
    )


def _list_ages(found: Mapping[str, Any]) -> list[str]:
    """Precomputed lists by their age, beside the other rungs at the moment of the request."""
    rungs, pairs = (list(found["ages"][0][part]) for part in ("rungs", "differences"))
    where = "above" if found.get("above_cf", True) else "below"
    heading = f"Precomputed lists by age, at moments when {found['cases']:,} users were active; {_plain(MAIN)}."
    rows = [
        f"{heading} On the ladder they stand {where} `CF`.",
        "",
        f"| made before | users | active since | {' | '.join(f'`{name}`' for name in (*rungs, *pairs))} |",
        f"|---|---|---|{'---|' * (len(rungs) + len(pairs))}",
    ]
    for age in found["ages"]:
        cells = [f"{age['hours']:g} h", f"{age['cases']:,}", f"{age['active_since']:.0%}"]
        cells += [f"{age['rungs'][name][MAIN]['mean']:.4f}" for name in rungs]
        cells += [_cells(age["differences"][pair], (MAIN,), signed=True) for pair in pairs]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _generators(generators: Mapping[str, Any]) -> str:
    found = ", ".join(f"{name} {values['recall@500']:.3f}" for name, values in generators.items() if name != "union")
    union = generators["union"]
    return f"Candidates: recall@500 of {found}; the pool of {union['rows']:.0f} holds {union['recall']:.3f}."


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _plain(metric: str) -> str:
    kind, at, k = metric.partition("@")
    return f"{kind.upper() if kind in {'ndcg', 'map', 'mrr'} else kind.replace('_', ' ')}{at}{k}"
