import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Slot(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SLOT_UNSPECIFIED: _ClassVar[Slot]
    SLOT_BLUE: _ClassVar[Slot]
    SLOT_GREEN: _ClassVar[Slot]
SLOT_UNSPECIFIED: Slot
SLOT_BLUE: Slot
SLOT_GREEN: Slot

class ChangeOptions(_message.Message):
    __slots__ = ("by", "expected_revision", "force")
    BY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_REVISION_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    by: str
    expected_revision: int
    force: bool
    def __init__(self, by: _Optional[str] = ..., expected_revision: _Optional[int] = ..., force: _Optional[bool] = ...) -> None: ...

class StageRequest(_message.Message):
    __slots__ = ("version", "share", "options")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    version: str
    share: float
    options: ChangeOptions
    def __init__(self, version: _Optional[str] = ..., share: _Optional[float] = ..., options: _Optional[_Union[ChangeOptions, _Mapping]] = ...) -> None: ...

class StageResponse(_message.Message):
    __slots__ = ("release",)
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    release: Release
    def __init__(self, release: _Optional[_Union[Release, _Mapping]] = ...) -> None: ...

class SetShareRequest(_message.Message):
    __slots__ = ("share", "options")
    SHARE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    share: float
    options: ChangeOptions
    def __init__(self, share: _Optional[float] = ..., options: _Optional[_Union[ChangeOptions, _Mapping]] = ...) -> None: ...

class SetShareResponse(_message.Message):
    __slots__ = ("release",)
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    release: Release
    def __init__(self, release: _Optional[_Union[Release, _Mapping]] = ...) -> None: ...

class PromoteRequest(_message.Message):
    __slots__ = ("options",)
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    options: ChangeOptions
    def __init__(self, options: _Optional[_Union[ChangeOptions, _Mapping]] = ...) -> None: ...

class PromoteResponse(_message.Message):
    __slots__ = ("release",)
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    release: Release
    def __init__(self, release: _Optional[_Union[Release, _Mapping]] = ...) -> None: ...

class RollbackRequest(_message.Message):
    __slots__ = ("reason", "options")
    REASON_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    options: ChangeOptions
    def __init__(self, reason: _Optional[str] = ..., options: _Optional[_Union[ChangeOptions, _Mapping]] = ...) -> None: ...

class RollbackResponse(_message.Message):
    __slots__ = ("release",)
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    release: Release
    def __init__(self, release: _Optional[_Union[Release, _Mapping]] = ...) -> None: ...

class FreezeRequest(_message.Message):
    __slots__ = ("version", "reason", "options")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    version: str
    reason: str
    options: ChangeOptions
    def __init__(self, version: _Optional[str] = ..., reason: _Optional[str] = ..., options: _Optional[_Union[ChangeOptions, _Mapping]] = ...) -> None: ...

class FreezeResponse(_message.Message):
    __slots__ = ("release",)
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    release: Release
    def __init__(self, release: _Optional[_Union[Release, _Mapping]] = ...) -> None: ...

class UnfreezeRequest(_message.Message):
    __slots__ = ("version", "options")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    version: str
    options: ChangeOptions
    def __init__(self, version: _Optional[str] = ..., options: _Optional[_Union[ChangeOptions, _Mapping]] = ...) -> None: ...

class UnfreezeResponse(_message.Message):
    __slots__ = ("release",)
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    release: Release
    def __init__(self, release: _Optional[_Union[Release, _Mapping]] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("release", "replicas", "ready_replicas")
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    READY_REPLICAS_FIELD_NUMBER: _ClassVar[int]
    release: Release
    replicas: _containers.RepeatedCompositeFieldContainer[Replica]
    ready_replicas: int
    def __init__(self, release: _Optional[_Union[Release, _Mapping]] = ..., replicas: _Optional[_Iterable[_Union[Replica, _Mapping]]] = ..., ready_replicas: _Optional[int] = ...) -> None: ...

class Release(_message.Message):
    __slots__ = ("live", "blue_version", "green_version", "candidate_share", "shadow_share", "previous_version", "frozen", "revision", "document_id", "changed_at", "changed_by", "note")
    class FrozenEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    LIVE_FIELD_NUMBER: _ClassVar[int]
    BLUE_VERSION_FIELD_NUMBER: _ClassVar[int]
    GREEN_VERSION_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_SHARE_FIELD_NUMBER: _ClassVar[int]
    SHADOW_SHARE_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_VERSION_FIELD_NUMBER: _ClassVar[int]
    FROZEN_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_ID_FIELD_NUMBER: _ClassVar[int]
    CHANGED_AT_FIELD_NUMBER: _ClassVar[int]
    CHANGED_BY_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    live: Slot
    blue_version: str
    green_version: str
    candidate_share: float
    shadow_share: float
    previous_version: str
    frozen: _containers.ScalarMap[str, str]
    revision: int
    document_id: str
    changed_at: _timestamp_pb2.Timestamp
    changed_by: str
    note: str
    def __init__(self, live: _Optional[_Union[Slot, str]] = ..., blue_version: _Optional[str] = ..., green_version: _Optional[str] = ..., candidate_share: _Optional[float] = ..., shadow_share: _Optional[float] = ..., previous_version: _Optional[str] = ..., frozen: _Optional[_Mapping[str, str]] = ..., revision: _Optional[int] = ..., document_id: _Optional[str] = ..., changed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., changed_by: _Optional[str] = ..., note: _Optional[str] = ...) -> None: ...

class Replica(_message.Message):
    __slots__ = ("replica_id", "host", "revision", "loaded", "rejected", "workers_wanted", "workers_ready", "answers_from", "reported_at", "not_ready")
    class RejectedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    LOADED_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    WORKERS_WANTED_FIELD_NUMBER: _ClassVar[int]
    WORKERS_READY_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FROM_FIELD_NUMBER: _ClassVar[int]
    REPORTED_AT_FIELD_NUMBER: _ClassVar[int]
    NOT_READY_FIELD_NUMBER: _ClassVar[int]
    replica_id: str
    host: str
    revision: int
    loaded: _containers.RepeatedScalarFieldContainer[str]
    rejected: _containers.ScalarMap[str, str]
    workers_wanted: int
    workers_ready: int
    answers_from: str
    reported_at: _timestamp_pb2.Timestamp
    not_ready: str
    def __init__(self, replica_id: _Optional[str] = ..., host: _Optional[str] = ..., revision: _Optional[int] = ..., loaded: _Optional[_Iterable[str]] = ..., rejected: _Optional[_Mapping[str, str]] = ..., workers_wanted: _Optional[int] = ..., workers_ready: _Optional[int] = ..., answers_from: _Optional[str] = ..., reported_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., not_ready: _Optional[str] = ...) -> None: ...
