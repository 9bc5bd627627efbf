import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Tier(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TIER_UNSPECIFIED: _ClassVar[Tier]
    TIER_POPULARITY: _ClassVar[Tier]
    TIER_CF: _ClassVar[Tier]
    TIER_PRECOMPUTED: _ClassVar[Tier]
    TIER_DEEP: _ClassVar[Tier]

class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASON_UNSPECIFIED: _ClassVar[Reason]
    REASON_NOT_CONFIGURED: _ClassVar[Reason]
    REASON_NOT_ASKED: _ClassVar[Reason]
    REASON_NO_HISTORY: _ClassVar[Reason]
    REASON_UNKNOWN_ITEM: _ClassVar[Reason]
    REASON_NO_CANDIDATES: _ClassVar[Reason]
    REASON_STORE_LATE: _ClassVar[Reason]
    REASON_STORE_FAILED: _ClassVar[Reason]
    REASON_NO_TIME: _ClassVar[Reason]
    REASON_LATE: _ClassVar[Reason]
    REASON_FAILED: _ClassVar[Reason]
    REASON_INVALID_SCORES: _ClassVar[Reason]
    REASON_OVERLOADED: _ClassVar[Reason]
    REASON_BREAKER_OPEN: _ClassVar[Reason]
    REASON_EXERCISED: _ClassVar[Reason]
    REASON_FORCED: _ClassVar[Reason]
    REASON_DISABLED: _ClassVar[Reason]
    REASON_NO_LIST: _ClassVar[Reason]
    REASON_UNREADABLE_LIST: _ClassVar[Reason]
    REASON_NOT_NEEDED: _ClassVar[Reason]
TIER_UNSPECIFIED: Tier
TIER_POPULARITY: Tier
TIER_CF: Tier
TIER_PRECOMPUTED: Tier
TIER_DEEP: Tier
REASON_UNSPECIFIED: Reason
REASON_NOT_CONFIGURED: Reason
REASON_NOT_ASKED: Reason
REASON_NO_HISTORY: Reason
REASON_UNKNOWN_ITEM: Reason
REASON_NO_CANDIDATES: Reason
REASON_STORE_LATE: Reason
REASON_STORE_FAILED: Reason
REASON_NO_TIME: Reason
REASON_LATE: Reason
REASON_FAILED: Reason
REASON_INVALID_SCORES: Reason
REASON_OVERLOADED: Reason
REASON_BREAKER_OPEN: Reason
REASON_EXERCISED: Reason
REASON_FORCED: Reason
REASON_DISABLED: Reason
REASON_NO_LIST: Reason
REASON_UNREADABLE_LIST: Reason
REASON_NOT_NEEDED: Reason

class RecommendRequest(_message.Message):
    __slots__ = ("user_id", "surface", "limit", "filters", "exclude_item_ids", "recent_events", "context")
    class ContextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    RECENT_EVENTS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    surface: str
    limit: int
    filters: Filters
    exclude_item_ids: _containers.RepeatedScalarFieldContainer[str]
    recent_events: _containers.RepeatedCompositeFieldContainer[Event]
    context: _containers.ScalarMap[str, str]
    def __init__(self, user_id: _Optional[str] = ..., surface: _Optional[str] = ..., limit: _Optional[int] = ..., filters: _Optional[_Union[Filters, _Mapping]] = ..., exclude_item_ids: _Optional[_Iterable[str]] = ..., recent_events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ..., context: _Optional[_Mapping[str, str]] = ...) -> None: ...

class RecommendResponse(_message.Message):
    __slots__ = ("items", "info")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[RecommendedItem]
    info: AnswerInfo
    def __init__(self, items: _Optional[_Iterable[_Union[RecommendedItem, _Mapping]]] = ..., info: _Optional[_Union[AnswerInfo, _Mapping]] = ...) -> None: ...

class SimilarItemsRequest(_message.Message):
    __slots__ = ("item_id", "surface", "limit", "filters", "exclude_item_ids")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    surface: str
    limit: int
    filters: Filters
    exclude_item_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, item_id: _Optional[str] = ..., surface: _Optional[str] = ..., limit: _Optional[int] = ..., filters: _Optional[_Union[Filters, _Mapping]] = ..., exclude_item_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class SimilarItemsResponse(_message.Message):
    __slots__ = ("items", "info")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[RecommendedItem]
    info: AnswerInfo
    def __init__(self, items: _Optional[_Iterable[_Union[RecommendedItem, _Mapping]]] = ..., info: _Optional[_Union[AnswerInfo, _Mapping]] = ...) -> None: ...

class RankItemsRequest(_message.Message):
    __slots__ = ("user_id", "surface", "item_ids", "recent_events", "context")
    class ContextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    RECENT_EVENTS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    surface: str
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    recent_events: _containers.RepeatedCompositeFieldContainer[Event]
    context: _containers.ScalarMap[str, str]
    def __init__(self, user_id: _Optional[str] = ..., surface: _Optional[str] = ..., item_ids: _Optional[_Iterable[str]] = ..., recent_events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ..., context: _Optional[_Mapping[str, str]] = ...) -> None: ...

class RankItemsResponse(_message.Message):
    __slots__ = ("items", "unknown_items", "info")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_ITEMS_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[RecommendedItem]
    unknown_items: int
    info: AnswerInfo
    def __init__(self, items: _Optional[_Iterable[_Union[RecommendedItem, _Mapping]]] = ..., unknown_items: _Optional[int] = ..., info: _Optional[_Union[AnswerInfo, _Mapping]] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("item_id", "event_type", "time", "value")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    event_type: str
    time: _timestamp_pb2.Timestamp
    value: float
    def __init__(self, item_id: _Optional[str] = ..., event_type: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., value: _Optional[float] = ...) -> None: ...

class Filters(_message.Message):
    __slots__ = ("categories", "exclude_categories", "min_price", "max_price", "include_unavailable", "attributes")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: AttributeValues
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[AttributeValues, _Mapping]] = ...) -> None: ...
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    MIN_PRICE_FIELD_NUMBER: _ClassVar[int]
    MAX_PRICE_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_UNAVAILABLE_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    categories: _containers.RepeatedScalarFieldContainer[str]
    exclude_categories: _containers.RepeatedScalarFieldContainer[str]
    min_price: float
    max_price: float
    include_unavailable: bool
    attributes: _containers.MessageMap[str, AttributeValues]
    def __init__(self, categories: _Optional[_Iterable[str]] = ..., exclude_categories: _Optional[_Iterable[str]] = ..., min_price: _Optional[float] = ..., max_price: _Optional[float] = ..., include_unavailable: _Optional[bool] = ..., attributes: _Optional[_Mapping[str, AttributeValues]] = ...) -> None: ...

