"""How each public data set is measured here: its files, split, columns, event types, targets and plain baselines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

BASELINES = "baselines"
NEW, REPEATS = "new", "repeats"
BEST = "best"


@dataclass(frozen=True)
class Target:
    """Something a data set's figures should show.

    Attributes:
        description: in words.

        value: where it stands in the figures.

        factor: at least so much, or so many times ``of``; above it where it is 0.

        of: where the figure stands that it is held against; ``("baselines", "new", "best", metric)`` is the best one.
    """

    description: str
    value: tuple[str, ...]
    factor: float
    of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Protocol:
    """One data set and how it is measured.

    Attributes:
        about: what the data is and how it is split, a sentence.

        events: file inside the data set's folder; ``items`` and ``test`` too, empty = there is none.

        target_types: event types that make an item relevant; empty = those that hide the item afterwards.

        metrics: the columns of its table, the first is the one that counts.

        baselines: name -> arguments, for new items; ``repeat_baselines`` where had ones may come back.
    """

    name: str
    about: str
    events: str
    metrics: tuple[str, ...]
    targets: tuple[Target, ...]
    items: str = ""
    test: str = ""
    split: str = "time"
    horizon_days: float = 30.0
    target_types: tuple[str, ...] = ()
    baselines: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    repeat_baselines: tuple[tuple[str, Mapping[str, Any]], ...] = ()


def _rung(rung: str, metric: str) -> tuple[str, ...]:
    return ("rungs", rung, metric, "mean")


_TREND = {"half_life_days": 14.0}
_OWN = {"half_life_days": 30.0}
_COSINE = ("item cosine", {"neighbours": 100})
_WALK = ("RP3beta", {"alpha": 0.7, "beta": 0.3, "neighbours": 1000})

PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="online-retail",
            about="Orders of a British gift shop. The last 30 days are the test, products new to the customer; repeats apart.",
            events="events.parquet",
            items="items.parquet",
            metrics=("ndcg@20", "recall@20", "ndcg@10", "hit_rate@20"),
            targets=(
                Target(
                    "DEEP is 15 % above the best plain baseline, new products, NDCG@20",
                    _rung("DEEP", "ndcg@20"),
                    1.15,
                    (BASELINES, NEW, BEST, "ndcg@20"),
                ),
                Target(
                    "DEEP is 5 % above own purchase counts with a half-life of 30 days, repeats allowed, NDCG@20",
                    (REPEATS, *_rung("DEEP", "ndcg@20")),
                    1.05,
                    (BASELINES, REPEATS, "own purchases, 30 days", "ndcg@20"),
                ),
                Target("The candidates' recall@500", ("generators", "union", "recall@500"), 0.55),
                Target(
                    "Content finds 3 times as many new items as popularity, recall@50",
                    ("cold_items", "generators", "content", "recall@50", "mean"),
                    3.0,
                    ("cold_items", "generators", "popularity", "recall@50", "mean"),
                ),
            ),
            baselines=(
                ("popularity", {}),
                ("popularity, 14 days", _TREND),
                _COSINE,
                ("RP3beta", {"alpha": 1.0, "beta": 0.6, "neighbours": 500}),
                ("EASE^R", {"l2": 200.0}),
                ("iALS", {}),
                ("GF-CF", {}),
            ),
            repeat_baselines=(("popularity, 14 days", _TREND), ("own purchases, 30 days", _OWN)),
        ),
        Protocol(
            name="ml-1m",
            about="MovieLens-1M, the published leave-one-out: each user's last film among all films not seen before.",
            events="events.parquet",
            items="items.parquet",
            split="last-event",
            metrics=("ndcg@10", "hit_rate@10", "ndcg@20", "hit_rate@20"),
            targets=(
                Target("DEEP, NDCG@10", _rung("DEEP", "ndcg@10"), 0.20),
                Target("CF, NDCG@10", _rung("CF", "ndcg@10"), 0.16),
            ),
            baselines=(
                ("popularity", {}),
                _COSINE,
                ("EASE^R", {"l2": 500.0}),
                ("transitions", {"window": 10, "history": 20, "decay": 0.7, "damp": 0.2}),
            ),
        ),
        Protocol(
            name="gowalla",
            about="Gowalla check-ins without times, the published random split of LightGCN.",
            events="train.parquet",
            test="test.parquet",
            split="given",
            metrics=("recall@20", "ndcg@20", "recall@10", "ndcg@10"),
            targets=(
                Target("DEEP, recall@20", _rung("DEEP", "recall@20"), 0.185),
                Target("CF, recall@20", _rung("CF", "recall@20"), 0.18),
            ),
            baselines=(("popularity", {}), _COSINE, _WALK, ("GF-CF", {})),
        ),
        Protocol(
            name="retailrocket",
            about="Views, carts and purchases of a shop. The last 30 days are the test; an item with any of the three is relevant.",
            events="events.parquet",
            target_types=("view", "addtocart", "transaction"),
            metrics=("ndcg@20", "recall@20", "ndcg@10", "hit_rate@20"),
            targets=(
                Target("CF is above POPULARITY, NDCG@20", ("differences", "CF - POPULARITY", "ndcg@20", "mean"), 0.0),
                Target("DEEP is above CF, NDCG@20", ("differences", "DEEP - CF", "ndcg@20", "mean"), 0.0),
            ),
            baselines=(
                ("popularity", {}),
                ("popularity, 14 days", _TREND),
                _COSINE,
                ("RP3beta", {"alpha": 1.0, "beta": 0.6, "neighbours": 500}),
            ),
        ),
    )
}


def hold(targets: tuple[Target, ...], figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each target with what was reached.

    Returns:
        ``target``, ``value``, ``bound``, ``met`` (None where a figure is missing), and ``chance``: met by a mean above the
        bound whose interval reaches below it, where the bound is a number.
    """
    found = []
    for target in targets:
        value = _at(figures, target.value)
        reference = _at(figures, target.of) if target.of else 1.0
        bound = None if reference is None else target.factor * reference
        met = None if value is None or bound is None else value >= bound and value > 0
        low = None if target.of else _at(figures, (*target.value[:-1], "low"))
        chance = bool(met and bound is not None and low is not None and low < bound)
        found.append({"target": target.description, "value": value, "bound": bound, "met": met, "chance": chance})
    return found


def _at(figures: Mapping[str, Any], path: tuple[str, ...]) -> float | None:
    found: Any = figures
    for n, key in enumerate(path):
        if not isinstance(found, dict):
            return None
        if key == BEST:
            values = [mean for name in found if (mean := _at(found, (name, *path[n + 1 :]))) is not None]
            return max(values, default=None)
        found = found.get(key)
    if isinstance(found, dict):
        found = found.get("mean")
    return None if found is None else float(found)
