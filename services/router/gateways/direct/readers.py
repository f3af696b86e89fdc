"""How the bodies of each kind of provider are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import orjson
from litellm.main import _get_encoding
from litellm.types.utils import ModelResponse

from services.router.gateways import answers
from services.router.gateways.answers import Answer
from services.router.gateways.direct import openai

DONE: Final = b"[DONE]"


class Refused(Exception):
    """An error object where an answer was due."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


@dataclass(frozen=True, slots=True)
class Body:
    """What LiteLLM expects of a response."""

    status_code: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode(errors="replace")

    def json(self) -> Any:
        return orjson.loads(self.content)


@dataclass(slots=True)
class Log:
    """What LiteLLM tells its logging, to nobody."""

    optional_params: dict[str, Any] = field(default_factory=dict)
    model_call_details: dict[str, Any] = field(default_factory=dict)

    def post_call(self, *_: Any, **__: Any) -> None: ...


class Reader(Protocol):
    def whole(self, answer: Answer, body: Body) -> None: ...

    def piece(self, answer: Answer, event: bytes) -> bool:
        """True when it says that no more comes."""


class OpenAIReader:
    def whole(self, answer: Answer, body: Body) -> None:
        found = body.json()
        _check(found)
        openai.read_whole(answer, found)

    def piece(self, answer: Answer, event: bytes) -> bool:
        if event == DONE:
            return True
        found = orjson.loads(event)
        if "error" in found:
            _check(found)
        openai.read_piece(answer, found)
        return False


class TranslatedReader:
    """LiteLLM's reading, by a provider's configuration and its iterator of chunks."""

    def __init__(self, config: Any, iterator: Any, arguments: Mapping[str, Any]) -> None:
        self._config, self._iterator, self._arguments = config, iterator, arguments

    def whole(self, answer: Answer, body: Body) -> None:
        _check(body.json())
        response = self._config.transform_response(
            raw_response=body, model_response=ModelResponse(), encoding=_get_encoding(), api_key="", **self._arguments
        )
        answers.read_whole(answer, response)

    def piece(self, answer: Answer, event: bytes) -> bool:
        if event == DONE:
            return True
        found = orjson.loads(event)
        if "error" in found:
            _check(found)
        if (part := self._iterator.chunk_parser(found)) is not None:
            answers.read_piece(answer, part, ending=self._ends(found))
        return bool(found.get("type") == "message_stop")

    def _ends(self, event: Mapping[str, Any]) -> bool:
        return True


class GeminiReader(TranslatedReader):
    def _ends(self, event: Mapping[str, Any]) -> bool:
        """LiteLLM takes every piece for the last one."""
        blocked = "promptFeedback" in event
        return blocked or any(candidate.get("finishReason") for candidate in event.get("candidates") or ())


def _check(found: Any) -> None:
    if not isinstance(found, dict):
        raise TypeError("no object")
    if not (error := found.get("error")):
        return
    given = error if isinstance(error, dict) else {"message": error}
    code = given.get("code")
    status = code if isinstance(code, int) and 400 <= code < 600 else _STATUS.get(str(given.get("type")), 500)
    raise Refused(status, orjson.dumps(found).decode())


_STATUS: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "overloaded_error": 529,
}
"""Anthropic's and OpenAI's types of errors."""
