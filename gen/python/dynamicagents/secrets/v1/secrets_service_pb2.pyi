from buf.validate import validate_pb2 as _validate_pb2
from dynamicagents.secrets.v1 import secret_pb2 as _secret_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ResolutionFailure(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESOLUTION_FAILURE_UNSPECIFIED: _ClassVar[ResolutionFailure]
    RESOLUTION_FAILURE_MALFORMED: _ClassVar[ResolutionFailure]
    RESOLUTION_FAILURE_NOT_FOUND: _ClassVar[ResolutionFailure]
    RESOLUTION_FAILURE_DENIED: _ClassVar[ResolutionFailure]
    RESOLUTION_FAILURE_UNAVAILABLE: _ClassVar[ResolutionFailure]
RESOLUTION_FAILURE_UNSPECIFIED: ResolutionFailure
RESOLUTION_FAILURE_MALFORMED: ResolutionFailure
RESOLUTION_FAILURE_NOT_FOUND: ResolutionFailure
RESOLUTION_FAILURE_DENIED: ResolutionFailure
RESOLUTION_FAILURE_UNAVAILABLE: ResolutionFailure

class CreateSecretRequest(_message.Message):
    __slots__ = ("secret", "values", "request_id")
    class ValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SECRET_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    secret: _secret_pb2.Secret
    values: _containers.ScalarMap[str, str]
    request_id: str
    def __init__(self, secret: _Optional[_Union[_secret_pb2.Secret, _Mapping]] = ..., values: _Optional[_Mapping[str, str]] = ..., request_id: _Optional[str] = ...) -> None: ...

class CreateSecretResponse(_message.Message):
    __slots__ = ("secret",)
    SECRET_FIELD_NUMBER: _ClassVar[int]
    secret: _secret_pb2.Secret
    def __init__(self, secret: _Optional[_Union[_secret_pb2.Secret, _Mapping]] = ...) -> None: ...

class ListSecretsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "provider")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    provider: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., provider: _Optional[str] = ...) -> None: ...

class ListSecretsResponse(_message.Message):
    __slots__ = ("secrets", "next_page_token")
    SECRETS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    secrets: _containers.RepeatedCompositeFieldContainer[_secret_pb2.Secret]
    next_page_token: str
    def __init__(self, secrets: _Optional[_Iterable[_Union[_secret_pb2.Secret, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetSecretValuesRequest(_message.Message):
    __slots__ = ("secret_id",)
    SECRET_ID_FIELD_NUMBER: _ClassVar[int]
    secret_id: str
    def __init__(self, secret_id: _Optional[str] = ...) -> None: ...

class GetSecretValuesResponse(_message.Message):
    __slots__ = ("values", "version")
    class ValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    VALUES_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    values: _containers.ScalarMap[str, str]
    version: int
    def __init__(self, values: _Optional[_Mapping[str, str]] = ..., version: _Optional[int] = ...) -> None: ...

class ResolveReferencesRequest(_message.Message):
    __slots__ = ("references",)
    REFERENCES_FIELD_NUMBER: _ClassVar[int]
    references: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, references: _Optional[_Iterable[str]] = ...) -> None: ...

class ResolveReferencesResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[ResolvedReference]
    def __init__(self, results: _Optional[_Iterable[_Union[ResolvedReference, _Mapping]]] = ...) -> None: ...

class ResolvedReference(_message.Message):
    __slots__ = ("reference", "value", "failure")
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    reference: str
    value: str
    failure: ResolutionFailure
    def __init__(self, reference: _Optional[str] = ..., value: _Optional[str] = ..., failure: _Optional[_Union[ResolutionFailure, str]] = ...) -> None: ...
