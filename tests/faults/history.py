"""What was asked of a server and what came of it, call by call, for checks afterwards (``tests.faults.invariants``)."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from core.catalogue import Catalogue


@dataclass(frozen=True)
class Filters:
    """The filters that a fault test uses; as the message's."""

    categories: tuple[str, ...] = ()
    max_price: float | None = None
    colours: tuple[str, ...] = ()


@dataclass(frozen=True)
class Thing:
    """One item of a catalogue, as a list of items for people would show it."""

    available: bool
    price: float
    categories: tuple[str, ...]
    attributes: Mapping[str, str]

    def passes(self, filters: Filters) -> bool:
        """Whether it may be answered; written out here, so that nothing that is tested judges itself."""
        return (
            self.available
            and (not filters.categories or bool(set(filters.categories) & set(self.categories)))
            and (filters.max_price is None or self.price <= filters.max_price)
            and (not filters.colours or self.attributes.get("colour") in filters.colours)
        )


def things(catalogue: Catalogue) -> dict[str, Thing]:
    """Every item of a catalogue by id."""
    return {
        item_id: Thing(
            bool(catalogue.available[row]),
            float(catalogue.price[row]),
            catalogue.categories_of(row),
            {name: values[codes[row]] for name, (codes, values) in catalogue.attributes.items() if codes[row] >= 0},
        )
        for item_id, row in catalogue.row_of.items()
    }


@dataclass(frozen=True)
class World:
    """What is true, whatever a server says.

    Attributes:
        catalogues: items by bundle version.

        owned: the items of each user's history; no item is in two of them.

        bought: those that must not be answered to the user again.

        default_ms: budget of a call without a deadline; ``longest_ms``: of one with a very late one.
    """

    catalogues: Mapping[str, Mapping[str, Thing]]
    owned: Mapping[str, frozenset[str]]
    bought: Mapping[str, frozenset[str]]
    default_ms: float = 100.0
    longest_ms: float = 500.0


@dataclass(frozen=True)
class Request:
    """What one call asks for; ``number`` is its own within a history."""

    number: int
    user: str
    limit: int = 20
    exclude: tuple[str, ...] = ()
    filters: Filters = field(default_factory=Filters)
    recent: tuple[str, ...] = ()
    deadline_ms: float | None = 100.0
    criticality: str = "user"


@dataclass(frozen=True)
class Item:
    """One item of an answer; ``score`` is None where the rung did not score it."""

    item_id: str
    score: float | None
    explained_by: str = ""


@dataclass(frozen=True)
class Call:
    """A request and its end.

    Attributes:
        sent_s: monotonic clock of the caller, seconds.

        took_ms: from there to the end, as the caller saw it.

        status: name of the gRPC status.

        pushed_back: the server said not to retry.

        skipped, dropped: reasons by rung and by source, in lower case.
    """

    request: Request
    sent_s: float
    took_ms: float
    status: str
    details: str = ""
    pushed_back: bool = False
    items: tuple[Item, ...] = ()
    tier: str = ""
    skipped: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    scored: int = 0
    pool: int = 0
    stages: Mapping[str, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.status == "OK"

    @property
    def ended_s(self) -> float:
        return self.sent_s + self.took_ms / 1000

    @property
    def why(self) -> str:
        """The reason why it was not answered from DEEP; empty where it was."""
        return self.skipped.get("DEEP", "")


@dataclass
class History:
    """Calls in the order of their ends, and when what was broken was whole again.

    Attributes:
        sent: calls that were begun, counted apart.

        broken_s, healed_s: when the fault began, and when all faults had ended; None where nothing heals.

        served: calls by status as the server counted them; None where its count is not known.
    """

    world: World
    calls: list[Call] = field(default_factory=list)
    sent: int = 0
    broken_s: float | None = None
    healed_s: float | None = None
    served: Mapping[str, int] | None = None

    def save(self, path: Path) -> None:
        """One JSON line about the run, then one for each call."""
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {"sent": self.sent, "broken_s": self.broken_s, "healed_s": self.healed_s, "served": self.served}
        lines = [about, *(asdict(call) for call in self.calls)]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def percentile_ms(calls: Iterable[Call], percent: float) -> float:
    """Of what the calls took, as their callers saw it."""
    return float(np.percentile([call.took_ms for call in calls], percent))


def unanswered(calls: Iterable[Call]) -> list[Call]:
    """Calls that ended without an answer."""
    return [call for call in calls if not call.ok]


def nearly_all(well: int, calls: int) -> bool:
    """Whether at most one call in a hundred, or one of fewer, is missing."""
    return well >= calls - max(1.0, 0.01 * calls)


def spread(calls: Sequence[Call]) -> dict[str, float]:
    """Median and tail of what calls took, milliseconds."""
    return {f"p{percent}": round(percentile_ms(calls, percent), 2) for percent in (50, 99)}


def outcomes(calls: Iterable[Call], source: str = "") -> dict[str, int]:
    """How often each end comes: rung or status, why no higher, and why without a source."""
    ends = (" ".join(filter(None, (call.tier or call.status, call.why, call.dropped.get(source)))) for call in calls)
    return dict(Counter(ends))
