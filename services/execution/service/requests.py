"""What is wrong with a request to run an agent, beyond what its contract can say."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Final

import orjson

from libs.errors import InvalidArgument, Violation
from services.execution.model.executions import ExecuteRequest
from services.execution.model.targets import Spec, TargetKind
from services.execution.service import history, schemas
from services.execution.service.sessions import check_state

MOST_MEDIA: Final = 4 * 1024 * 1024
"""Bytes that come inline."""
_SCHEMES: Final = ("https://", "http://", "data:")


def check(request: ExecuteRequest, spec: Spec) -> None:
    check_state(request.session_state, "session_state")
    if violations := [*_of_workflow(request), *_of_history(request), *_of_media(request), *_of_schemas(request, spec)]:
        raise InvalidArgument(violations)


def _of_workflow(request: ExecuteRequest) -> Iterator[Violation]:
    if request.target_kind is TargetKind.WORKFLOW:
        for name in ("media", "history"):
            if getattr(request, name):
                yield Violation(name, "is not for workflows: their steps get what their expressions say")


def _of_history(request: ExecuteRequest) -> Iterator[Violation]:
    if request.history and request.session_id:
        yield Violation("history", "goes not together with session_id: a session keeps its own")
    yield from history.problems(request.history)


def _of_media(request: ExecuteRequest) -> Iterator[Violation]:
    inline = 0
    for index, part in enumerate(request.media):
        if "data" in part:
            inline += len(base64.b64decode(part["data"]))
            if not part["mime_type"]:
                yield Violation(f"media[{index}].mime_type", "is required with data")
        elif not part["url"].startswith(_SCHEMES):
            yield Violation(f"media[{index}].url", "is not an http, https or data URL")
        elif part["url"].startswith("data:"):
            inline += len(part["url"])
    if inline > MOST_MEDIA:
        yield Violation("media", f"has more than {MOST_MEDIA} bytes inline")


def _of_schemas(request: ExecuteRequest, spec: Spec) -> Iterator[Violation]:
    if request.output_schema is not None and (problem := schemas.problem_of(request.output_schema)):
        yield Violation("output_schema", problem)
    if (schema := spec.get("input_schema")) is None:
        return
    try:
        value = orjson.loads(request.input)
    except orjson.JSONDecodeError:
        yield Violation("input", "is not JSON, which the agent's input_schema asks for")
        return
    for error in schemas.problems(schema, value):
        yield Violation(".".join(["input", *map(str, error.absolute_path)]), error.message[:300])
