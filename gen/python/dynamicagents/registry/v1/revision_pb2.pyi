import datetime

from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Revision(_message.Message):
    __slots__ = ("revision", "author", "create_time", "etag", "changed_fields", "deleted")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELDS_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    revision: int
    author: str
    create_time: _timestamp_pb2.Timestamp
    etag: str
    changed_fields: _containers.RepeatedScalarFieldContainer[str]
    deleted: bool
    def __init__(self, revision: _Optional[int] = ..., author: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ..., changed_fields: _Optional[_Iterable[str]] = ..., deleted: _Optional[bool] = ...) -> None: ...

class FieldDifference(_message.Message):
    __slots__ = ("path", "base_value", "target_value")
    PATH_FIELD_NUMBER: _ClassVar[int]
    BASE_VALUE_FIELD_NUMBER: _ClassVar[int]
    TARGET_VALUE_FIELD_NUMBER: _ClassVar[int]
    path: str
    base_value: _struct_pb2.Value
    target_value: _struct_pb2.Value
    def __init__(self, path: _Optional[str] = ..., base_value: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ..., target_value: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ...) -> None: ...

class MergeConflict(_message.Message):
    __slots__ = ("path", "base_value", "mine_value", "current_value")
    PATH_FIELD_NUMBER: _ClassVar[int]
    BASE_VALUE_FIELD_NUMBER: _ClassVar[int]
    MINE_VALUE_FIELD_NUMBER: _ClassVar[int]
    CURRENT_VALUE_FIELD_NUMBER: _ClassVar[int]
    path: str
    base_value: _struct_pb2.Value
    mine_value: _struct_pb2.Value
    current_value: _struct_pb2.Value
    def __init__(self, path: _Optional[str] = ..., base_value: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ..., mine_value: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ..., current_value: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ...) -> None: ...
