from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, Final

import orjson
import structlog
from aiohttp import web
from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import TracerProvider

from libs import errors, identity
from libs.config import Settings, StartError
from services.router.model import AnsweredBy, Chunk, EmbedCall
from services.router.service import Router
from services.router.servicer.conversations import chat_call
from services.router.servicer.side_door import requests, responses

log = structlog.get_logger()
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_TENANT: Final = web.RequestKey("tenant", str)
_DONE: Final = b"data: [DONE]\n\n"


@asynccontextmanager
async def side_door(
    settings: Settings, port: int, router: Router, provider: TracerProvider | None
) -> AsyncIterator[str]:
    """Listens beside the gRPC server, on the same address and under the same rules; gives where."""
    door = SideDoor(router, identity.authenticator(settings), provider)
    app = web.Application(middlewares=[door.surround], client_max_size=settings.max_message_bytes)
    app.router.add_post("/v1/chat/completions", door.chat)
    app.router.add_post("/v1/embeddings", door.embed)
    app.router.add_get("/v1/models", door.models)
    app.router.add_get("/v1/models/{model:.+}", door.model)
    runner = web.AppRunner(
        app, handler_cancellation=True, access_log=None, shutdown_timeout=max(settings.drain_grace, 0.1)
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host.strip("[]"), port, reuse_port=settings.workers > 1)
        try:
            await site.start()
        except OSError:
            raise StartError(f"{settings.service} cannot listen on {settings.host}:{port} for HTTP") from None
        host, taken = runner.addresses[0][:2]
        address = f"http://[{host}]:{taken}" if ":" in host else f"http://{host}:{taken}"
        log.info("side door open", url=address)
        yield address
    finally:
        await runner.cleanup()


class SideDoor:
    def __init__(self, router: Router, authenticator: identity.Authenticator, provider: TracerProvider | None) -> None:
        self._router, self._authenticator = router, authenticator
        self._tracer = provider.get_tracer(__name__) if provider else trace.NoOpTracer()

    @web.middleware
    async def surround(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Trace, request log, errors, authentication: as libs/server.py has them around gRPC."""
        started, status = time.perf_counter(), 499
        came_with = propagate.extract({name.lower(): value for name, value in request.headers.items()})
        with self._tracer.start_as_current_span(
            f"{request.method} {request.path}", context=came_with, kind=trace.SpanKind.SERVER
        ) as span:
            try:
                response = await self._answered(request, handler)
                status = response.status
                return response
            finally:
                span.set_attribute("http.response.status_code", status)
                span.set_status(trace.StatusCode.ERROR if status >= 400 else trace.StatusCode.OK)
                ms = round((time.perf_counter() - started) * 1000, 2)
                log.info("call", method=request.path, status=status, ms=ms, tenant=request.get(_TENANT))

    async def _answered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            metadata = {name.lower(): value for name, value in request.headers.items()}
            caller = self._authenticator.authenticate(metadata)
            identity.enter(caller)
            request[_TENANT] = caller.tenant
            return await handler(request)
        except errors.Error as error:
            return _refusal(error)
        except web.HTTPException as error:
            return _json(responses.failure(error.reason, "invalid_request_error", None), status=error.status)
        except Exception:
            return _refusal(_unexpected())

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        asked = requests.chat_request(body)
        stream = body.get("stream") is True
        call, answer = chat_call(asked, stream=stream), responses.Completion(asked.model)
        if not stream:
            chunk = await self._router.chat(identity.current(), call)
            return _json(answer.whole(chunk), headers=_headers(chunk.answered_by))
        options = body.get("stream_options")
        with_usage = isinstance(options, dict) and options.get("include_usage") is True
        async with aclosing(self._router.chat_stream(identity.current(), call)) as chunks:
            first = await anext(chunks)  # what fails before it has a status of its own
            response = web.StreamResponse(headers={"Cache-Control": "no-cache", **_headers(first.answered_by)})
            response.content_type = "text/event-stream"
            await response.prepare(request)
            with suppress(ConnectionError):  # who has left is told nothing
                await self._stream(response, answer, first, chunks, with_usage=with_usage)
        return response

    async def _stream(
        self,
        response: web.StreamResponse,
        answer: responses.Completion,
        last: Chunk,
        chunks: AsyncIterator[Chunk],
        *,
        with_usage: bool,
    ) -> None:
        try:
            await response.write(_event(answer.piece(last)))
            async for chunk in chunks:
                await response.write(_event(answer.piece(chunk)))
                last = chunk
            if with_usage and last.usage:
                await response.write(_event(answer.usage(last.usage)))
            await response.write(_DONE)
        except errors.Error as error:
            await response.write(_event(responses.error_body(error)))
        except ConnectionError:
            raise
        except Exception:
            await response.write(_event(responses.error_body(_unexpected())))

    async def embed(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        asked = requests.embed_request(body)
        call = EmbedCall(asked.model, tuple(asked.inputs), asked.dimensions)
        embedded = await self._router.embed(identity.current(), call)
        as_base64 = body.get("encoding_format") == "base64"
        made = responses.embeddings(asked.model, embedded, as_base64=as_base64)
        return _json(made, headers=_headers(embedded.answered_by))

    async def models(self, request: web.Request) -> web.StreamResponse:
        return _json(responses.models(await self._router.list_models(identity.current())))

    async def model(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["model"]
        for group in await self._router.list_models(identity.current()):
            if group.name == name:
                return _json(responses.model(group))
        raise errors.NotFound("model_group", name, reason="MODEL_GROUP_UNKNOWN")


async def _body(request: web.Request) -> Mapping[str, Any]:
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        raise errors.invalid("body", "is no JSON") from None
    if not isinstance(body, dict):
        raise errors.invalid("body", "is no object")
    return body


def _json(body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, headers=headers, content_type="application/json")


def _event(body: Any) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


def _headers(answered_by: AnsweredBy | None) -> dict[str, str]:
    if answered_by is None:
        return {}
    told = {"x-deployment-id": answered_by.deployment.deployment_id}
    return told | ({"x-cache": "hit"} if answered_by.cached else {})


def _refusal(error: errors.Error) -> web.Response:
    headers = {} if error.retry_after is None else {"Retry-After": str(max(1, round(error.retry_after)))}
    return _json(responses.error_body(error), status=responses.status_of(error), headers=headers)


def _unexpected() -> errors.Error:
    error_id = uuid.uuid4().hex
    log.exception("unexpected error", error_id=error_id)
    return errors.Internal("internal error", metadata={"error_id": error_id})
