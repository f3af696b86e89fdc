"""What surrounds every call, outermost first: request log, errors, authentication, validation.

OpenTelemetry's interceptor stands before this one (libs/server.py), or the span of a failed call would say OK.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from libs import correlation, deadline, errors, identity, status
from libs.identity import Authenticator
from libs.metrics import Requests
from libs.telemetry import OPEN_SERVICES
from libs.validation import validate

log = structlog.get_logger()

_KINDS: Final = {
    (False, False): "unary",
    (False, True): "server_stream",
    (True, False): "client_stream",
    (True, True): "bidi_stream",
}
"""By whether the requests, and the responses, are streams."""


@dataclass(slots=True)
class Call:
    method: str
    context: grpc.aio.ServicerContext[Any, Any]
    request: Any
    """The bytes of one message until they are parsed, or the iterator of a stream."""
    parse: Callable[[bytes], Message] | None
    kind: str = "unary"
    """As gRPC's metrics name it: unary, client_stream, server_stream or bidi_stream."""
    caller: identity.Caller | None = None
    code: str = "OK"
    reason: str = ""

    @property
    def is_open(self) -> bool:
        """Health and reflection answer without credentials."""
        return self.method.startswith(OPEN_SERVICES)


Layer = Callable[[Call], AbstractAsyncContextManager[None]]


def request_log(requests: Requests | None = None) -> Layer:
    """One line for each call, which is counted too."""

    @asynccontextmanager
    async def layer(call: Call) -> AsyncIterator[None]:
        started = time.perf_counter()
        counted = requests.of(call.method, call.kind) if requests and not call.is_open else None
        if counted:
            counted.began()
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            call.code = "CANCELLED"
            raise
        finally:
            seconds = time.perf_counter() - started
            if counted:
                counted.ended(call.code, seconds)
            _log(call, seconds)

    return layer


def _log(call: Call, seconds: float) -> None:
    write = log.debug if call.is_open else log.info
    write(
        "call",
        method=call.method,
        code=call.code,
        reason=call.reason or None,
        ms=round(seconds * 1000, 2),
        tenant=call.caller.tenant if call.caller else None,
        subject=call.caller.subject if call.caller else None,
        **_about(call),
    )


def _about(call: Call) -> dict[str, str]:
    """The execution that the call is about, or on whose behalf it was made."""
    asked = getattr(call.request, "execution_id", "") if isinstance(call.request, Message) else ""
    named = asked or correlation.current()
    return {"execution_id": named} if named else {}


@asynccontextmanager
async def error_mapping(call: Call) -> AsyncIterator[None]:
    try:
        yield
    except errors.Error as error:
        await _abort(call, error)
    except grpc.aio.AbortError:
        raise
    except Exception:
        error_id = uuid.uuid4().hex
        log.exception("unexpected error", method=call.method, error_id=error_id)
        await _abort(call, errors.Internal("internal error", metadata={"error_id": error_id}))


async def _abort(call: Call, error: errors.Error) -> None:
    described = status.to_status(error)
    code = status.grpc_code(described)
    call.code, call.reason = code.name, error.reason_code
    trailing = (*(call.context.trailing_metadata() or ()), (status.DETAILS_KEY, described.SerializeToString()))
    try:
        await call.context.abort(code, described.message, trailing)
    except grpc.aio.AbortError as aborted:
        raise aborted from None  # a span records it: not with the text of what went wrong


def authentication(authenticator: Authenticator) -> Layer:
    @asynccontextmanager
    async def layer(call: Call) -> AsyncIterator[None]:
        if not call.is_open:
            metadata = dict(call.context.invocation_metadata() or ())
            call.caller = authenticator.authenticate(metadata)
            identity.enter(call.caller)
            correlation.enter(str(metadata.get(correlation.KEY, "")))
            deadline.enter(call.context.time_remaining())
        yield

    return layer


@asynccontextmanager
async def validation(call: Call) -> AsyncIterator[None]:
    if call.parse is not None:
        try:
            call.request = call.parse(call.request)
        except DecodeError:
            raise errors.invalid("request", "is not a message of this method") from None
        if not call.is_open:
            validate(call.request)
    yield


class Pipeline(grpc.aio.ServerInterceptor):
    """Runs the layers around each handler; one wrapper for all of them, since each wrapper costs a call.

    It parses and serializes too: what fails at that outside of the layers, gRPC sends as UNKNOWN with its text.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = tuple(layers)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None
        method = str(handler_call_details.method)
        parse = None if handler.request_streaming else handler.request_deserializer
        serialize = handler.response_serializer
        kind = _KINDS[handler.request_streaming, handler.response_streaming]

        async def unary(request: Any, context: Any) -> Any:
            inner = handler.stream_unary if handler.request_streaming else handler.unary_unary
            async with AsyncExitStack() as stack:
                call = await self._enter(stack, Call(method, context, request, parse, kind))
                return serialize(await inner(call.request, context))

        async def streaming(request: Any, context: Any) -> AsyncIterator[Any]:
            inner = handler.stream_stream if handler.request_streaming else handler.unary_stream
            async with AsyncExitStack() as stack:
                call = await self._enter(stack, Call(method, context, request, parse, kind))
                answers = inner(call.request, context)
                if asyncio.iscoroutine(answers):  # a handler that calls context.write itself
                    await answers
                    return
                stack.push_async_callback(answers.aclose)
                async for answer in answers:
                    yield serialize(answer)

        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        behaviour: Any = streaming if handler.response_streaming else unary
        return make(
            behaviour,
            request_deserializer=handler.request_deserializer if handler.request_streaming else None,
            response_serializer=lambda answer: answer if isinstance(answer, bytes) else serialize(answer),
        )

    async def _enter(self, stack: AsyncExitStack, call: Call) -> Call:
        for layer in self._layers:
            await stack.enter_async_context(layer(call))
        return call
