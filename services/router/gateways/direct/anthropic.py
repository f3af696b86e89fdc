"""Anthropic's API."""

from __future__ import annotations

from typing import Any

import orjson
from litellm.anthropic_beta_headers_manager import update_request_with_filtered_beta
from litellm.llms.anthropic.chat.handler import ModelResponseIterator
from litellm.llms.anthropic.chat.transformation import ANTHROPIC_TOOL_NAME_REVERSE_MAP_KEY
from yarl import URL

from services.router.gateways.direct.provider import Provider, Request
from services.router.gateways.direct.readers import Log, TranslatedReader
from services.router.gateways.messages import copied
from services.router.gateways.parameters import NO_KEY
from services.router.model import ChatCall, Credentials


class Anthropic(Provider):
    async def request(self, credentials: Credentials, call: ChatCall) -> Request:
        parameters = self.parameters(call)
        parameters.pop("stream", None)
        json_mode = parameters.pop("json_mode", False)
        messages = copied(call.messages, self.name)
        about: dict[str, Any] = {}
        arguments: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "optional_params": {**parameters, "is_vertex_request": False},
            "litellm_params": about,
        }
        key = credentials.api_key or NO_KEY
        headers = self.config.validate_environment(headers={}, api_key=key, api_base=self.base, **arguments)
        made = await self.config.async_transform_request(headers=headers, **arguments)
        headers, body = update_request_with_filtered_beta(headers=headers, request_data=made, provider=self.name)
        if call.stream:
            body["stream"] = True
        names = about.get(ANTHROPIC_TOOL_NAME_REVERSE_MAP_KEY)
        iterator = ModelResponseIterator(iter(()), True, json_mode=json_mode, tool_name_reverse_map=names)
        arguments |= {"logging_obj": Log(), "request_data": body, "json_mode": json_mode}
        reader = TranslatedReader(self.config, iterator, arguments)
        return Request(self._url(), headers, orjson.dumps(body), reader)

    def _url(self) -> URL:
        if not self._urls:
            self._urls[True] = URL(self.base if self.base.endswith("/v1/messages") else f"{self.base}/v1/messages")
        return self._urls[True]
