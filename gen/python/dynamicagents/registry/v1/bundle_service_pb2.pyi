from buf.validate import validate_pb2 as _validate_pb2
from dynamicagents.registry.v1 import revision_pb2 as _revision_pb2
from dynamicagents.registry.v1 import snapshot_pb2 as _snapshot_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BundleAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BUNDLE_ACTION_UNSPECIFIED: _ClassVar[BundleAction]
    BUNDLE_ACTION_CREATED: _ClassVar[BundleAction]
    BUNDLE_ACTION_UPDATED: _ClassVar[BundleAction]
    BUNDLE_ACTION_UNCHANGED: _ClassVar[BundleAction]
    BUNDLE_ACTION_DELETED: _ClassVar[BundleAction]
BUNDLE_ACTION_UNSPECIFIED: BundleAction
BUNDLE_ACTION_CREATED: BundleAction
BUNDLE_ACTION_UPDATED: BundleAction
BUNDLE_ACTION_UNCHANGED: BundleAction
BUNDLE_ACTION_DELETED: BundleAction

class ApplyBundleRequest(_message.Message):
    __slots__ = ("resources", "dry_run", "prune_labels")
    class PruneLabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    PRUNE_LABELS_FIELD_NUMBER: _ClassVar[int]
    resources: _containers.RepeatedCompositeFieldContainer[_snapshot_pb2.ResourceSnapshot]
    dry_run: bool
    prune_labels: _containers.ScalarMap[str, str]
    def __init__(self, resources: _Optional[_Iterable[_Union[_snapshot_pb2.ResourceSnapshot, _Mapping]]] = ..., dry_run: _Optional[bool] = ..., prune_labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class BundleChange(_message.Message):
    __slots__ = ("kind", "resource_id", "action", "revision", "differences", "differences_omitted")
    KIND_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_OMITTED_FIELD_NUMBER: _ClassVar[int]
    kind: _snapshot_pb2.ResourceKind
    resource_id: str
    action: BundleAction
    revision: int
    differences: _containers.RepeatedCompositeFieldContainer[_revision_pb2.FieldDifference]
    differences_omitted: bool
    def __init__(self, kind: _Optional[_Union[_snapshot_pb2.ResourceKind, str]] = ..., resource_id: _Optional[str] = ..., action: _Optional[_Union[BundleAction, str]] = ..., revision: _Optional[int] = ..., differences: _Optional[_Iterable[_Union[_revision_pb2.FieldDifference, _Mapping]]] = ..., differences_omitted: _Optional[bool] = ...) -> None: ...

class ApplyBundleResponse(_message.Message):
    __slots__ = ("changes",)
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[BundleChange]
    def __init__(self, changes: _Optional[_Iterable[_Union[BundleChange, _Mapping]]] = ...) -> None: ...

class ExportBundleRequest(_message.Message):
    __slots__ = ("kinds", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    KINDS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    kinds: _containers.RepeatedScalarFieldContainer[_snapshot_pb2.ResourceKind]
    labels: _containers.ScalarMap[str, str]
    def __init__(self, kinds: _Optional[_Iterable[_Union[_snapshot_pb2.ResourceKind, str]]] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ExportBundleResponse(_message.Message):
    __slots__ = ("resources",)
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    resources: _containers.RepeatedCompositeFieldContainer[_snapshot_pb2.ResourceSnapshot]
    def __init__(self, resources: _Optional[_Iterable[_Union[_snapshot_pb2.ResourceSnapshot, _Mapping]]] = ...) -> None: ...
