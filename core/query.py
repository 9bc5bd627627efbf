"""From what a caller asks, and what is known of the user, to one ``Query`` of one bundle."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from core.catalogue import NO_FILTERS, Filters
from core.events import item_hashes
from core.types import NO_ROWS, Query, UserEvent, UserState, Vector

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from core.bundle import Bundle
    from core.types import StopSignal

MAX_HISTORY = 200
"""Events of history that a query carries; a user tower reads the newest ``context_length`` of them."""
MAX_USER_ID_BYTES = 256
_LONGEST_SURE = MAX_USER_ID_BYTES // 4  # characters that fit in UTF-8 whatever they are
# Every Unicode control character (general category Cc) and nothing else.
_without_controls = re.compile(f"[^\\x00-\\x1f\\x7f-\\x9f]{{1,{MAX_USER_ID_BYTES}}}").fullmatch


def is_user_id(text: str) -> bool:
    """Whether users may be called so: 1 to ``MAX_USER_ID_BYTES`` bytes of UTF-8 without control characters."""
    if _without_controls(text) is None:
        return False
    return len(text) <= _LONGEST_SURE or len(text.encode()) <= MAX_USER_ID_BYTES


@dataclass(frozen=True, slots=True)
class Request:
    """A checked request in plain values; ids are not yet looked up in any catalogue."""

    user_id: str
    limit: int
    surface: str = "default"
    filters: Filters = NO_FILTERS
    exclude: tuple[str, ...] = ()
    recent_events: tuple[UserEvent, ...] = ()
    context: Mapping[str, str] = field(default_factory=dict)
    allow_repeats: bool = False


class LazyVector:
    """A vector that is computed on the first call and then kept.

    Without a lock, so that nobody waits for a call that does not come back: whoever asks meanwhile computes it too.
    """

    __slots__ = ("_call", "_value")

    def __init__(self, call: Callable[[StopSignal | None], Vector]) -> None:
        """Remember how to compute it."""
        self._call = call
        self._value: Vector | None = None

    def __call__(self, stop: StopSignal | None = None) -> Vector:
        """The vector; a call that computes it can be stopped."""
        if self._value is None:
            self._value = self._call(stop)
        return self._value


def build_query(
    bundle: Bundle, request: Request, user: UserState, now_s: float, *, restrict: tuple[str, ...] | None = None
) -> Query:
    """Resolve a request against one bundle.

    The caller's recent events and the store's are one history, newest first. An item whose newest
    event is negative (weight below zero) leaves the history and is excluded. Items and event types
    that the bundle does not know are passed over.
    """
    catalogue, manifest = bundle.catalogue, bundle.manifest
    row_of, weights, type_code = catalogue.row_of, manifest.event_weights, manifest.type_code
    events: list[UserEvent] | tuple[UserEvent, ...] = user.events
    if request.recent_events:
        events = sorted(
            dict.fromkeys((*request.recent_events, *user.events)), key=lambda e: e.timestamp_s, reverse=True
        )
    disliked: dict[int, None] = {}
    liked: dict[int, None] = {}
    history: list[tuple[int, float, float, int]] = []
    for item_id, kind, timestamp_s, _ in events:
        row = row_of.get(item_id)
        if row is None or row in disliked:
            continue
        weight = weights.get(kind, 1.0)
        if weight > 0:
            liked[row] = None
            history.append((row, now_s - timestamp_s, weight, type_code.get(kind, 0)))
        elif weight < 0 and row not in liked:
            disliked[row] = None
    rows, ages, values, kinds = zip(*history[:MAX_HISTORY], strict=True) if history else ((), (), (), ())
    exclude = dict.fromkeys(row_of[i] for i in request.exclude if i in row_of) | disliked
    seen = user.seen
    if not request.allow_repeats and request.recent_events:
        consumed = [e.item_id for e in request.recent_events if e.event_type in manifest.seen_types]
        seen = np.concatenate([seen, item_hashes(consumed)])
    query = Query(
        user_id=request.user_id,
        history=np.array(rows, np.int32),
        history_age_s=np.maximum(np.array(ages, np.float32), 0),
        history_weight=np.array(values, np.float32),
        history_type=np.array(kinds, np.int8),
        exclude=np.fromiter(exclude, np.int32, len(exclude)) if exclude else NO_ROWS,
        seen=seen,
        filters=request.filters,
        catalogue=catalogue,
        limit=request.limit,
        surface=request.surface,
        context=request.context,
        allow_repeats=request.allow_repeats,
        restrict=None if restrict is None else catalogue.rows(restrict)[0],
    )
    if bundle.encoder is None or not rows:
        return query
    encoder = bundle.encoder
    return replace(query, user_vector=LazyVector(lambda stop: encoder.encode(query, stop)))
