"""A provider that is called directly, and the requests that it is sent."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from litellm.utils import get_optional_params
from yarl import URL

from services.router.gateways.direct.readers import Reader
from services.router.model import ChatCall, Credentials

_REMEMBERED: Final = 64
_LONGEST_KEY: Final = 2**14


class NotDirect(Exception):
    """This call needs LiteLLM's own way."""


@dataclass(frozen=True, slots=True)
class Request:
    url: URL
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    reader: Reader


class Provider:
    """A model of a provider, and how it is called."""

    def __init__(self, model: str, name: str, config: Any, base: str) -> None:
        self.model, self.name, self.config, self.base = model, name, config, base
        self._parameters: OrderedDict[bytes, bytes] = OrderedDict()
        self._urls: dict[bool, URL] = {}

    async def request(self, credentials: Credentials, call: ChatCall) -> Request:
        raise NotImplementedError

    def parameters(self, call: ChatCall, **more: Any) -> dict[str, Any]:
        """The parameters of a call as the provider has them, for the caller to change."""
        given: dict[str, Any] = {**call.settings, **more}
        if call.stream:
            given["stream"] = True
        if call.tools:
            given["tools"] = call.tools
            if call.tool_choice:
                given["tool_choice"] = call.tool_choice
        else:
            given.pop("parallel_tool_calls", None)
        if call.response_format:
            given["response_format"] = call.response_format
        question = orjson.dumps(given)
        if question in self._parameters:
            self._parameters.move_to_end(question)
            return orjson.loads(self._parameters[question])  # type: ignore[no-any-return]
        found: dict[str, Any] = get_optional_params(
            model=self.model,
            custom_llm_provider=self.name,
            messages=[dict(message) for message in call.messages],
            **orjson.loads(question),
        )
        if len(question) < _LONGEST_KEY:
            self._parameters[question] = orjson.dumps(found)
            if len(self._parameters) > _REMEMBERED:
                self._parameters.popitem(last=False)
        return found
