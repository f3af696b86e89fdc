"""Any gRPC service: its unary methods are tools, of which it tells by reflection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message

from services.execution.gateways.described import MOST_TOOLS, Description, to_tools
from services.execution.gateways.providers.descriptors import VERSIONS, Described, described, fetched
from services.execution.gateways.providers.dialect import Listing, Metadata, Senseless
from services.execution.gateways.providers.messages import (
    VALUE,
    TooMany,
    arguments_schema,
    is_wrapped,
    result_schema,
)
from services.execution.gateways.providers.targets import Target
from services.execution.service.sources import ToolError

_LONGEST: Final = 5.0
"""Seconds of this processor that schemas of one server may take."""
_OWN: Final = ("grpc.reflection.", "grpc.health.", "grpc.channelz.")
"""Services of servers themselves: they are offered where they are named, and no * stands for them."""


class Reflected:
    def __init__(self, target: Target) -> None:
        self._target = target
        self.version = ""
        self._files: Mapping[str, bytes] = {}
        self._found: tuple[Described, Listing] | None = None

    async def tools(self, channel: grpc.aio.Channel, metadata: Metadata) -> Listing:
        files, services = await self._fetched(channel, metadata)
        if self._found is None or files != self._files:
            # Schemas of many messages take a while.
            self._found = await asyncio.to_thread(self._made, files, services)
            self._files = files
        return self._found[1]

    async def _fetched(self, channel: grpc.aio.Channel, metadata: Metadata) -> tuple[Mapping[str, bytes], Any]:
        try:
            version = VERSIONS[0]
            found = await fetched(channel, version, self._target.methods, metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise
            version = VERSIONS[1]
            found = await self._older(channel, version, metadata)
        self.version = version
        return found

    async def _older(self, channel: grpc.aio.Channel, version: str, metadata: Metadata) -> Any:
        try:
            return await fetched(channel, version, self._target.methods, metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                raise Senseless("it has no server reflection") from None
            raise

    def _made(self, files: Mapping[str, bytes], services: list[str]) -> tuple[Described, Listing]:
        found = described(files, services)
        named = [method for method in found.methods if self._offers(method)][:MOST_TOOLS]
        unary = [one for one in named if not (one.client_streaming or one.server_streaming)]
        streams = [_name(one) for one in named if one.client_streaming or one.server_streaming]
        descriptions, too_large, began = [], [], time.thread_time()
        for method in unary:
            if time.thread_time() - began > _LONGEST:
                raise Senseless("its methods are too many, or their messages too large, to make schemas of them")
            try:
                descriptions.append(self._description(method, found.comments))
            except TooMany:
                too_large.append(_name(method))
        tools, said = to_tools(self._target.source_id, descriptions)
        whole = [
            _left_out(streams, "they stream"),
            _left_out(too_large, "their messages are too many"),
            "" if named else "no method is one that `methods` names",
            said,
        ]
        return found, Listing(tools, said="; ".join(filter(None, whole)))

    def _offers(self, method: MethodDescriptor) -> bool:
        name = _name(method)
        return name in self._target.methods or (not name.startswith(_OWN) and self._target.offers(name))

    def _description(self, method: MethodDescriptor, comments: Mapping[str, str]) -> Description:
        options = method.GetOptions()
        read_only = options.idempotency_level == MethodOptions.NO_SIDE_EFFECTS
        said = comments.get(method.full_name) or f"{method.name} of {method.containing_service.full_name}."
        return Description(
            name=_name(method),
            function_name=method.name,
            title=method.name,
            description=f"Deprecated. {said}" if options.deprecated else said,
            input_schema=arguments_schema(method.input_type, comments),
            output_schema=result_schema(method.output_type, comments),
            read_only=read_only,
            idempotent=options.idempotency_level == MethodOptions.IDEMPOTENT,
            destructive=not read_only,
            timeout=self._target.timeout,
        )

    async def call(
        self,
        channel: grpc.aio.Channel,
        name: str,
        arguments: Mapping[str, Any],
        metadata: Metadata,
        timeout: float | None,
    ) -> str:
        if self._found is None:
            await self.tools(channel, metadata)
        assert self._found is not None
        found = self._found[0]
        method = next((one for one in found.methods if _name(one) == name and self._offers(one)), None)
        if method is None:
            raise ToolError("the server has no such method any more")
        request = _request(method.input_type, arguments, found.pool)
        call: Any = channel.unary_unary(f"/{name}")
        answer = await call(request.SerializeToString(), metadata=metadata, timeout=timeout)
        return _text(method.output_type, answer, found.pool)


def _name(method: MethodDescriptor) -> str:
    return f"{method.containing_service.full_name}/{method.name}"


def _left_out(names: list[str], why: str) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"left out, for {why}: {', '.join(names[:10])}{more}" if names else ""


def _request(kind: Descriptor, arguments: Mapping[str, Any], pool: DescriptorPool) -> Message:
    request = message_factory.GetMessageClass(kind)()
    given: Any = arguments.get(VALUE) if is_wrapped(kind) else dict(arguments)
    try:
        json_format.ParseDict(given, request, descriptor_pool=pool)
    except (json_format.ParseError, TypeError, ValueError, RecursionError) as error:
        raise ToolError(f"the arguments are no {kind.full_name}: {str(error)[:300]}") from None
    return request


def _text(kind: Descriptor, answer: bytes, pool: DescriptorPool) -> str:
    result = message_factory.GetMessageClass(kind)()
    try:
        result.ParseFromString(answer)
        return json_format.MessageToJson(
            result, indent=None, preserving_proto_field_name=True, descriptor_pool=pool, ensure_ascii=False
        )
    except DecodeError:
        raise ToolError(f"the server's answer is no {kind.full_name}") from None
    except (json_format.Error, TypeError, ValueError, RecursionError) as error:
        raise ToolError(f"the server's answer has no JSON: {str(error)[:300]}") from None
