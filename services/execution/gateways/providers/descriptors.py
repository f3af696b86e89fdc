"""What a server says of its services by reflection, in a pool of descriptors of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection_pb2

from services.execution.gateways.providers.dialect import Metadata, Senseless

VERSIONS: Final = ("grpc.reflection.v1", "grpc.reflection.v1alpha")
"""The same on the wire."""
_MOST_SERVICES: Final = 200
_MOST_FILES: Final = 1000
_MOST_BYTES: Final = 8 * 1024 * 1024
_WELL_KNOWN: Final = "google/protobuf/"
"""Ours are taken: the JSON of these types is made by classes that go with them."""


@dataclass(frozen=True, slots=True)
class Described:
    pool: descriptor_pool.DescriptorPool
    methods: Sequence[MethodDescriptor]
    comments: Mapping[str, str] = field(default_factory=dict)
    """By full name, where the server keeps them; most do not."""


async def fetched(
    channel: grpc.aio.Channel, version: str, prefixes: Sequence[str], metadata: Metadata
) -> tuple[Mapping[str, bytes], Sequence[str]]:
    """The files of the services whose names may begin a pattern, with all that they import; and these services."""
    call = channel.stream_stream(
        f"/{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )(metadata=metadata)
    try:
        return await _Asking(call).all(prefixes)
    finally:
        call.cancel()


class _Asking:
    def __init__(self, call: Any) -> None:
        self._call = call
        self._files: dict[str, bytes] = {}
        self._imports: set[str] = set()
        self._bytes = 0

    async def all(self, prefixes: Sequence[str]) -> tuple[Mapping[str, bytes], Sequence[str]]:
        answer = await self._asked(list_services="*")
        names = sorted({service.name for service in answer.list_services_response.service})
        services = [name for name in names if any(_may_begin(name, prefix) for prefix in prefixes)]
        if len(services) > _MOST_SERVICES:
            raise Senseless(f"it has {len(services)} services that `methods` names; {_MOST_SERVICES} are the most")
        for service in services:
            self._take(await self._asked(file_containing_symbol=service))
        while missing := next((name for name in sorted(self._imports) if self._lacks(name)), ""):
            self._take(await self._asked(file_by_filename=missing))
            if self._lacks(missing):
                raise Senseless(f"it does not describe {ascii(missing)[:100]}")
        return self._files, services

    async def _asked(self, **request: str) -> reflection_pb2.ServerReflectionResponse:
        await self._call.write(reflection_pb2.ServerReflectionRequest(**request))
        answer = await self._call.read()
        if answer is grpc.aio.EOF:
            await self._call  # for the error, where there is one
            raise Senseless("reflection ended before it answered")
        if answer.HasField("error_response"):
            what, why = next(iter(request.values())), answer.error_response.error_message
            raise Senseless(f"reflection of {ascii(what)[:100]} failed: {ascii(why)[:200]}")
        return answer

    def _take(self, answer: reflection_pb2.ServerReflectionResponse) -> None:
        for data in answer.file_descriptor_response.file_descriptor_proto:
            try:
                file = FileDescriptorProto.FromString(data)
            except DecodeError:
                raise Senseless("its descriptors are none") from None
            if file.name in self._files:
                continue
            self._files[file.name] = data
            self._imports.update(file.dependency)
            self._bytes += len(data)
            if max(len(self._files), len(self._imports)) > _MOST_FILES or self._bytes > _MOST_BYTES:
                raise Senseless(f"its descriptors are more than {_MOST_FILES} files, or {_MOST_BYTES} bytes")

    def _lacks(self, name: str) -> bool:
        return name not in self._files and not _is_ours(name)


def _may_begin(service: str, pattern: str) -> bool:
    named = pattern.partition("/")[0]
    return service.startswith(named[:-1]) if named.endswith("*") else service == named


def described(files: Mapping[str, bytes], services: Sequence[str]) -> Described:
    """Raises Senseless where the descriptors contradict themselves."""
    pool = descriptor_pool.DescriptorPool()
    protos = {name: FileDescriptorProto.FromString(data) for name, data in files.items() if not _is_ours(name)}
    protos |= {name: _ours(name) for name in _closure(protos)}
    try:
        for name in _in_order(protos):
            pool.Add(protos[name])
        methods = [method for name in services for method in pool.FindServiceByName(name).methods]
    except (TypeError, KeyError, ValueError, DecodeError, RecursionError) as error:
        raise Senseless(f"its descriptors make no sense: {ascii(str(error))[:200]}") from None
    comments = {name: text for proto in protos.values() for name, text in _comments(proto)}
    return Described(pool, methods, comments)


def _closure(protos: Mapping[str, FileDescriptorProto]) -> set[str]:
    """Ours that are imported, by one another too."""
    wanted, found = {one for proto in protos.values() for one in proto.dependency if _is_ours(one)}, set[str]()
    while wanted:
        name = wanted.pop()
        found.add(name)
        wanted.update(one for one in _ours(name).dependency if one not in found)
    return found


def _in_order(protos: Mapping[str, FileDescriptorProto]) -> Iterable[str]:
    """Each after what it imports."""
    done: dict[str, None] = {}
    open_: set[str] = set()
    waiting = sorted(protos, reverse=True)
    while waiting:
        name = waiting[-1]
        missing = [one for one in protos[name].dependency if one in protos and one not in done]
        if name in done or not missing:
            done[name] = None
            open_.discard(name)
            waiting.pop()
        elif name in open_ and any(one in open_ for one in missing):
            raise Senseless("its files import each other in a circle")
        else:
            open_.add(name)
            waiting += missing
    return done


def _is_ours(name: str) -> bool:
    return name.startswith(_WELL_KNOWN) and name in _OURS


def _ours(name: str) -> FileDescriptorProto:
    return FileDescriptorProto.FromString(_OURS[name])


def _comments(file: FileDescriptorProto) -> Iterable[tuple[str, str]]:
    texts = {
        tuple(location.path): location.leading_comments.strip()
        for location in file.source_code_info.location
        if location.leading_comments.strip()
    }
    if not texts:
        return
    package = f"{file.package}." if file.package else ""
    for index, service in enumerate(file.service):
        for number, method in enumerate(service.method):
            if text := texts.get((6, index, 2, number)):
                yield f"{package}{service.name}.{method.name}", text
    for index, message in enumerate(file.message_type):
        yield from _comments_of(message, f"{package}{message.name}", (4, index), texts)
    for index, enum in enumerate(file.enum_type):
        if text := texts.get((5, index)):
            yield f"{package}{enum.name}", text


def _comments_of(
    message: DescriptorProto, name: str, path: tuple[int, ...], texts: Mapping[tuple[int, ...], str]
) -> Iterable[tuple[str, str]]:
    if text := texts.get(path):
        yield name, text
    for index, member in enumerate(message.field):
        if text := texts.get((*path, 2, index)):
            yield f"{name}.{member.name}", text
    for index, nested in enumerate(message.nested_type):
        yield from _comments_of(nested, f"{name}.{nested.name}", (*path, 3, index), texts)
    for index, enum in enumerate(message.enum_type):
        if text := texts.get((*path, 4, index)):
            yield f"{name}.{enum.name}", text


_OURS: Final[Mapping[str, bytes]] = {
    module.DESCRIPTOR.name: module.DESCRIPTOR.serialized_pb
    for module in (
        any_pb2,
        descriptor_pb2,
        duration_pb2,
        empty_pb2,
        field_mask_pb2,
        struct_pb2,
        timestamp_pb2,
        wrappers_pb2,
    )
}
