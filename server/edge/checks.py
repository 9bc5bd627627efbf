"""From messages to plain values, or a refusal that names the field and its bound.

The bounds are those of the comments in ``recommendation.proto``. A refusal never repeats the value.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from core.catalogue import NO_FILTERS, Filters
from core.query import MAX_USER_ID_BYTES, Request, is_user_id
from core.types import UserEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from google.protobuf.timestamp_pb2 import Timestamp

    from terrace.v1 import recommendation_pb2 as pb

DEFAULT_LIMIT = 20
DEFAULT_SURFACE = "default"
MAX_LIMIT = 200
MAX_EXCLUDED = 1_000
MAX_RECENT_EVENTS = 100
MAX_CONTEXT = 20
MAX_CONTEXT_CHARACTERS = 64
MAX_RANKED = 500
MAX_CATEGORIES = 100
MAX_ATTRIBUTES = 20
MAX_VALUES = 100
MAX_ITEM_BYTES = 256
_LAST_SECOND = 253_402_300_799  # of the year 9999, as ``Timestamp`` says
_HIGHEST_PRICE = 3.4e38  # prices of a catalogue have 32 bits; beyond, numpy complains of every comparison
_LONGEST_SURE = MAX_ITEM_BYTES // 4  # characters that fit in UTF-8 whatever they are

_name = re.compile(r"[a-z0-9_-]{1,64}").fullmatch


class InvalidRequestError(Exception):
    """A request that breaks the contract; the message is for the caller."""


def recommend(message: pb.RecommendRequest, surfaces: Mapping[str, bool], now_s: Callable[[], float]) -> Request:
    """Check a ``RecommendRequest``.

    Raises:
        InvalidRequestError: a field is out of its bound.
    """
    surface = _surface(message.surface)
    return Request(
        user_id=_user(message.user_id),
        limit=_limit(message.limit),
        surface=surface,
        filters=_filters(message.filters) if message.HasField("filters") else NO_FILTERS,
        exclude=_excluded(message.exclude_item_ids),
        recent_events=_events(message.recent_events, now_s) if message.recent_events else (),
        context=_context(message.context) if message.context else {},
        allow_repeats=surfaces.get(surface, False),
    )


def similar(message: pb.SimilarItemsRequest) -> Request:
    """Check a ``SimilarItemsRequest``; its item is ``message.item_id``.

    Raises:
        InvalidRequestError: a field is out of its bound.
    """
    _item("item_id", message.item_id)
    return Request(
        user_id="",
        limit=_limit(message.limit),
        surface=_surface(message.surface),
        filters=_filters(message.filters) if message.HasField("filters") else NO_FILTERS,
        exclude=_excluded(message.exclude_item_ids),
    )


def rank(message: pb.RankItemsRequest, now_s: Callable[[], float]) -> tuple[tuple[str, ...], Request]:
    """Check a ``RankItemsRequest``: its items, and the rest.

    Raises:
        InvalidRequestError: a field is out of its bound.
    """
    item_ids = tuple(message.item_ids)
    if not 1 <= len(item_ids) <= MAX_RANKED:
        raise InvalidRequestError(f"item_ids: 1 to {MAX_RANKED} items")
    for item_id in item_ids:
        _item("item_ids", item_id)
    if len(set(item_ids)) != len(item_ids):
        raise InvalidRequestError("item_ids: each item once")
    return item_ids, Request(
        user_id=_user(message.user_id),
        limit=len(item_ids),
        surface=_surface(message.surface),
        recent_events=_events(message.recent_events, now_s),
        context=_context(message.context),
    )


def _user(user_id: str) -> str:
    if not is_user_id(user_id):
        raise InvalidRequestError(f"user_id: 1 to {MAX_USER_ID_BYTES} bytes without control characters")
    return user_id


def _surface(surface: str) -> str:
    if surface and not _name(surface):
        raise InvalidRequestError("surface: at most 64 characters of [a-z0-9_-]")
    return surface or DEFAULT_SURFACE


def _limit(limit: int) -> int:
    if not 0 <= limit <= MAX_LIMIT:
        raise InvalidRequestError(f"limit: 1 to {MAX_LIMIT}, or 0 for {DEFAULT_LIMIT}")
    return limit or DEFAULT_LIMIT


def _item(field: str, item_id: str) -> str:
    if not item_id or (len(item_id) > _LONGEST_SURE and len(item_id.encode()) > MAX_ITEM_BYTES):
        raise InvalidRequestError(f"{field}: an item id has 1 to {MAX_ITEM_BYTES} bytes")
    return item_id


def _excluded(item_ids: Sequence[str]) -> tuple[str, ...]:
    if len(item_ids) > MAX_EXCLUDED:
        raise InvalidRequestError(f"exclude_item_ids: at most {MAX_EXCLUDED}")
    return tuple(item_ids)


def _events(events: Sequence[pb.Event], now_s: Callable[[], float]) -> tuple[UserEvent, ...]:
    if len(events) > MAX_RECENT_EVENTS:
        raise InvalidRequestError(f"recent_events: at most {MAX_RECENT_EVENTS}")
    now = now_s()
    checked = []
    for event in events:
        if not _name(event.event_type):
            raise InvalidRequestError("recent_events.event_type: 1 to 64 characters of [a-z0-9_-]")
        if not math.isfinite(event.value):
            raise InvalidRequestError("recent_events.value: a finite number")
        at = min(_time(event.time), now) if event.HasField("time") else now
        checked.append(UserEvent(_item("recent_events.item_id", event.item_id), event.event_type, at, event.value))
    return tuple(checked)


def _time(time: Timestamp) -> float:
    if not (0 <= time.seconds <= _LAST_SECOND and 0 <= time.nanos < 10**9):
        raise InvalidRequestError("recent_events.time: from the year 1970 to 9999, nanos from 0 to 999,999,999")
    return time.seconds + time.nanos / 1e9


def _context(context: Mapping[str, str]) -> Mapping[str, str]:
    if len(context) > MAX_CONTEXT:
        raise InvalidRequestError(f"context: at most {MAX_CONTEXT} entries")
    plain = dict(context)
    if any(len(key) > MAX_CONTEXT_CHARACTERS or len(value) > MAX_CONTEXT_CHARACTERS for key, value in plain.items()):
        raise InvalidRequestError(f"context: keys and values have at most {MAX_CONTEXT_CHARACTERS} characters")
    return plain


def _filters(filters: pb.Filters) -> Filters:
    low = _price("filters.min_price", filters.min_price) if filters.HasField("min_price") else None
    high = _price("filters.max_price", filters.max_price) if filters.HasField("max_price") else None
    if low is not None and high is not None and high < low:
        raise InvalidRequestError("filters.max_price: at least min_price")
    if len(filters.attributes) > MAX_ATTRIBUTES:
        raise InvalidRequestError(f"filters.attributes: at most {MAX_ATTRIBUTES}")
    return Filters(
        categories=_categories("filters.categories", filters.categories),
        exclude_categories=_categories("filters.exclude_categories", filters.exclude_categories),
        min_price=low,
        max_price=high,
        available_only=not filters.include_unavailable,
        attributes={name: _values(wanted.values) for name, wanted in filters.attributes.items()},
    )


def _price(field: str, price: float) -> float:
    if not (math.isfinite(price) and price >= 0):
        raise InvalidRequestError(f"{field}: a finite number, 0 or more")
    return min(price, _HIGHEST_PRICE)


def _categories(field: str, names: Sequence[str]) -> tuple[str, ...]:
    if len(names) > MAX_CATEGORIES:
        raise InvalidRequestError(f"{field}: at most {MAX_CATEGORIES}")
    return tuple(names)


def _values(values: Iterable[str]) -> tuple[str, ...]:
    wanted = tuple(values)
    if not 1 <= len(wanted) <= MAX_VALUES:
        raise InvalidRequestError(f"filters.attributes.values: 1 to {MAX_VALUES}")
    return wanted
