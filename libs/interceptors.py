"""What surrounds every call, outermost first: request log, errors, authentication, validation.

OpenTelemetry's interceptor stands before this one (libs/server.py), or the span of a failed call would say OK.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
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
Check = Callable[[Call], None]


class _Logged:
    """One line for the call, which is counted too."""

    __slots__ = ("_call", "_counted", "_started")

    def __init__(self, call: Call, requests: Requests | None) -> None:
        self._call = call
        self._counted = requests.of(call.method, call.kind) if requests and not call.is_open else None

    async def __aenter__(self) -> None:
        self._started = time.perf_counter()
        if self._counted:
            self._counted.began()

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            self._call.code = "CANCELLED"
        seconds = time.perf_counter() - self._started
        if self._counted:
            self._counted.ended(self._call.code, seconds)
        _log(self._call, seconds)


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


class _Mapped:
    """Ends the call with what its error means."""

    __slots__ = ("_call",)

    def __init__(self, call: Call) -> None:
        self._call = call

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, errors.Error):
            await _abort(self._call, error)
        elif isinstance(error, Exception) and not isinstance(error, grpc.aio.AbortError):
            error_id = uuid.uuid4().hex
            log.error("unexpected error", method=self._call.method, error_id=error_id, exc_info=error)
            await _abort(self._call, errors.Internal("internal error", metadata={"error_id": error_id}))


async def _abort(call: Call, error: errors.Error) -> None:
    described = status.to_status(error)
    code = status.grpc_code(described)
    call.code, call.reason = code.name, error.reason_code
    trailing = (*(call.context.trailing_metadata() or ()), (status.DETAILS_KEY, described.SerializeToString()))
    try:
        await call.context.abort(code, described.message, trailing)
    except grpc.aio.AbortError as aborted:
        raise aborted from None  # a span records it: not with the text of what went wrong


def authentication(authenticator: Authenticator) -> Check:
    def check(call: Call) -> None:
        if call.is_open:
            return
        metadata = dict(call.context.invocation_metadata() or ())
        call.caller = authenticator.authenticate(metadata)
        identity.enter(call.caller)
        correlation.enter(str(metadata.get(correlation.KEY, "")))
        deadline.enter(call.context.time_remaining())

    return check


def validation(call: Call) -> None:
    if call.parse is None:
        return
    try:
        call.request = call.parse(call.request)
    except DecodeError:
        raise errors.invalid("request", "is not a message of this method") from None
    if not call.is_open:
        validate(call.request)


class Pipeline(grpc.aio.ServerInterceptor):
    """Logs each call, maps its errors and bounds it, then makes the checks; all in one wrapper, since each wrapper
    costs a call. What surrounds a call are plain objects: a stream holds them for as long as it is open.

    It parses and serializes too: what fails at that outside of the layers, gRPC sends as UNKNOWN with its text.
    """

    def __init__(self, requests: Requests | None, bounding: Layer, checks: Sequence[Check]) -> None:
        self._requests, self._bounding, self._checks = requests, bounding, tuple(checks)

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
            call = Call(method, context, request, parse, kind)
            async with _Logged(call, self._requests), _Mapped(call), self._bounding(call):
                self._check(call)
                return serialize(await inner(call.request, context))

        async def streaming(request: Any, context: Any) -> AsyncIterator[Any]:
            inner = handler.stream_stream if handler.request_streaming else handler.unary_stream
            call = Call(method, context, request, parse, kind)
            async with _Logged(call, self._requests), _Mapped(call), self._bounding(call):
                self._check(call)
                answers = inner(call.request, context)
                if asyncio.iscoroutine(answers):  # a handler that calls context.write itself
                    await answers
                    return
                async with aclosing(answers):
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

    def _check(self, call: Call) -> None:
        for check in self._checks:
            check(call)
