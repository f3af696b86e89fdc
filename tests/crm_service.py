"""A gRPC service that tells of itself by reflection, for tests: protos/crm.proto, as it is or as it should not be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
from buf.validate import validate_pb2
from google.api import field_behavior_pb2
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import Message
from grpc_reflection.v1alpha import reflection_pb2

from services.execution.gateways.providers.descriptors import VERSIONS, Described, described

SERVICE = "crm.v1.LeadService"
PROTO = Path(__file__).parent / "protos" / "crm.proto"
Files = Mapping[str, bytes]


@cache
def compiled(*, comments: bool = True, changed: tuple[tuple[str, str], ...] = ()) -> Files:
    """The files of the service with all that they import; `changed` are replacements in its source."""
    from grpc_tools import protoc

    source = PROTO.read_text()
    for old, new in changed:
        assert old in source
        source = source.replace(old, new)
    with TemporaryDirectory() as folder:
        (Path(folder) / "crm.proto").write_text(source)
        (Path(folder) / "imports").write_bytes(_imports().SerializeToString())
        info = ["--include_source_info"] if comments else []
        where = [f"-I{folder}", f"--descriptor_set_in={folder}/imports", f"-o{folder}/set"]
        assert protoc.main(["", *where, *info, "--include_imports", "crm.proto"]) == 0
        found = FileDescriptorSet.FromString((Path(folder) / "set").read_bytes())
    return {file.name: file.SerializeToString() for file in found.file}


def _imports() -> FileDescriptorSet:
    from google.protobuf import any_pb2, empty_pb2, struct_pb2, wrappers_pb2

    found: dict[str, FileDescriptorProto] = {}

    def take(file: FileDescriptor) -> None:
        for dependency in file.dependencies:
            take(dependency)
        found.setdefault(file.name, FileDescriptorProto.FromString(file.serialized_pb))

    for module in (validate_pb2, field_behavior_pb2, any_pb2, empty_pb2, struct_pb2, wrappers_pb2):
        take(module.DESCRIPTOR)
    return FileDescriptorSet(file=found.values())


def crm(**compile_: Any) -> Described:
    return described(compiled(**compile_), [SERVICE])


@dataclass
class Crm:
    """The service, and what was asked of it. What it is told to fail with it fails with, once each."""

    files: Files
    token: str = ""
    versions: Sequence[str] = VERSIONS
    services: Sequence[str] = (SERVICE,)
    mute: bool = False
    """Reflection takes what it is asked and says nothing."""
    calls: list[tuple[str, Message, Mapping[str, Any]]] = field(default_factory=list)
    failures: list[grpc.StatusCode] = field(default_factory=list)
    server: grpc.aio.Server | None = None
    port: int = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self.server.add_generic_rpc_handlers((self._reflection(), self._methods()))
        self.port = self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self.server.start()

    async def stop(self) -> None:
        if self.server is not None:
            await self.server.stop(0)

    def _reflection(self) -> Any:
        handler = grpc.stream_stream_rpc_method_handler(
            self._reflect,
            reflection_pb2.ServerReflectionRequest.FromString,
            reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        return _Handlers({f"/{version}.ServerReflection/ServerReflectionInfo": handler for version in self.versions})

    async def _reflect(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        await self._admitted(context)
        async for request in requests:
            if self.mute:
                await asyncio.Event().wait()
            response = reflection_pb2.ServerReflectionResponse()
            if request.list_services:
                for name in self.services:
                    response.list_services_response.service.add(name=name)
            else:
                name = "crm.proto" if request.file_containing_symbol else request.file_by_filename
                if name in self.files:
                    response.file_descriptor_response.file_descriptor_proto.append(self.files[name])
                else:
                    response.error_response.error_message = f"no {name}"
            yield response

    async def _admitted(self, context: Any) -> None:
        if self.token and dict(context.invocation_metadata()).get("authorization") != f"Bearer {self.token}":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, f"not {dict(context.invocation_metadata())}")

    def _methods(self) -> Any:
        try:
            found = described(self.files, [SERVICE])
        except Exception:  # its descriptors are for the other side to refuse
            return _Handlers({})
        handlers = {}
        for method in found.methods:
            request, response = map(message_factory.GetMessageClass, (method.input_type, method.output_type))
            handlers[f"/{SERVICE}/{method.name}"] = grpc.unary_unary_rpc_method_handler(
                self._answering(method.name, response, found), request.FromString, lambda answer: answer
            )
        return _Handlers(handlers)

    def _answering(self, name: str, kind: type[Message], found: Described) -> Any:
        async def answer(request: Message, context: Any) -> bytes:
            await self._admitted(context)
            self.calls.append((name, request, dict(context.invocation_metadata())))
            if self.failures:
                await context.abort(self.failures.pop(0), "as it was told")
            if name == "Fail":
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"with {self.token or 'no token'}")
            if name == "CountLeads":
                return json_format.ParseDict({"count": 2**60}, kind()).SerializeToString()
            if name == "CreateLead":
                return kind(name=request.name, status=request.status).SerializeToString()  # type: ignore[attr-defined]
            if name == "Reset":
                return b""
            return request.SerializeToString()

        return answer


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, handlers: Mapping[str, Any]) -> None:
        self._handlers = handlers

    def service(self, handler_call_details: Any) -> Any:
        return self._handlers.get(handler_call_details.method)


@asynccontextmanager
async def serving(files: Files | None = None, **how: Any) -> AsyncIterator[Crm]:
    made = Crm(compiled(comments=False) if files is None else files, **how)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