class AttributeValues(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...

class RecommendedItem(_message.Message):
    __slots__ = ("item_id", "score", "sources", "explained_by")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    EXPLAINED_BY_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    score: float
    sources: _containers.RepeatedScalarFieldContainer[str]
    explained_by: str
    def __init__(self, item_id: _Optional[str] = ..., score: _Optional[float] = ..., sources: _Optional[_Iterable[str]] = ..., explained_by: _Optional[str] = ...) -> None: ...

class AnswerInfo(_message.Message):
    __slots__ = ("recommendation_id", "tier", "skipped", "bundle_version", "scored_rows", "pool_rows", "stages", "dropped_sources")
    RECOMMENDATION_ID_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    SCORED_ROWS_FIELD_NUMBER: _ClassVar[int]
    POOL_ROWS_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    DROPPED_SOURCES_FIELD_NUMBER: _ClassVar[int]
    recommendation_id: str
    tier: Tier
    skipped: _containers.RepeatedCompositeFieldContainer[SkippedTier]
    bundle_version: str
    scored_rows: int
    pool_rows: int
    stages: _containers.RepeatedCompositeFieldContainer[StageTime]
    dropped_sources: _containers.RepeatedCompositeFieldContainer[DroppedSource]
    def __init__(self, recommendation_id: _Optional[str] = ..., tier: _Optional[_Union[Tier, str]] = ..., skipped: _Optional[_Iterable[_Union[SkippedTier, _Mapping]]] = ..., bundle_version: _Optional[str] = ..., scored_rows: _Optional[int] = ..., pool_rows: _Optional[int] = ..., stages: _Optional[_Iterable[_Union[StageTime, _Mapping]]] = ..., dropped_sources: _Optional[_Iterable[_Union[DroppedSource, _Mapping]]] = ...) -> None: ...

class SkippedTier(_message.Message):
    __slots__ = ("tier", "reason")
    TIER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    tier: Tier
    reason: Reason
    def __init__(self, tier: _Optional[_Union[Tier, str]] = ..., reason: _Optional[_Union[Reason, str]] = ...) -> None: ...

class DroppedSource(_message.Message):
    __slots__ = ("source", "reason")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    source: str
    reason: Reason
    def __init__(self, source: _Optional[str] = ..., reason: _Optional[_Union[Reason, str]] = ...) -> None: ...

class StageTime(_message.Message):
    __slots__ = ("stage", "duration_ms")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    stage: str
    duration_ms: float
    def __init__(self, stage: _Optional[str] = ..., duration_ms: _Optional[float] = ...) -> None: ...
