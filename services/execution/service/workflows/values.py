"""What steps hand to each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from libs import errors
from services.execution.service import schemas
from services.execution.service.workflows.expressions import plain


def as_text(value: Any) -> str:
    """What a model is told."""
    return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def parsed(text: str) -> Any:
    """The value that a text writes down."""
    try:
        return plain(orjson.loads(text))
    except (orjson.JSONDecodeError, ValueError) as error:
        raise _invalid(f"is not JSON, which its schema asks for: {error}"[:300]) from None


def fitting(value: Any, schema: Mapping[str, Any] | None, limit: int) -> Any:
    """The output of a step, as its schema wants it."""
    if schema is not None:
        if isinstance(value, str) and not _is_text(schema):
            value = parsed(value)
        for problem in schemas.problems(schema, value)[:1]:
            where = ".".join(["output", *map(str, problem.absolute_path)])
            raise _invalid(f"breaks its schema: {where}: {problem.message[:300]}")
    try:
        value = plain(value)
    except ValueError as error:
        raise _invalid(str(error)) from None
    if (size := len(orjson.dumps(value))) > limit:
        raise errors.ResourceExhausted(
            f"the output has {size} bytes, more than {limit}",
            reason="MESSAGE_TOO_LARGE",
            metadata={"limit_bytes": str(limit)},
        )
    return value


def _is_text(schema: Mapping[str, Any]) -> bool:
    kind = schema.get("type")
    return kind == "string" or (isinstance(kind, list) and "string" in kind)


def _invalid(problem: str) -> errors.FailedPrecondition:
    return errors.FailedPrecondition(f"the output {problem}", reason="OUTPUT_INVALID")
