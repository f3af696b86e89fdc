"""Gemini's API."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from litellm.litellm_core_utils.prompt_templates.image_handling import async_inline_remote_media
from litellm.llms.vertex_ai.gemini.transformation import should_inline_remote_media, transform_request_body
from litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini import ModelResponseIterator, VertexLLM
from yarl import URL

from services.router.gateways.direct.provider import Provider, Request
from services.router.gateways.direct.readers import GeminiReader, Log
from services.router.gateways.messages import copied, has_media
from services.router.gateways.parameters import NO_KEY
from services.router.model import ChatCall, Credentials


class Gemini(Provider):
    async def request(self, credentials: Credentials, call: ChatCall) -> Request:
        parameters = self.parameters(call)
        parameters.pop("stream", None)
        log = Log(dict(parameters))
        messages: Any = copied(call.messages, self.name)
        media = has_media(messages)
        if media:
            messages = await async_inline_remote_media(messages, should_inline=should_inline_remote_media(self.name))
        arguments: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "optional_params": parameters,
            "litellm_params": {},
        }
        making = {**arguments, "custom_llm_provider": self.name, "cached_content": None}
        # Google's storage may be asked for the type of a file.
        body = await asyncio.to_thread(transform_request_body, **making) if media else transform_request_body(**making)
        headers = {"Content-Type": "application/json", "x-goog-api-key": credentials.api_key or NO_KEY}
        arguments |= {"optional_params": log.optional_params, "logging_obj": log, "request_data": body}
        iterator = ModelResponseIterator(streaming_response=iter(()), sync_stream=True, logging_obj=log)
        reader = GeminiReader(self.config, iterator, arguments)
        return Request(self._url(call.stream), headers, orjson.dumps(body), reader)

    def _url(self, stream: bool) -> URL:
        if stream not in self._urls:
            _, url = VertexLLM()._get_token_and_url(
                model=self.model,
                gemini_api_key="none",
                auth_header=None,
                vertex_project=None,
                vertex_location=None,
                vertex_credentials=None,
                stream=stream,
                custom_llm_provider=self.name,
                api_base=self.base or None,
            )
            self._urls[stream] = URL(url)
        return self._urls[stream]
