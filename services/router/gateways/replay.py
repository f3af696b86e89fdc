"""Exchanges with providers, written down and given again: for tests and for work without a network.

A recording is one JSON file, named by the digest of what was asked: of the model's name and the request, not of the
deployment, its address or its keys, which are in neither.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson
import structlog

from libs import errors
from services.router.model import (
    ChatCall,
    Chunk,
    Credentials,
    Deployment,
    EmbedCall,
    Embedded,
    Facts,
    Failure,
    Ranked,
    RerankCall,
    Reranked,
    TokenCount,
    Usage,
    chunk_from_dict,
    chunk_to_dict,
)
from services.router.service import Upstream

log = structlog.get_logger()
Answer = TypeVar("Answer")
_FORMAT: Final = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE


class _Wrapper:
    """Passes on what asks no provider."""

    def __init__(self, upstream: Upstream, folder: Path) -> None:
        self._upstream, self._folder = upstream, folder

    async def count_tokens(self, deployment: Deployment, call: ChatCall) -> TokenCount:
        return await self._upstream.count_tokens(deployment, call)

    async def facts(self, deployment: Deployment) -> Facts:
        return await self._upstream.facts(deployment)

    async def problem(self, deployment: Deployment) -> str:
        return await self._upstream.problem(deployment)


class Recorder(_Wrapper):
    """Writes down what providers answer, and how they fail. An answer that is not heard to its end is not kept."""

    async def chat(
        self, deployment: Deployment, credentials: Credentials, call: ChatCall
    ) -> AsyncGenerator[Chunk, None]:
        request, heard = _chat(deployment, call), list[Chunk]()
        try:
            async with aclosing(self._upstream.chat(deployment, credentials, call)) as chunks:
                async for chunk in chunks:
                    heard.append(chunk)
                    yield chunk
        except Failure as failure:
            await self._keep(request, chunks=list(map(chunk_to_dict, heard)), failure=_failure_to_dict(failure))
            raise
        await self._keep(request, chunks=list(map(chunk_to_dict, heard)))

    async def embed(self, deployment: Deployment, credentials: Credentials, call: EmbedCall) -> Embedded:
        return await self._heard(_embed(deployment, call), self._upstream.embed(deployment, credentials, call))

    async def rerank(self, deployment: Deployment, credentials: Credentials, call: RerankCall) -> Reranked:
        return await self._heard(_rerank(deployment, call), self._upstream.rerank(deployment, credentials, call))

    async def _heard(self, request: Mapping[str, Any], asked: Awaitable[Answer]) -> Answer:
        try:
            answer = await asked
        except Failure as failure:
            await self._keep(request, failure=_failure_to_dict(failure))
            raise
        await self._keep(request, answer=asdict(replace(answer, answered_by=None)))  # type: ignore[type-var, call-overload]
        return answer

    async def _keep(self, request: Mapping[str, Any], **answer: Any) -> None:
        path = self._folder / f"{digest(request)}.json"
        recording = orjson.dumps({"request": request, **answer}, option=_FORMAT)
        try:
            await asyncio.to_thread(_write, path, recording)
        except OSError as error:
            log.warning("a recording cannot be written", path=str(path), kind=type(error).__name__)


class Replayer(_Wrapper):
    """Asks no provider, and has no answer but those that were recorded."""

    async def chat(
        self, deployment: Deployment, credentials: Credentials, call: ChatCall
    ) -> AsyncGenerator[Chunk, None]:
        if deployment.is_offline:
            async with aclosing(self._upstream.chat(deployment, credentials, call)) as said:
                async for chunk in said:
                    yield chunk
            return
        recording = await self._found(_chat(deployment, call))
        chunks = list(map(chunk_from_dict, recording.get("chunks", ())))
        if call.stream:
            for chunk in chunks:
                yield chunk
        _raise_if_failed(recording)
        if not call.stream:
            yield sum(chunks, Chunk())

    async def embed(self, deployment: Deployment, credentials: Credentials, call: EmbedCall) -> Embedded:
        answer = await self._answer(_embed(deployment, call))
        return Embedded(answer["vectors"], _usage(answer), answer["cost"])

    async def rerank(self, deployment: Deployment, credentials: Credentials, call: RerankCall) -> Reranked:
        answer = await self._answer(_rerank(deployment, call))
        return Reranked([Ranked(**result) for result in answer["results"]], answer["cost"])

    async def _answer(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        recording = await self._found(request)
        _raise_if_failed(recording)
        return recording["answer"]  # type: ignore[no-any-return]

    async def _found(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        name = digest(request)
        try:
            return orjson.loads(await asyncio.to_thread((self._folder / f"{name}.json").read_bytes))  # type: ignore[no-any-return]
        except FileNotFoundError:
            text = f"nothing was recorded for this request to {request['model']}: digest {name}"
        except (OSError, orjson.JSONDecodeError) as error:
            text = f"the recording {name}.json cannot be read: {type(error).__name__}"
        missing = errors.FailedPrecondition(text, metadata={"digest": name, "model": request["model"]})
        raise Failure(missing, may_pass=False)


class NoKeys:
    """In place of Secrets where no provider is asked."""

    async def resolve(self, references: Sequence[str], *, refresh: bool = False) -> Sequence[str]:
        return ["" for _ in references]


def digest(request: Mapping[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(request, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


def _chat(deployment: Deployment, call: ChatCall) -> dict[str, Any]:
    """Whether it is streamed makes no difference to what is said."""
    asked = {
        "method": "chat",
        "model": deployment.model,
        "messages": call.messages,
        "tools": call.tools,
        "tool_choice": call.tool_choice,
        "response_format": call.response_format,
        "settings": call.settings,
        "top_logprobs": call.options.top_logprobs,
    }
    return _plain({name: value for name, value in asked.items() if value not in ((), [], "", None)})


def _embed(deployment: Deployment, call: EmbedCall) -> dict[str, Any]:
    return _plain({"method": "embed", "model": deployment.model, "inputs": call.inputs, "dimensions": call.dimensions})


def _rerank(deployment: Deployment, call: RerankCall) -> dict[str, Any]:
    asked = {"query": call.query, "documents": call.documents, "top_n": call.top_n}
    return _plain({"method": "rerank", "model": deployment.model, **asked})


def _plain(asked: Mapping[str, Any]) -> dict[str, Any]:
    return orjson.loads(orjson.dumps(asked, default=_json))  # type: ignore[no-any-return]


def _json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, bytes):
        return {"sha256": hashlib.sha256(value).hexdigest()}
    return list(value)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}-{id(content)}")
    unfinished.write_bytes(content)
    unfinished.replace(path)


def _failure_to_dict(failure: Failure) -> dict[str, Any]:
    error = errors.to_dict(failure.error)
    error["metadata"] = {key: value for key, value in error["metadata"].items() if key != "deployment_id"}
    return {"error": error, "may_pass": failure.may_pass, "status": failure.status}


def _raise_if_failed(recording: Mapping[str, Any]) -> None:
    if kept := recording.get("failure"):
        raise Failure(errors.from_dict(kept["error"]), may_pass=kept["may_pass"], status=kept["status"])


def _usage(answer: Mapping[str, Any]) -> Usage | None:
    return Usage(**answer["usage"]) if answer["usage"] else None
