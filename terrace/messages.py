"""Questions and answers as Python values, and their way to the wire and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict

from terrace.v1 import recommendation_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Criticality: TypeAlias = Literal["user", "prefetch", "batch"]
Metadata: TypeAlias = tuple[tuple[str, str], ...]


class Tier(IntEnum):
    """The rung of the ladder that answered; a higher number is a better answer."""

    POPULARITY = pb.TIER_POPULARITY
    CF = pb.TIER_CF
    PRECOMPUTED = pb.TIER_PRECOMPUTED
    DEEP = pb.TIER_DEEP


@dataclass(frozen=True, slots=True)
class Event:
    """Something the user did that the server may not know yet.

    Attributes:
        timestamp_s: seconds since the Unix epoch, UTC; None means now.
    """

    item_id: str
    event_type: str
    timestamp_s: float | None = None
    value: float = 0.0


@dataclass(frozen=True, slots=True)
class Filters:
    """What may be in the list; empty and None ask for nothing. Bounds: ``Filters`` in the proto file."""

    categories: tuple[str, ...] = ()
    exclude_categories: tuple[str, ...] = ()
    min_price: float | None = None
    max_price: float | None = None
    include_unavailable: bool = False
    attributes: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Item:
    """One item of an answer.

    Attributes:
        score: higher is better, comparable within this answer only; None = not scored.

        sources: generators that speak for it.

        explained_by: the item of the user's history that speaks most for it, or empty.
    """

    item_id: str
    score: float | None
    sources: tuple[str, ...]
    explained_by: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Items, best first, and how they came to be.

    Attributes:
        recommendation_id: names this answer; feedback refers to it.

        skipped: for each tier above ``tier`` why it did not answer, such as "no_time".

        dropped_sources: what the answer was made without, and why.

        stage_ms: wall time of each stage on the server, milliseconds.

        unknown_items: of ``rank_items``: how many the catalogue does not have.
    """

    items: tuple[Item, ...]
    recommendation_id: str
    tier: Tier
    skipped: Mapping[Tier, str]
    bundle_version: str
    scored_rows: int
    pool_rows: int
    stage_ms: Mapping[str, float]
    dropped_sources: Mapping[str, str]
    unknown_items: int = 0

    @property
    def item_ids(self) -> tuple[str, ...]:
        """Ids of the items, best first."""
        return tuple(item.item_id for item in self.items)


class CallOptions(TypedDict, total=False):
    """What any call may say about itself; travels as metadata of the call.

    Attributes:
        criticality: who waits for the answer: ``user`` (default) is answered as long as the server lives, ``prefetch``
            and ``batch`` are refused with RESOURCE_EXHAUSTED under overload.

        exercise: False keeps this call out of the small share that is answered from a lower tier on purpose.

        max_tier: the answer comes from this tier at most, for debugging.
    """

    criticality: Criticality
    exercise: bool
    max_tier: Tier


class RecommendOptions(CallOptions, total=False):
    """What ``recommend`` may be asked besides the user; bounds: ``RecommendRequest`` in the proto file."""

    limit: int
    surface: str
    filters: Filters
    exclude: Sequence[str]
    recent_events: Sequence[Event]
    context: Mapping[str, str]


class SimilarOptions(CallOptions, total=False):
    """What ``similar_items`` may be asked besides the item; bounds: ``SimilarItemsRequest`` in the proto file."""

    limit: int
    surface: str
    filters: Filters
    exclude: Sequence[str]


class RankOptions(CallOptions, total=False):
    """What ``rank_items`` may be asked besides user and items; bounds: ``RankItemsRequest`` in the proto file."""

    surface: str
    recent_events: Sequence[Event]
    context: Mapping[str, str]


_OF_THE_CALL = frozenset(CallOptions.__annotations__)


def fields_of(asked: RecommendOptions | SimilarOptions | RankOptions) -> dict[str, Any]:
    """The options as fields of a request message; those of ``CallOptions`` are not among them."""
    fields: dict[str, Any] = {name: value for name, value in asked.items() if name not in _OF_THE_CALL}
    if "exclude" in fields:
        fields["exclude_item_ids"] = texts_of("exclude", fields.pop("exclude"))
    if "filters" in fields:
        fields["filters"] = _filters(fields["filters"])
    if "recent_events" in fields:
        fields["recent_events"] = [_event(event) for event in fields["recent_events"]]
    return fields


def metadata_of(asked: CallOptions) -> Metadata | None:
    """The options of ``CallOptions`` as metadata; None where all are the default, which costs nothing on the wire."""
    if _OF_THE_CALL.isdisjoint(asked):
        return None
    return _metadata(asked.get("criticality", "user"), asked.get("exercise", True), asked.get("max_tier"))


@lru_cache
def _metadata(criticality: Criticality, exercise: bool, max_tier: Tier | None) -> Metadata | None:
    said: list[tuple[str, str]] = []
    if criticality != "user":
        said.append(("terrace-criticality", criticality))
    if not exercise:
        said.append(("terrace-exercise", "off"))
    if max_tier is not None:
        said.append(("terrace-tier", max_tier.name))
    return tuple(said) or None


def text_of(name: str, value: str) -> str:
    """``value``, if it is a text.

    Raises:
        TypeError: it is something else, such as a number; the message names the argument ``name``.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected a str, not {type(value).__name__}: {name}=str(...)")
    return value


def texts_of(name: str, values: Sequence[str]) -> Sequence[str]:
    """``values``, unless it is one text, whose characters would be taken for ids or names.

    Raises:
        TypeError: it is one text; the message names the argument ``name``.
    """
    if isinstance(values, str):
        raise TypeError(f"{name}: expected a sequence of str, not one str: put it in a list")
    return values


def _event(event: Event) -> pb.Event:
    message = pb.Event(item_id=text_of("Event.item_id", event.item_id), event_type=event.event_type, value=event.value)
    if event.timestamp_s is not None:
        message.time.FromMicroseconds(round(event.timestamp_s * 1e6))
    return message


def _filters(filters: Filters) -> pb.Filters:
    return pb.Filters(
        categories=texts_of("Filters.categories", filters.categories),
        exclude_categories=texts_of("Filters.exclude_categories", filters.exclude_categories),
        min_price=filters.min_price,
        max_price=filters.max_price,
        include_unavailable=filters.include_unavailable,
        attributes={
            name: pb.AttributeValues(values=texts_of(f"Filters.attributes[{name!r}]", values))
            for name, values in filters.attributes.items()
        },
    )


def _reason(reason: int) -> str:
    return pb.Reason.Name(reason).removeprefix("REASON_").lower() if reason in pb.Reason.values() else f"{reason}"


def answer_of(response: pb.RecommendResponse | pb.SimilarItemsResponse | pb.RankItemsResponse) -> Answer:
    """A response message as an answer."""
    info = response.info
    return Answer(
        items=tuple(
            Item(
                item_id=item.item_id,
                score=item.score if item.HasField("score") else None,
                sources=tuple(item.sources),
                explained_by=item.explained_by,
            )
            for item in response.items
        ),
        recommendation_id=info.recommendation_id,
        tier=Tier(info.tier),
        skipped={Tier(entry.tier): _reason(entry.reason) for entry in info.skipped},
        bundle_version=info.bundle_version,
        scored_rows=info.scored_rows,
        pool_rows=info.pool_rows,
        stage_ms={entry.stage: entry.duration_ms for entry in info.stages},
        dropped_sources={entry.source: _reason(entry.reason) for entry in info.dropped_sources},
        unknown_items=response.unknown_items if isinstance(response, pb.RankItemsResponse) else 0,
    )
